"""`rhodb browse`: the warehouse in a web browser through Datasette, read-only, on this machine only."""

import html
import re
import socket
from importlib import import_module
from typing import Any

from rhodb.describe import VIEWS, columns, tables
from rhodb.errors import InputError
from rhodb.location import Location
from rhodb.queries import SavedQuery, saved_queries
from rhodb.view_columns import WIDE
from rhodb.warehouse import Warehouse

HOST = "127.0.0.1"
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
    "sql_time_limit_ms": 10_000,
    "max_returned_rows": 2_000,
    "default_page_size": 50,
    "facet_time_limit_ms": 500,
    "allow_download": False,
    "num_sql_threads": 3,
}
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
    make = import_module("datasette.app").Datasette
    return make([str(location.path)], metadata=metadata(location.path.stem), settings=SETTINGS)


def serve(location: Location, *, port: int, announce: Any) -> None:
    """Serve until interrupted. `announce` is told the address as soon as the port is taken."""
    site = make_site(location)
    uvicorn = import_module("uvicorn")  # comes with Datasette
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
        except OSError as error:
            raise InputError(f"port {port} is taken ({error.strerror}): choose another with --port") from error
        listener.listen()
        announce(f"http://{HOST}:{listener.getsockname()[1]}/")
        config = uvicorn.Config(site.app(), log_level="warning", lifespan="on")
        uvicorn.Server(config).run(sockets=[listener])
