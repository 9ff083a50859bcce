"""SQL of studies: read from `analysis/sql/`, narrowed by conditions with named parameters, printable as text."""

import re
from collections.abc import Iterator, Mapping, Sequence
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
    """A value as an SQL literal. SQLite reads a few floats of 17 digits as the number beside them."""
    if value is None:
        return "NULL"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return repr(value)
