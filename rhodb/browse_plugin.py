"""Datasette's connections get what `rhodb sql` has: no writing, and the statistical aggregates."""

from importlib import import_module
from typing import Any

from rhodb.aggregates import register

hookimpl: Any = import_module("datasette").hookimpl


@hookimpl  # type: ignore[untyped-decorator]
def prepare_connection(conn: Any, database: str) -> None:
    """Datasette calls this for every connection that it opens, also to its own notes in memory (`_internal`)."""
    if database != "_internal":
        conn.execute("PRAGMA query_only = ON")
    register(conn, [])
