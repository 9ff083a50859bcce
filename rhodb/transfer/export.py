"""Tables, views and query results into files: CSV, JSON Lines, Parquet; a whole warehouse into a folder."""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from sqlalchemy import Connection, Table, select
from sqlalchemy.sql import Select

from rhodb.errors import DatabaseBusyError, DatabaseError, InputError, UnknownNameError
from rhodb.place import for_new, rename_new, sync
from rhodb.revision import HEAD
from rhodb.schema import Base
from rhodb.warehouse import Warehouse

if TYPE_CHECKING:
    import pyarrow as pa

FORMATS = ("csv", "jsonl", "parquet")
MANIFEST = "rhodb-export.json"
BATCH = 50_000
Columns = Mapping[str, str]
"""Name -> int, float, text or bytes."""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was written."""

    path: Path
    rows: dict[str, int]
    """Table -> rows."""


def export_all(wh: Warehouse, folder: Path, *, format: str = "jsonl") -> Exported:  # noqa: A002
    """Every table into a file of a new folder, all from one moment. `load_export` reads it again."""
    check_format(format)
    folder = for_new(folder, "a folder that does not")
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    with _files(temporary, folder), wh.read() as connection:
        temporary.mkdir(parents=True)
        rows = {}
        for table in Base.metadata.sorted_tables:
            path = temporary / f"{table.name}.{format}"
            key = list(table.primary_key.columns)
            rows[table.name] = _write(connection, select(table).order_by(*key), table_columns(table), path, format)
        manifest = {"rhodb-export": 1, "schema": HEAD, "format": format, "rows": rows}
        (temporary / MANIFEST).write_text(json.dumps(manifest, indent=2), encoding="utf-8")
    return Exported(path=folder, rows=rows)


def export_query(
    wh: Warehouse,
    path: Path,
    *,
    table: str | None = None,
    sql: str | None = None,
    params: Mapping[str, Any] | None = None,
    format: str | None = None,  # noqa: A002
) -> Exported:
    """A table, a view or the rows of a SELECT into one new file, whose ending says the format."""
    format = format or path.suffix.removeprefix(".").replace("ndjson", "jsonl")  # noqa: A001
    check_format(format)
    if (table is None) == (sql is None):
        raise InputError("name either a table (or view) or a query to export")
    name = table or "query"
    path = for_new(path, "a file that does not")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    if table is not None and table in Base.metadata.tables:
        source = Base.metadata.tables[table]
        columns: Columns = table_columns(source)
        with _files(temporary, path), wh.read() as connection:
            n = _write(connection, select(source).order_by(*source.primary_key.columns), columns, temporary, format)
        return Exported(path=path, rows={name: n})
    if table is not None:
        from rhodb.describe import VIEWS

        if table not in VIEWS:
            raise UnknownNameError("table", table, (*Base.metadata.tables, *VIEWS))
    from rhodb.adhoc import ask, read

    if sql is None:
        answer = read(wh.location, f"SELECT * FROM {table}")
    else:
        answer = ask(wh.location, sql, params, limit=None, timeout_s=3600.0, memory_mib=4096)
    guessed = {name: _kind(row[i] for row in answer.rows) for i, name in enumerate(answer.columns)}
    with _files(temporary, path):
        n = _write_rows([answer.rows], guessed, temporary, format)
    return Exported(path=path, rows={name: n})


def check_format(word: str) -> None:
    if word not in FORMATS:
        raise UnknownNameError("export format", word, FORMATS)


def table_columns(table: Table) -> dict[str, str]:
    """Columns of a table with their kinds."""
    names = {"INTEGER": "int", "BIGINT": "int", "REAL": "float", "DOUBLE": "float", "TEXT": "text", "BLOB": "bytes"}
    return {column.name: names[str(column.type).split("(")[0].split(" ")[0]] for column in table.columns}


def _kind(values: Iterator[Any]) -> str:
    """The narrowest kind that holds all values of a query's column; numbers and texts mixed are text."""
    kinds = {type(value) for value in values if value is not None}
    for kind, word in ((int, "int"), (bytes, "bytes"), (str, "text")):
        if kinds <= {kind}:
            return word if kinds else "text"
    return "float" if kinds <= {int, float} else "text"


@contextmanager
def _files(temporary: Path, final: Path) -> Iterator[None]:
    """Written beside and renamed: the file is there whole or not at all."""
    import shutil

    try:
        final.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DatabaseError(f"{final} cannot be written: {error.strerror}") from error
    try:
        yield
        if temporary.is_dir():
            temporary.rename(final)
            sync(final.parent)
        else:
            rename_new(temporary, final)
    except FileExistsError as error:
        raise InputError(f"{final} came to stand there meanwhile: name another") from error
    except OSError as error:
        full = error.errno in (28, 122)
        kind = DatabaseBusyError if full else DatabaseError
        reason = "the disk is full" if full else error.strerror
        raise kind(f"{final} cannot be written: {reason}") from error
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        elif temporary.exists():
            temporary.unlink()


def _write(connection: Connection, query: Select[Any], columns: Columns, path: Path, format_: str) -> int:
    result = connection.execution_options(stream_results=True).execute(query)
    return _write_rows((list(map(tuple, part)) for part in result.partitions(BATCH)), columns, path, format_)


def _write_rows(parts: Any, columns: Columns, path: Path, format_: str) -> int:
    if format_ == "parquet":
        return _write_parquet(parts, columns, path)
    line: Callable[[Sequence[Any]], str] = _csv_line if format_ == "csv" else _json_line(columns)
    n = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        if format_ == "csv":
            file.write(_csv_line(tuple(columns)))
        for part in parts:
            n += len(part)
            file.writelines(line(row) for row in part)
        _sync(file)
    return n


def _sync(file: TextIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _csv_line(row: Sequence[Any]) -> str:
    """Texts are quoted, so that an empty one differs from a missing one (which is nothing at all)."""
    return ",".join(map(_csv_cell, row)) + "\n"


def _csv_cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, str):
        return '"' + value.replace('"', '""') + '"'
    return repr(value)


def _json_line(columns: Columns) -> Callable[[Sequence[Any]], str]:
    names = tuple(columns)

    def line(row: Sequence[Any]) -> str:
        values = (value.hex() if isinstance(value, bytes) else value for value in row)
        return json.dumps(dict(zip(names, values, strict=True)), ensure_ascii=False) + "\n"

    return line


def arrow_schema(columns: Columns) -> "pa.Schema":
    import pyarrow as pa

    types = {"int": pa.int64(), "float": pa.float64(), "text": pa.string(), "bytes": pa.binary()}
    return pa.schema([(name, types[kind]) for name, kind in columns.items()])


def _write_parquet(parts: Any, columns: Columns, path: Path) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema, n = arrow_schema(columns), 0
    with pq.ParquetWriter(path, schema) as writer:
        for part in parts:
            n += len(part)
            found = zip(*part, strict=True) if part else ([] for _ in columns)
            arrays = [
                pa.array(_as(values, kind), type=field.type)
                for values, kind, field in zip(found, columns.values(), schema, strict=True)
            ]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
    return n


def _as(values: Sequence[Any], kind: str) -> Sequence[Any]:
    """A query's text column may hold numbers, too."""
    if kind == "text":
        return [value if value is None or isinstance(value, str) else str(value) for value in values]
    return values
