"""SQL that a person typed: read-only by construction, within limits of rows and time, with errors that help."""

import sqlite3
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from rhodb.aggregates import register
from rhodb.errors import DatabaseBusyError, DatabaseError, InputError
from rhodb.location import Location, read_only_uri
from rhodb.revision import HEAD

CHECK_EVERY = 20_000
"""Virtual machine steps between two looks at the clock: about a millisecond."""

READ_ACTIONS = frozenset(
    {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
)
PRAGMAS_THAT_DESCRIBE = frozenset(
    {
        "table_info", "table_xinfo", "table_list", "index_list", "index_info", "index_xinfo", "foreign_key_list",
        "foreign_key_check", "database_list", "function_list", "compile_options", "collation_list",
    }
)  # fmt: skip
PRAGMAS_WITHOUT_VALUE = frozenset({"user_version", "page_count", "page_size", "freelist_count", "journal_mode"})


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
) -> Answer:
    """Run one SELECT. `limit` None: all rows. Raises InputError for SQL that is wrong, writes, or takes too long."""
    if limit is not None and limit < 1:
        raise InputError(f"the row limit must be >= 1, got {limit}")
    if not timeout_s > 0:
        raise InputError(f"the time limit must be > 0 seconds, got {timeout_s:g}")
    if "\0" in sql:
        raise InputError("the SQL holds a NUL character")
    if location.path is None:
        from rhodb.adhoc_server import ask_server

        return ask_server(location, sql, params or {}, limit=limit, timeout_s=timeout_s)
    problems: list[str] = []
    deadline = time.monotonic() + timeout_s
    with closing(_connect(location, problems, timeout_s)) as connection:
        connection.set_progress_handler(lambda: time.monotonic() > deadline, CHECK_EVERY)
        try:
            cursor = connection.execute(sql, dict(params or {}))
            if cursor.description is None:
                raise InputError("the SQL returns no rows: write a SELECT")
            rows = cursor.fetchall() if limit is None else cursor.fetchmany(limit + 1)
        except sqlite3.Error as error:
            if "interrupted" in str(error):
                if time.monotonic() <= deadline:  # Ctrl-C, which Python raised within the look at the clock
                    raise KeyboardInterrupt from error
                raise InputError(f"the query took more than {timeout_s:g} s: give it more with --timeout") from error
            if problems:
                raise InputError(f"the SQL was refused: {problems[0]}") from error
            raise _explain(connection, location, sql, error) from error
        except (OverflowError, UnicodeEncodeError) as error:
            raise InputError(f"a parameter cannot be used in SQL: {error}") from error
        columns = unique([name for name, *_ in cursor.description])
    return Answer(columns=columns, rows=rows[:limit], more=limit is not None and len(rows) > limit)


def _connect(location: Location, problems: list[str], timeout_s: float) -> sqlite3.Connection:
    """A connection that cannot write: the file is opened read-only, and everything but reading is denied."""
    assert location.path is not None
    if not _is_current(location):
        from rhodb.warehouse import Warehouse

        Warehouse.open(location.path, create=False, read_only=True).close()  # says what is wrong
    connection = sqlite3.connect(read_only_uri(location.path), uri=True, timeout=min(timeout_s, 30.0))
    connection.execute("PRAGMA query_only = ON")
    register(connection, problems)
    connection.set_authorizer(_authorize)
    return connection


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


def _authorize(action: int, first: str | None, second: str | None, _database: str | None, _source: str | None) -> int:
    """Allow what reads; deny attaching, writing, temporary tables, loading extensions and PRAGMAs that set."""
    if action == sqlite3.SQLITE_FUNCTION and second == "load_extension":
        return sqlite3.SQLITE_DENY
    if action in READ_ACTIONS:
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_PRAGMA and first is not None:
        name = first.lower()
        if name in PRAGMAS_THAT_DESCRIBE or (name in PRAGMAS_WITHOUT_VALUE and second is None):
            return sqlite3.SQLITE_OK
    return sqlite3.SQLITE_DENY


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


def _explain(connection: sqlite3.Connection, location: Location, sql: str, error: sqlite3.Error) -> Exception:
    """The error for a person: what, where in the SQL, and names that are close to a wrong one."""
    from rhodb.adhoc_errors import describe

    message = str(error)
    code = getattr(error, "sqlite_errorname", "") or ""
    if code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return DatabaseBusyError(f"{location} is locked by another program: try again when it has finished")
    if code in ("SQLITE_NOTADB", "SQLITE_CORRUPT", "SQLITE_CANTOPEN"):
        return DatabaseError(f"{location} cannot be read: {message}")
    if code == "SQLITE_AUTH" or "not authorized" in message or "prohibited" in message:
        return InputError("the SQL was refused: it may only read (no writing, attaching, settings or extensions)")
    connection.set_progress_handler(None, 0)
    connection.set_authorizer(None)
    return InputError(describe(connection, sql, message))
