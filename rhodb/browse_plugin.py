"""Datasette with what `rhodb sql` has (no writing, the statistical aggregates); names of runs are links; what was
refused is one sentence on the page."""

import re
import sqlite3
import sys
from importlib import import_module
from typing import Any

from rhodb.aggregates import register

hookimpl: Any = import_module("datasette").hookimpl
_Database: Any = import_module("datasette.database").Database
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class QuietDatabase(_Database):  # type: ignore[misc]
    """The warehouse's file; SQL that is refused is told on the page only."""

    async def execute(self, *args: Any, **options: Any) -> Any:
        return await super().execute(*args, **options | {"log_sql_errors": False})


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


@hookimpl  # type: ignore[untyped-decorator]
def handle_exception(datasette: Any, request: Any, exception: Exception) -> Any:
    """Stands in for Datasette's own, which prints a traceback for each mistake of a user."""
    status, sentence = explained(exception)
    if status >= 500:
        sys.stderr.write(f"rhodb browse: {request.path} failed: {sentence}\n")
    response = import_module("datasette").Response

    async def answer() -> Any:
        shown = {"ok": False, "error": sentence, "status": status, "title": None}
        if request.path.endswith(".json"):
            return response.json(shown, status=status)
        page = datasette.jinja_env.get_template("error.html")
        site = {"urls": datasette.urls, "app_css_hash": datasette.app_css_hash(), "menu_links": list}
        return response.html(await page.render_async(shown | site), status=status)

    return answer


def explained(error: Exception) -> tuple[int, str]:
    """Status and sentence of a page that could not be made."""
    if isinstance(error, import_module("datasette.views.base").DatasetteError):
        too_long = error.title == "SQL Interrupted"  # its message is markup about Datasette's settings
        return error.status, "the query took too long: narrow it, or use `rhodb sql`" if too_long else error.message
    if isinstance(error, import_module("datasette.utils.asgi").Base400):
        return error.status, str(error.args[0])
    if isinstance(error, sqlite3.Error):
        return 400, f"the SQL was refused: {error}"
    return 500, f"{type(error).__name__}: {error}"
