"""Datasette with what `rhodb sql` has (no writing, the statistical aggregates); names of runs are links."""

import re
from importlib import import_module
from typing import Any

from rhodb.aggregates import register

hookimpl: Any = import_module("datasette").hookimpl
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@hookimpl  # type: ignore[untyped-decorator]
def prepare_connection(conn: Any, database: str) -> None:
    """Datasette calls this for every connection that it opens, also to its own notes in memory (`_internal`)."""
    if database != "_internal":
        conn.execute("PRAGMA query_only = ON")
    register(conn, [])


@hookimpl  # type: ignore[untyped-decorator]
def render_cell(value: Any, column: str, database: str) -> Any:
    """The column `run` of views and queries leads to the row of the run, as a foreign key of a table does."""
    if column != "run" or not isinstance(value, str) or not UUID.fullmatch(value):
        return None
    return import_module("markupsafe").Markup('<a href="/{}/runs?uuid={}">{}</a>').format(database, value, value)
