"""Published figures: facts from notebooks and papers, with section and printed precision, in CSV files.

The files whose name ends in `values.csv` in `results/published/` are shipped (as `rhodb/published_data/` in an
installed wheel) and copied into the table `published_values`, from which analyses read them with SQL.
"""

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from sqlalchemy import text

from rhodb.errors import InputError
from rhodb.place import for_reading
from rhodb.warehouse import Warehouse

T = TypeVar("T")
Basis = Literal["", "counted", "setting"]
COLUMNS = ("source", "section", "key", "claim", "value", "precision", "unit", "n")


@dataclass(frozen=True, kw_only=True)
class PublishedValue:
    """One published figure. Identity: (source, key)."""

    source: str
    """Document it stands in, e.g. `research-notes`."""
    section: str
    key: str
    """Path-like name that analyses ask for, e.g. `arm/dose/0.1/0.2/bias/mean`."""
    claim: str
    """What the figure is, in words."""
    value: float
    precision: float | None
    """One unit of the last printed digit; the true value lies within half of it."""
    unit: str
    n: int | None
    """Seeds or probes behind the figure, where stated."""
    basis: Basis = ""
    """`counted`: taken from the material itself (files, configurations), not from what was printed; `setting`: chosen,
    so exact; empty: printed. Only in the shipped files."""
    derived_from: tuple[str, ...] = ()
    """Keys of the figures that this one was computed from or chosen to fit; only in the shipped files."""


@dataclass(frozen=True, kw_only=True)
class Copied:
    """What copying into a warehouse did."""

    added: int
    changed: int
    unchanged: int


def shipped_folder() -> Path:
    """The folder of shipped CSV files: beside the package in a checkout, inside it in a wheel."""
    inside = Path(__file__).parent / "published_data"
    return inside if inside.is_dir() else Path(__file__).parents[1] / "results" / "published"


def read_folder(folder: Path | None = None) -> list[PublishedValue]:
    """All values of a folder's `*values.csv` files, by file name and line. Raises InputError."""
    folder = folder or shipped_folder()
    paths = sorted(folder.glob("*values.csv"))
    if not paths:
        raise InputError(f"{folder} holds no *values.csv file with published values: reinstall rhodb")
    values = [value for path in paths for value in read_file(path)]
    seen: set[tuple[str, str]] = set()
    for value in values:
        if (value.source, value.key) in seen:
            raise InputError(f"{folder}: {value.key} of {value.source} stands there twice; remove one")
        seen.add((value.source, value.key))
    return values


def read_file(path: Path) -> list[PublishedValue]:
    """The values of one CSV file. Raises InputError naming file, line and column."""
    return read_table(path, COLUMNS, _value)


def read_table(
    path: Path, needed: Sequence[str], parse: Callable[[Mapping[str, str | None], str], T], *, encoding: str = "utf-8"
) -> list[T]:
    """Each row of a CSV file through `parse`, which also gets the place for its errors: file and line.

    Raises InputError where the file cannot be read, is not UTF-8, or lacks a column of `needed`.
    """
    try:
        with for_reading(path).open(encoding=encoding, newline="") as file:
            reader = csv.DictReader(file)
            missing = [column for column in needed if column not in (reader.fieldnames or ())]
            if missing:
                raise InputError(f"{path} has no column {', '.join(missing)}; it needs {', '.join(needed)}")
            return [parse(row, f"{path}, line {reader.line_num}") for row in reader]
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text: save it as UTF-8") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error


def _value(row: Mapping[str, str | None], where: str) -> PublishedValue:
    for column in ("source", "section", "key", "claim"):
        if not row[column]:
            raise InputError(f"{where}: column {column} is empty")
    value = _number(row, "value", where)
    if value is None:
        raise InputError(f"{where}: column value is empty")
    precision = _number(row, "precision", where)
    if precision is not None and precision <= 0:
        raise InputError(f"{where}: precision must be > 0 or empty, got {row['precision']}")
    n = _number(row, "n", where)
    if n is not None and (n < 1 or n != int(n)):
        raise InputError(f"{where}: n must be a whole number >= 1 or empty, got {row['n']}")
    return PublishedValue(
        source=str(row["source"]),
        section=str(row["section"]),
        key=str(row["key"]),
        claim=str(row["claim"]),
        value=value,
        precision=precision,
        unit=row["unit"] or "",
        n=None if n is None else int(n),
        basis=_basis(row.get("basis") or "", where),
        derived_from=tuple((row.get("derived_from") or "").split()),
    )


def _basis(text: str, where: str) -> Basis:
    if text not in get_args(Basis):
        raise InputError(
            f"{where}: column basis must be {', '.join(filter(None, get_args(Basis)))} or empty, got {text!r}"
        )
    return text  # type: ignore[return-value]


def _number(row: Mapping[str, str | None], column: str, where: str) -> float | None:
    entry = row[column]
    if not entry:
        return None
    try:
        number = float(entry)
    except ValueError as error:
        raise InputError(f"{where}: column {column} is not a number: {entry!r}") from error
    if not math.isfinite(number):
        raise InputError(f"{where}: column {column} must be finite, got {entry}")
    return number


def _row(value: PublishedValue) -> dict[str, Any]:
    """The columns that a warehouse keeps."""
    return {column: getattr(value, column) for column in COLUMNS}


def insert_values(wh: Warehouse, values: Sequence[PublishedValue]) -> Copied:
    """Copy values into `published_values`; one that is there with another content is replaced.

    One transaction; doing it again changes nothing.
    """
    columns = ", ".join(COLUMNS)
    with wh.write() as connection:
        rows = connection.execute(text(f"SELECT {columns} FROM published_values")).mappings()
        present = {(row["source"], row["key"]): dict(row) for row in rows}
        new = [_row(value) for value in values if (value.source, value.key) not in present]
        known = [_row(value) for value in values if (value.source, value.key) in present]
        changed = [row for row in known if row != present[row["source"], row["key"]]]
        if new:
            marks = ", ".join(f":{column}" for column in COLUMNS)
            connection.execute(text(f"INSERT INTO published_values ({columns}) VALUES ({marks})"), new)
        if changed:
            sets = ", ".join(f"{column} = :{column}" for column in COLUMNS if column not in ("source", "key"))
            connection.execute(
                text(f"UPDATE published_values SET {sets} WHERE source = :source AND key = :key"), changed
            )
    return Copied(added=len(new), changed=len(changed), unchanged=len(known) - len(changed))


def is_current(wh: Warehouse, values: Sequence[PublishedValue]) -> bool:
    """Whether a warehouse holds all these values already. Only reads."""
    rows = wh.rows(f"SELECT {', '.join(COLUMNS)} FROM published_values")
    present = {(row["source"], row["key"]): row for row in rows}
    return all(present.get((value.source, value.key)) == _row(value) for value in values)
