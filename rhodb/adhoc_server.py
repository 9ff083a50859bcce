"""`rhodb sql` on a PostgreSQL server: a read-only transaction with a time limit, and the server's own functions."""

import re
import time
from collections.abc import Mapping
from typing import Any

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, StatementError

from rhodb.adhoc import Answer, unique
from rhodb.adhoc_errors import close, find_word, told
from rhodb.adhoc_process import MIB, Limits, explained
from rhodb.adhoc_sqlite import PIECE
from rhodb.engine import Location, server_engine, translate
from rhodb.errors import InputError

QUERY = re.compile(r"\s*(SELECT|VALUES)\b", re.IGNORECASE)
MISSING = re.compile(r'^(relation|column|function) "?([\w.]+)"?(?:\(.*\))? does not exist')


def ask_server(
    location: Location, sql: str, params: Mapping[str, Any], *, limit: int | None, limits: Limits | None
) -> Answer:
    """As `rhodb.adhoc.ask`; `limits` None: none of time and memory."""
    assert location.url is not None
    engine = server_engine(location.url)
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql("SET TRANSACTION READ ONLY")
            if limits is not None:
                connection.exec_driver_sql(f"SET LOCAL statement_timeout = {max(1, int(limits.timeout_s * 1000))}")
            try:
                # A server-side cursor saves memory, but takes nothing but queries, and says so badly.
                streamed = connection.execution_options(stream_results=bool(QUERY.match(sql)))
                result = streamed.execute(text(sql), dict(params))
                if not result.returns_rows:
                    raise InputError("the SQL returns no rows: write a SELECT")
                columns = unique(list(result.keys()))
                rows = _fetched(location, result, None if limit is None else limit + 1, limits)
            except DBAPIError as error:
                connection.rollback()
                raise _explain(connection, location, sql, limits, error) from error
            except StatementError as error:
                raise InputError(f"the SQL was refused: {error.orig or error} (give it with -p NAME=VALUE)") from error
    except DBAPIError as error:
        raise translate(error, location) or error from error
    finally:
        engine.dispose()
    return Answer(columns=columns, rows=rows[:limit], more=limit is not None and len(rows) > limit)


def _fetched(location: Location, result: Any, most: int | None, limits: Limits | None) -> list[tuple[Any, ...]]:
    """At most so many rows. Each piece is a statement to the server's clock, so their sum is timed here."""
    rows: list[tuple[Any, ...]] = []
    size, started = 0, time.monotonic()
    while most is None or len(rows) < most:
        piece = [tuple(row) for row in result.fetchmany(PIECE if most is None else min(PIECE, most - len(rows)))]
        if not piece:
            break
        rows += piece
        if limits is None:
            continue
        size += sum(_size(value) for row in piece for value in row)
        over = "large" if size > limits.memory_mib * MIB else ""
        if over or time.monotonic() - started > limits.timeout_s:
            raise explained(location, over or "late", "", limits=limits, timeout_s=limits.timeout_s, advice=True)
    return rows


def _size(value: Any) -> int:
    """Bytes of a value, about."""
    return 8 + (len(value) if isinstance(value, str | bytes) else 0)


def _explain(connection: Any, location: Location, sql: str, limits: Limits | None, error: DBAPIError) -> Exception:
    message = str(error.orig).strip().splitlines()[0] if str(error.orig).strip() else type(error.orig).__name__
    if "statement timeout" in message and limits is not None:
        return explained(location, "late", "", limits=limits, timeout_s=limits.timeout_s, advice=True)
    if "read-only transaction" in message:
        return InputError("the SQL was refused: it may only read")
    match = MISSING.match(message)
    if match is None:
        return translate(error, location) or InputError(f"the SQL was refused: {message}")
    what, name = match.groups()
    bare = name.rsplit(".", 1)[-1]
    source = {
        "relation": "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'",
        "column": "SELECT column_name FROM information_schema.columns WHERE table_schema = 'public'",
        "function": "SELECT DISTINCT proname FROM pg_proc",
    }[what]
    names = connection.exec_driver_sql(source).scalars().all()
    return InputError(told(sql, message, find_word(sql, bare), close(bare, names)))
