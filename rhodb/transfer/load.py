"""Reading an export again: into an empty database, which is then merged like any other."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Table
from sqlalchemy.exc import DBAPIError

from rhodb.errors import InputError
from rhodb.place import Kind, absolute, for_reading, look
from rhodb.revision import HEAD
from rhodb.rows import bulk_insert
from rhodb.schema import Base
from rhodb.transfer.export import BATCH, FORMATS, MANIFEST, arrow_schema, table_columns
from rhodb.transfer.merge import MergeReport, Policy, merge
from rhodb.warehouse import Warehouse


def load_export(wh: Warehouse, folder: Path, *, on_conflict: Policy = "report") -> MergeReport:
    """Bring an export of `export_all` into a warehouse. Raises InputError for a folder that is none, or damaged."""
    manifest = read_manifest(folder)
    with tempfile.TemporaryDirectory() as place:
        with Warehouse.open(Path(place) / "export.db") as copy:
            try:
                _fill(copy, folder, manifest)
            except (DBAPIError, RecursionError, OverflowError, TypeError, AttributeError, LookupError) as error:
                raise InputError(f"{folder} cannot be imported: {_first_line(error)}") from error
            _check_baselines(copy, folder)
        with Warehouse.open(Path(place) / "export.db", create=False, read_only=True) as copy:
            return merge(wh, copy, on_conflict=on_conflict)


def _first_line(error: BaseException) -> str:
    said = error.orig if isinstance(error, DBAPIError) else error
    return (str(said).splitlines() or [type(error).__name__])[0]


def _check_baselines(copy: Warehouse, folder: Path) -> None:
    own = copy.rows("SELECT uuid FROM runs WHERE baseline_run_id = id ORDER BY id LIMIT 1")
    if own:
        raise InputError(f"{folder} cannot be imported: run {own[0]['uuid']} is its own baseline")


def read_manifest(folder: Path) -> dict[str, Any]:
    """What the folder says that it holds."""
    folder = absolute(folder)
    if look(folder / MANIFEST).kind is Kind.FREE:
        raise InputError(f"{folder} is no export of rhodb: it holds no {MANIFEST}")
    path = for_reading(folder / MANIFEST)
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{folder} is no export of rhodb: {MANIFEST} cannot be read") from error
    if not isinstance(manifest, dict) or manifest.get("format") not in FORMATS:
        raise InputError(f"{path} does not say in which format the export is")
    if not isinstance(manifest.get("rows", {}), dict):
        raise InputError(f"{path} does not say how many rows each table has")
    if manifest.get("schema") != HEAD:
        raise InputError(
            f"{folder} was exported with schema {manifest.get('schema')}, this rhodb has {HEAD}: "
            "import it with the rhodb that made it, then `rhodb db upgrade`"
        )
    return manifest


def _fill(copy: Warehouse, folder: Path, manifest: dict[str, Any]) -> None:
    rows = manifest.get("rows", {})
    with copy.write() as connection:
        connection.exec_driver_sql("PRAGMA defer_foreign_keys = ON")  # a run may stand before its baseline
        for table in Base.metadata.sorted_tables:
            path = folder / f"{table.name}.{manifest['format']}"
            try:
                n = _fill_table(connection, table, for_reading(path), manifest["format"])
            except InputError:
                raise
            except (OSError, ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError,
                    NotImplementedError, DBAPIError) as error:  # fmt: skip
                raise InputError(f"{path} cannot be imported: {_first_line(error)}") from error
            if n != rows.get(table.name):
                raise InputError(f"{path} holds {n} rows, the export had {rows.get(table.name)}: it is not complete")


def _fill_table(connection: Connection, table: Table, path: Path, format_: str) -> int:
    columns, n = table_columns(table), 0
    for part in _read(path, columns, format_):
        bulk_insert(connection, table.name, list(columns), part)
        n += len(part)
    return n


def _read(path: Path, columns: dict[str, str], format_: str) -> Iterator[list[tuple[Any, ...]]]:
    if format_ == "jsonl":
        yield from _read_jsonl(path, columns)
        return
    import pyarrow as pa

    if format_ == "parquet":
        import pyarrow.parquet as pq

        for batch in pq.ParquetFile(path).iter_batches(BATCH, columns=list(columns)):
            yield _rows(batch)
        return
    import pyarrow.csv

    hexed = {name: "text" if kind == "bytes" else kind for name, kind in columns.items()}
    options = pa.csv.ConvertOptions(
        column_types=arrow_schema(hexed),
        include_columns=list(columns),
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    parse = pa.csv.ParseOptions(newlines_in_values=True)
    raw = [i for i, kind in enumerate(columns.values()) if kind == "bytes"]
    for batch in pa.csv.open_csv(path, convert_options=options, parse_options=parse):
        yield [_unhex(row, raw) for row in _rows(batch)]


def _rows(batch: Any) -> list[tuple[Any, ...]]:
    return list(zip(*(column.to_pylist() for column in batch.columns), strict=True))


def _read_jsonl(path: Path, columns: dict[str, str]) -> Iterator[list[tuple[Any, ...]]]:
    raw = [i for i, kind in enumerate(columns.values()) if kind == "bytes"]
    part: list[tuple[Any, ...]] = []
    with path.open(encoding="utf-8", newline="\n") as file:
        for line in file:
            entry = json.loads(line)
            part.append(_unhex(tuple(entry[name] for name in columns), raw))
            if len(part) >= BATCH:
                yield part
                part = []
    yield part


def _unhex(row: tuple[Any, ...], places: list[int]) -> tuple[Any, ...]:
    if not places:
        return row
    return tuple(bytes.fromhex(value) if i in places and value is not None else value for i, value in enumerate(row))
