"""What a claim is, and the CSV files that hold claims: what was printed, and how it can be checked.

A file of claims holds no verdict and no recomputed value: both come from `analysis.claims.verify`.
"""

import csv
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from rhodb.errors import InputError
from rhodb.place import Kind, absolute, for_reading, look
from rhodb.published import read_table, shipped_folder

COLUMNS = (
    "id", "section", "subject", "statistic", "value", "precision", "unit", "checker", "parameters", "challenges", "own",
    "figure",
)  # fmt: skip
NEEDED = ("id", "section", "subject", "statistic", "value", "checker")
Relation = Literal["=", "<", "<=", ">", ">="]
_VALUE = re.compile(r"^(<=|>=|<|>|=)?\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)$")
_ID = re.compile(r"^[A-Za-z0-9][\w.:/~-]*$")


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One printed figure and the way to check it. Identity: id within its file."""

    id: str
    section: str
    """Heading under which it stands."""
    subject: str
    statistic: str
    relation: Relation
    """`=` for a printed figure; else the figure is a bound (`p < 0.0001`)."""
    value: float
    precision: float | None
    """One unit of the last printed digit; None for bounds and exact counts."""
    unit: str = ""
    checker: str
    """Name in `analysis.claims.registry.CHECKERS`."""
    parameters: Mapping[str, str] = field(default_factory=dict)
    challenges: tuple[str, ...] = ()
    """Names in `registry.CHALLENGES`: what the method has to stand; each is decided by computation."""
    own: Mapping[str, str] = field(default_factory=dict)
    """How this warehouse's own runs speak to it (`analysis.claims.own`); empty: they cannot."""
    figure: str = ""
    """Key of the published value that transcribes this very figure: what no check of it may rest on."""

    @property
    def printed(self) -> str:
        """The figure as printed."""
        return f"{'' if self.relation == '=' else self.relation + ' '}{_digits(self.value, self.precision)}"


def _digits(value: float, precision: float | None) -> str:
    if precision is None or precision >= 1:
        return f"{value:.12g}"
    return f"{value:.{max(0, -math.floor(math.log10(precision) + 1e-9))}f}"


def shipped_file() -> Path:
    """The claims of the notes that come with rhodb."""
    return shipped_folder() / "claims.csv"


def read_claims(path: Path | None = None) -> tuple[Claim, ...]:
    """The claims of a CSV file, in its order. Raises InputError naming file, line and column."""
    path = path or shipped_file()
    if look(path).kind is Kind.FREE:
        raise InputError(f"{path} does not exist: `rhodb claims add --file {path}` starts it")
    claims = read_table(path, NEEDED, parse, encoding="utf-8-sig")
    seen: set[str] = set()
    for claim in claims:
        if claim.id in seen:
            raise InputError(f"{path}: claim {claim.id} stands there twice; remove or rename one")
        seen.add(claim.id)
    return tuple(claims)


def parse(row: Mapping[str, str | None], where: str) -> Claim:
    """A claim from the texts of its columns. Raises InputError that begins with `where`."""
    text = {column: (row.get(column) or "").strip() for column in COLUMNS}
    for column in NEEDED:
        if not text[column]:
            raise InputError(f"{where}: column {column} is empty")
    if not _ID.match(text["id"]):
        raise InputError(f"{where}: an id is letters, digits and . : / ~ - _ without spaces, got {text['id']!r}")
    found = _VALUE.match(text["value"])
    if found is None:
        raise InputError(
            f"{where}: value must be a number such as 0.034, or a bound such as <0.001, got {text['value']!r}"
        )
    relation: Relation = found[1] or "="  # type: ignore[assignment]
    value = float(found[2])
    precision = _precision(text["precision"], where)
    if not math.isfinite(value):
        raise InputError(f"{where}: value must be finite, got {text['value']}")
    return Claim(
        id=text["id"], section=text["section"], subject=text["subject"], statistic=text["statistic"],
        relation=relation, value=value, precision=precision, unit=text["unit"], checker=text["checker"],
        parameters=pairs(text["parameters"], f"{where}: column parameters"),
        challenges=tuple(name.strip() for name in text["challenges"].split(";") if name.strip()),
        own=pairs(text["own"], f"{where}: column own"), figure=text["figure"],
    )  # fmt: skip


def _precision(text: str, where: str) -> float | None:
    if not text:
        return None
    try:
        precision = float(text)
    except ValueError as error:
        raise InputError(f"{where}: column precision is not a number: {text!r}") from error
    if not (math.isfinite(precision) and precision > 0):
        raise InputError(f"{where}: precision must be > 0 (or empty), got {text}")
    return precision


def printed_precision(text: str) -> float | None:
    """One unit of the last digit of a figure as typed: 0.034 -> 0.001; None for a bound."""
    found = _VALUE.match(text.strip())
    if found is None or found[1] not in (None, "="):
        return None
    digits, _, exponent = found[2].lower().partition("e")
    return float(10.0 ** (int(exponent or 0) - len(digits.partition(".")[2])))


def pairs(text: str, where: str) -> dict[str, str]:
    """`name=value; name=value` as a dictionary. Raises InputError."""
    found = {}
    for entry in filter(None, (part.strip() for part in text.split(";"))):
        name, equals, value = entry.partition("=")
        if not equals or not name.strip().isidentifier():
            raise InputError(f"{where}: expected NAME=VALUE; NAME=VALUE ..., got {entry!r}")
        found[name.strip()] = value.strip()
    return found


def append_claim(path: Path, row: Mapping[str, str]) -> Claim:
    """Add a claim to a file, which is created where it is missing. Raises InputError; then nothing is written."""
    claim = parse(row, f"{path}, new claim")
    path = absolute(path)
    path = path if look(path).kind in (Kind.FREE, Kind.EMPTY) else for_reading(path)
    present: Sequence[Claim] = read_claims(path) if path.exists() else ()
    if any(claim.id == other.id for other in present):
        raise InputError(f"{path} has a claim {claim.id} already: choose another --id, or edit the file")
    columns = _header(path) if path.exists() else list(COLUMNS)
    lost = [column for column in COLUMNS if row.get(column) and column not in columns]
    if lost:
        raise InputError(f"{path} has no column {', '.join(lost)}, which this claim needs: add it to the first line")
    try:
        text = path.read_bytes() if path.exists() else b""
        with path.open("a", encoding="utf-8", newline="") as file:
            if text and not text.endswith(b"\n"):
                file.write("\n")
            writer = csv.DictWriter(file, columns, lineterminator="\n", extrasaction="ignore")
            if not text:
                writer.writeheader()
            writer.writerow({column: row.get(column, "") for column in columns})
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from error
    return claim


def _header(path: Path) -> list[str]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file).fieldnames or COLUMNS)
