"""SQL on the warehouse, read-only, with errors that help: what a person typed, within limits, and rhodb's own."""

import math
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from rhodb.adhoc_process import Limits, Reader, explained
from rhodb.adhoc_sqlite import Reading, RefusedError
from rhodb.errors import InputError
from rhodb.location import Location, read_only_uri
from rhodb.revision import HEAD


def parameter_value(text: str) -> Any:
    """The value of a parameter that was given as text: a whole number, a number, else the text itself."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Rows of a query."""

    columns: list[str]
    """Names, each once: a repeated one gets a number."""
    rows: list[tuple[Any, ...]]
    more: bool
    """Whether there are rows beyond the limit."""


def ask(
    location: Location,
    sql: str,
    params: Mapping[str, Any] | None = None,
    *,
    limit: int | None = 1000,
    timeout_s: float = 60.0,
    memory_mib: int = 1024,
) -> Answer:
    """Run one SELECT that somebody typed. `limit` None: all rows.

    Raises InputError for SQL that is wrong, writes, takes too long or needs too much memory.
    """
    limits = Limits(timeout_s=timeout_s, memory_mib=memory_mib)
    if limit is not None and limit < 1:
        raise InputError(f"the row limit must be >= 1, got {limit}")
    if "\0" in sql:
        raise InputError("the SQL holds a NUL character")
    if location.path is None:
        from rhodb.adhoc_server import ask_server

        return ask_server(location, sql, params or {}, limit=limit, limits=limits)
    check(location)
    with closing(Reader(location, limits, advice=True)) as reader:
        columns, rows = reader.ask(sql, dict(params or {}), limit=limit)
    return Answer(columns=unique(columns), rows=rows[:limit], more=limit is not None and len(rows) > limit)


def read(location: Location, sql: str, params: Mapping[str, Any] | None = None) -> Answer:
    """The rows of a SELECT of rhodb's own, without limits, with the aggregates of `ask`."""
    if location.path is None:
        from rhodb.adhoc_server import ask_server

        return ask_server(location, sql, params or {}, limit=None, limits=None)
    check(location)
    with closing(Reading(read_only_uri(location.path), wait_s=30.0)) as reading:
        try:
            parts = reading.rows(sql, params or {}, limit=None, timeout_s=math.inf)
            columns = next(parts)
            return Answer(columns=unique(columns), rows=[row for rows in parts for row in rows], more=False)
        except RefusedError as error:
            if error.kind == "late":  # nothing is late here: Python raised Ctrl-C within the look at the clock
                raise KeyboardInterrupt from error
            raise explained(location, error.kind, error.sentence) from error


def check(location: Location) -> None:
    """Raise DatabaseError where there is no warehouse of this rhodb's schema."""
    if not _is_current(location):
        from rhodb.warehouse import Warehouse

        Warehouse.open(location.path, create=False, read_only=True).close()  # says what is wrong


def _is_current(location: Location) -> bool:
    """Whether there is a warehouse of this rhodb's schema: one cheap query."""
    assert location.path is not None
    if not location.path.is_file():
        return False
    try:
        with closing(sqlite3.connect(read_only_uri(location.path), uri=True)) as connection:
            return connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(HEAD,)]
    except sqlite3.Error:
        return False


def unique(names: Sequence[str]) -> list[str]:
    """Column names made different from each other: seed, seed_2, ..."""
    found: list[str] = []
    for name in names:
        candidate, number = name, 1
        while candidate in found:
            number += 1
            candidate = f"{name}_{number}"
        found.append(candidate)
    return found
