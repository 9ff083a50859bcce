"""SQL of studies: read from `analysis/sql/`, narrowed by conditions with named parameters, printable as text."""

import math
import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any

Value = str | int | float | None

_TOKEN = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\n]*|::|:(?P<name>[A-Za-z_]\w*)""")
"""What a parameter may look like, and before it everything that only looks like one."""


class Named(Mapping[str, Value]):
    """Parameters of one of very many queries that share their names: a third of the size of a dict."""

    __slots__ = ("_names", "_values")

    def __init__(self, names: tuple[str, ...], values: tuple[Value, ...]) -> None:
        self._names, self._values = names, values

    def __getitem__(self, name: str) -> Value:
        for known, value in zip(self._names, self._values, strict=True):
            if known == name:
                return value
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


@dataclass(frozen=True, kw_only=True, slots=True)
class Query:
    """A SELECT with named parameters (`:name`) and their values."""

    sql: str
    parameters: Mapping[str, Value]

    def inlined(self) -> str:
        """The statement with the parameters written into it, ready to be pasted into sqlite3."""

        def literal_of(match: re.Match[str]) -> str:
            name = match["name"]
            return match[0] if name is None else literal(self.parameters[name])

        return _TOKEN.sub(literal_of, self.sql)


class Conditions:
    """Collects `column = :parameter` conditions; no condition at all is `1 = 1`."""

    def __init__(self) -> None:
        self._terms: list[str] = []
        self.parameters: dict[str, Value] = {}

    def equal(self, column: str, value: Value) -> None:
        """Require a value, unless it is None."""
        if value is not None:
            name = column.rpartition(".")[2]
            self._terms.append(f"{column} = :{name}")
            self.parameters[name] = value

    def among(self, column: str, values: Sequence[Value]) -> None:
        """Require one of the values, unless there are none."""
        if values:
            stem = column.rpartition(".")[2]
            names = [f"{stem}_{i}" for i in range(1, len(values) + 1)]
            self._terms.append(f"{column} IN ({', '.join(':' + name for name in names)})")
            self.parameters |= dict(zip(names, values, strict=True))

    def __str__(self) -> str:
        return "\n  AND ".join(self._terms) or "1 = 1"


def read_sql(name: str, **parts: Any) -> str:
    """The text of `analysis/sql/NAME.sql` with its {marked} parts filled in (SQL, never values)."""
    return _filled(name, tuple((part, str(sql)) for part, sql in parts.items()))


@lru_cache(maxsize=1024)
def _filled(name: str, parts: tuple[tuple[str, str], ...]) -> str:
    """Kept, because thousands of findings have the same text: only their parameters differ."""
    text = _file(name)
    for part, sql in parts:
        text = text.replace("{" + part + "}", sql)
    return text.strip()


@cache
def _file(name: str) -> str:
    return (files("analysis") / "sql" / f"{name}.sql").read_text(encoding="utf-8")


def literal(value: Value) -> str:
    """A value as SQL that means just this value."""
    if value is None:
        return "NULL"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if isinstance(value, float) and math.isfinite(value):
        return _float(float(value))
    return repr(value)


@lru_cache(maxsize=1024)
def _float(value: float) -> str:
    """A float as its shortest decimal, or, as SQLite does not round all of these correctly, by exact steps."""
    shortest = repr(value)
    with closing(sqlite3.connect(":memory:")) as db:
        if db.execute(f"SELECT {shortest}").fetchone()[0] == value:
            return shortest
    fraction, exponent = math.frexp(value)  # value = fraction * 2^exponent, and the fraction has 53 bits
    step = 52  # bits; so large a power of two is read exactly
    exponent -= 53
    factor = f" {'*' if exponent > 0 else '/'} "
    powers = [2.0 ** min(step, abs(exponent) - done) for done in range(0, abs(exponent), step)]
    return f"({factor.join(map(repr, (math.ldexp(fraction, 53), *powers)))})"
