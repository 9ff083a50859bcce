"""Connections: how SQLite is set up, and what a driver's error means to a person."""

import math
import sqlite3
from contextlib import closing
from functools import cache
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.pool import NullPool, QueuePool

from rhodb.errors import DatabaseBusyError, DatabaseError, RhodbError
from rhodb.location import Location, locate, shown, sqlite_uri

__all__ = ["Location", "is_locked", "locate", "lock_bulk_writers", "server_engine", "sqlite_engine", "translate"]

BUSY_TIMEOUT_MS = 5_000
OLDEST_SQLITE = (3, 37, 0)


def sqlite_engine(path: Path, *, create: bool, read_only: bool, foreign_keys: bool = True) -> Engine:
    """An engine for a SQLite file. Transactions begin as the connection's option `begin` says."""

    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        oldest = ".".join(map(str, OLDEST_SQLITE))
        raise DatabaseError(f"this Python has SQLite {sqlite3.sqlite_version}, rhodb needs {oldest} (STRICT tables)")

    def connect() -> sqlite3.Connection:
        # check_same_thread: the pool hands a connection to one thread at a time.
        raw = sqlite3.connect(
            sqlite_uri(path, create=create, read_only=read_only),
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            timeout=BUSY_TIMEOUT_MS / 1000,
        )
        try:
            raw.execute(f"PRAGMA foreign_keys = {'ON' if foreign_keys else 'OFF'}")
            raw.execute("PRAGMA synchronous = FULL")
            if not _has_sqrt():
                raw.create_function("sqrt", 1, _sqrt, deterministic=True)
                raw.create_function("exp", 1, lambda x: None if x is None else math.exp(x), deterministic=True)
                raw.create_function("floor", 1, lambda x: None if x is None else math.floor(x), deterministic=True)
        except BaseException:
            raw.close()
            raise
        return raw

    pool = QueuePool if foreign_keys else NullPool
    engine = create_engine("sqlite://", creator=connect, poolclass=pool)
    event.listen(engine, "begin", _begin)
    return engine


@cache
def _has_sqrt() -> bool:
    """Whether SQLite was built with its mathematical functions, which v_recomputed_scores needs."""
    with closing(sqlite3.connect(":memory:")) as raw:
        options = {row[0] for row in raw.execute("PRAGMA compile_options")}
    return "ENABLE_MATH_FUNCTIONS" in options


def _sqrt(x: float | None) -> float | None:
    return None if x is None or x < 0 else math.sqrt(x)


def _begin(connection: Connection) -> None:
    """Python's sqlite3 begins late and deferred by itself, so the engine does it here."""
    connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN"))


def server_engine(url: URL) -> Engine:
    """An engine for a PostgreSQL server."""
    try:
        return create_engine(url, pool_pre_ping=True)
    except ModuleNotFoundError as error:
        raise DatabaseError(f"{shown(url)} needs the package psycopg: pip install 'psycopg[binary]'") from error


BULK_LOCK = 0x72686F6463
"""Number of the PostgreSQL advisory lock of bulk writers."""


def lock_bulk_writers(connection: Connection) -> None:
    """Let one ingest or merge at a time write to a server, until its transaction ends. SQLite has one writer anyway."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({BULK_LOCK})")


def is_locked(error: DBAPIError) -> bool:
    """Whether SQLite said that another connection holds the lock."""
    return _sqlite_code(error) in ("SQLITE_BUSY", "SQLITE_LOCKED")


def _sqlite_code(error: DBAPIError) -> str:
    """Primary result code, e.g. SQLITE_BUSY for SQLITE_BUSY_SNAPSHOT; empty for other drivers."""
    name = getattr(error.orig, "sqlite_errorname", "") or ""
    return "_".join(name.split("_")[:2])


def translate(error: DBAPIError, location: Location) -> RhodbError | None:
    """The error for a person, or None if the driver's own should surface (a bug, a wrong SQL)."""
    code = _sqlite_code(error)
    sentences = {
        "SQLITE_NOTADB": f"{location} is not a database: move the file away or choose another with --db",
        "SQLITE_CORRUPT": f"{location} is damaged: move it away, put a backup in its place, then `rhodb runs recover`",
        "SQLITE_READONLY": f"{location} cannot be written: change its permissions or choose another with --db",
        "SQLITE_CANTOPEN": f"{location} cannot be opened: check that the folder exists and may be written",
        "SQLITE_PERM": f"{location} may not be accessed: change its permissions or choose another with --db",
        "SQLITE_IOERR": f"{location} cannot be read or written: the disk reports an error ({error.orig})",
    }
    if code in ("SQLITE_BUSY", "SQLITE_LOCKED"):
        return DatabaseBusyError(f"{location} is locked by another program: try again when it has finished")
    if code == "SQLITE_FULL":
        return DatabaseBusyError(f"the disk of {location} is full: free some space and run the command again")
    if code in sentences:
        return DatabaseError(sentences[code])
    if not code and isinstance(error, OperationalError):
        return DatabaseError(f"{location} does not answer: {str(error.orig).strip().splitlines()[0]}")
    return None
