"""Datasette with what `rhodb sql` has (no writing, the statistical aggregates); names of runs are links; what was
refused is one sentence on the page."""

import asyncio
import math
import re
import sqlite3
import sys
import threading
from importlib import import_module
from typing import Any

from rhodb.adhoc_process import LateError, Limits, Reader
from rhodb.aggregates import register
from rhodb.errors import RhodbError
from rhodb.location import Location

hookimpl: Any = import_module("datasette").hookimpl
_database: Any = import_module("datasette.database")
_Database, _interrupted, _results = _database.Database, _database.QueryInterrupted, _database.Results
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


LIMITS = Limits(timeout_s=10.0, memory_mib=64, value_mib=1)
MOST_ROWS = 2_000
_threads = threading.local()


class LimitedDatabase(_Database):  # type: ignore[misc, valid-type]
    """The warehouse's file; every statement of a page runs within limits, in a process of its thread that can be ended.

    What Datasette asks about tables and columns by itself (`execute_fn`) runs in this process.
    """

    def __init__(self, site: Any, location: Location) -> None:
        super().__init__(site, path=str(location.path))
        self.location = location

    async def execute(
        self,
        sql: str,
        params: Any = None,
        truncate: bool = False,
        custom_time_limit: float | None = None,
        page_size: int | None = None,
        log_sql_errors: bool = True,
    ) -> Any:
        """As Datasette's, whose limits are in milliseconds; errors are sentences, and nobody logs them."""
        seconds = min(LIMITS.timeout_s, (custom_time_limit or math.inf) / 1000)
        most = MOST_ROWS + (page_size == MOST_ROWS) if truncate else None

        def ask() -> Any:
            given = dict(params) if isinstance(params, dict) else list(params or ())
            return _reader(self.location).ask(sql, given, limit=most, timeout_s=seconds)

        try:
            names, rows = await asyncio.get_running_loop().run_in_executor(self.ds.executor, ask)
        except LateError as error:
            raise _interrupted(error, sql, params) from error
        except RhodbError as error:
            raise sqlite3.OperationalError(str(error).splitlines()[0]) from error
        places = {name.lower(): place for place, name in reversed([*enumerate(names)])}
        made = [Row(names, places, row) for row in rows[:most]]
        return _results(made, most is not None and len(rows) > most, [(name,) for name in names])


class Row(tuple[Any, ...]):
    """As sqlite3.Row: values by place and by name."""

    names: list[str]
    places: dict[str, int]

    def __new__(cls, names: list[str], places: dict[str, int], values: tuple[Any, ...]) -> "Row":
        made = super().__new__(cls, values)
        made.names, made.places = names, places
        return made

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            try:
                return super().__getitem__(self.places[key.lower()])
            except KeyError:
                raise IndexError("No item with that key") from None
        return super().__getitem__(key)

    def keys(self) -> list[str]:
        return self.names


def _reader(location: Location) -> Reader:
    """The process of this thread for this file."""
    readers = _threads.__dict__.setdefault("readers", {})
    if location not in readers:
        readers[location] = Reader(location, LIMITS)
    found: Reader = readers[location]
    return found


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
