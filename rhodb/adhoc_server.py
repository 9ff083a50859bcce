"""`rhodb sql` on a PostgreSQL server: a read-only transaction with a time limit, and the server's own functions."""

import re
from collections.abc import Mapping
from typing import Any

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, StatementError

from rhodb.adhoc import Answer, unique
from rhodb.adhoc_errors import close, find_word, told
from rhodb.engine import Location, server_engine, translate
from rhodb.errors import InputError

QUERY = re.compile(r"\s*(SELECT|VALUES)\b", re.IGNORECASE)
MISSING = re.compile(r'^(relation|column|function) "?([\w.]+)"?(?:\(.*\))? does not exist')


def ask_server(
    location: Location, sql: str, params: Mapping[str, Any], *, limit: int | None, timeout_s: float
) -> Answer:
    """As `rhodb.adhoc.ask`."""
    assert location.url is not None
    engine = server_engine(location.url)
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql("SET TRANSACTION READ ONLY")
            connection.exec_driver_sql(f"SET LOCAL statement_timeout = {int(timeout_s * 1000)}")
            try:
                # A server-side cursor saves memory, but takes nothing but queries, and says so badly.
                streamed = connection.execution_options(stream_results=bool(QUERY.match(sql)))
                result = streamed.execute(text(sql), dict(params))
                if not result.returns_rows:
                    raise InputError("the SQL returns no rows: write a SELECT")
                columns = unique(list(result.keys()))
                rows = [tuple(row) for row in (result.fetchall() if limit is None else result.fetchmany(limit + 1))]
            except DBAPIError as error:
                connection.rollback()
                raise _explain(connection, location, sql, timeout_s, error) from error
            except StatementError as error:
                raise InputError(f"the SQL was refused: {error.orig or error} (give it with -p NAME=VALUE)") from error
    except DBAPIError as error:
        raise translate(error, location) or error from error
    finally:
        engine.dispose()
    return Answer(columns=columns, rows=rows[:limit], more=limit is not None and len(rows) > limit)


def _explain(connection: Any, location: Location, sql: str, timeout_s: float, error: DBAPIError) -> Exception:
    message = str(error.orig).strip().splitlines()[0] if str(error.orig).strip() else type(error.orig).__name__
    if "statement timeout" in message:
        return InputError(f"the query took more than {timeout_s:g} s: give it more with --timeout")
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
