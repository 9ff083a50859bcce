"""`rhodb browse`: the warehouse in a web browser through Datasette, read-only, for whoever has the printed link."""

import html
import re
import socket
import sqlite3
from collections.abc import Callable
from contextlib import ExitStack, suppress
from importlib import import_module
from typing import Any

from rhodb.browse_access import PrintedLinkOnly
from rhodb.describe import VIEWS, columns, tables
from rhodb.errors import InputError
from rhodb.location import Location
from rhodb.queries import SavedQuery, saved_queries
from rhodb.view_columns import WIDE
from rhodb.warehouse import Warehouse

HOST, HOST_6 = "127.0.0.1", "::1"
LABELS = {
    "models": "key",
    "probe_sets": "name",
    "probes": "key",
    "runs": "uuid",
    "sources": "name",
    "external_evaluations": "tool",
}
"""Column that stands for a row where another table links to it."""
SORTED = {"runs": "id", "sources": "id", "analysis_results": "id"}
"""Newest first."""
START = ("v_scores", "v_alignment", "runs", "behavior_scores", "models", "probes", "sources")
"""What most people look for."""
SETTINGS = {
    "max_returned_rows": 2_000,  # the other limits of a statement: browse_plugin
    "default_page_size": 50,
    "facet_time_limit_ms": 500,
    "suggest_facets": False,  # one query a column: ten seconds on a view of two thousand
    "allow_download": False,
    "num_sql_threads": 3,
}
OWN_HANDLER = "datasette.handle_exception"
"""Datasette's plugin that ours stands in for: it prints tracebacks."""
UNIT = re.compile(r", (s|nats/token)(?:[.:;]|$)")


def metadata(name: str) -> dict[str, Any]:
    """What Datasette shows beside the data: titles, meanings, labels, units and saved queries."""
    described = {row["name"]: row for row in tables()}
    return {
        "title": "rhodb",
        "description_html": _start_page(name, described),
        "databases": {
            name: {
                "description": "Runs, scores and sources of language-model alignment experiments.",
                "tables": {
                    **{table: _table(table, row["meaning"]) for table, row in described.items()},
                    "alembic_version": {"hidden": True},
                },
                "queries": {query.name: _query(query) for query in saved_queries()},
            }
        },
    }


def _table(name: str, meaning: str) -> dict[str, Any]:
    found: dict[str, Any] = {"title": name, "description": meaning}
    # The two thousand columns of a wide view say what they are by their names.
    meanings = {row["column"]: row["meaning"] for row in columns(name) if not WIDE.fullmatch(row["column"])}
    found["columns"] = meanings
    if name not in VIEWS:
        units = {column: match[1] for column, text in meanings.items() if (match := UNIT.search(text))}
        found["units"] = {column: unit for column, unit in units.items() if unit == "s"}  # what Datasette can show
    if name in LABELS:
        found["label_column"] = LABELS[name]
    if name in SORTED:
        found["sort_desc"] = SORTED[name]
    return found


def _query(query: SavedQuery) -> dict[str, Any]:
    """A saved query whose parameters may be left empty where they have a default."""
    sql = query.sql
    for parameter, default in query.defaults.items():
        quoted = default if default.isdigit() else f"'{default}'"
        body = re.compile(rf":{parameter}\b")
        sql = body.sub(f"coalesce(nullif(:{parameter}, ''), {quoted})", sql)
    given = ", ".join(f"{name}: {value} if left empty" for name, value in query.defaults.items())
    return {"title": query.name, "description": query.summary + (f" ({given})" if given else ""), "sql": sql}


def _start_page(name: str, described: dict[str, dict[str, Any]]) -> str:
    """What there is, with a line on each table."""

    def entries(names: list[str]) -> str:
        return "".join(
            f'<dt><a href="/{html.escape(name)}/{table}">{table}</a></dt>'
            f"<dd>{html.escape(described[table]['meaning'])}</dd>"
            for table in names
        )

    others = [table for table in described if table not in START]
    queries = "".join(
        f'<dt><a href="/{html.escape(name)}/{query.name}">{query.name}</a></dt><dd>{html.escape(query.summary)}</dd>'
        for query in saved_queries()
    )
    return (
        "<p>A results warehouse: every number is a row of <code>behavior_scores</code> (run, behavior, metric, split, "
        "value, standard error, n). A run knows its model, seed, configuration and baseline. "
        "Nothing can be changed from here.</p>"
        f"<h2>Start here</h2><dl>{entries(list(START))}</dl>"
        f"<h2>Saved queries</h2><dl>{queries}</dl>"
        f"<h2>Other tables and views</h2><dl>{entries(others)}</dl>"
    )


def make_site(location: Location) -> Any:
    """The Datasette application. Raises InputError where there is none to be had."""
    if location.path is None:
        raise InputError(
            f"rhodb browse shows SQLite files, not {location}: `rhodb --db copy.db merge URL` makes one of it"
        )
    try:
        plugin = import_module("rhodb.browse_plugin")
        plugins = import_module("datasette.plugins").pm
    except ModuleNotFoundError as error:
        raise InputError("rhodb browse needs the package datasette: pip install 'rhodb[browse]'") from error
    Warehouse.open(location.path, create=False, read_only=True).close()  # says what is wrong
    if not plugins.is_registered(plugin):
        plugins.register(plugin, name="rhodb")
    if plugins.get_plugin(OWN_HANDLER):
        plugins.unregister(name=OWN_HANDLER)
    make = import_module("datasette.app").Datasette
    sqlite3.enable_callback_tracebacks(False)  # importing Datasette turns them on
    name = location.path.stem
    site = make([str(location.path)], metadata=metadata(name), settings=SETTINGS)
    site.remove_database(name)
    site.add_database(plugin.LimitedDatabase(site, location), name=name)
    return site


def serve(location: Location, *, port: int, announce: Callable[[str], None]) -> None:
    """Serve until interrupted. `announce` is told the link as soon as the port is taken."""
    site = make_site(location)
    uvicorn = import_module("uvicorn")  # comes with Datasette
    with ExitStack() as stack:
        listeners = [stack.enter_context(_listener(socket.AF_INET, HOST, port))]
        port = listeners[0].getsockname()[1]
        with suppress(InputError):  # a machine without IPv6, or its port is taken: `localhost` leads to IPv4 then
            listeners.append(stack.enter_context(_listener(socket.AF_INET6, HOST_6, port)))
        door = PrintedLinkOnly(site.app(), port=port)
        announce(door.link)
        config = uvicorn.Config(door, log_level="warning", lifespan="on", ws="none")
        uvicorn.Server(config).run(sockets=listeners)


def _listener(family: socket.AddressFamily, host: str, port: int) -> socket.socket:
    """A socket that takes connections from this machine only."""
    listener = socket.socket(family)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen()
    except OSError as error:
        listener.close()
        raise InputError(f"port {port} is taken ({error.strerror}): choose another with --port") from error
    return listener
