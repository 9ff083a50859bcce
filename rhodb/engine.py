"""Connections: where the warehouse is, how SQLite is set up, and what a driver's error means to a person."""

import math
import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, OperationalError
from sqlalchemy.pool import NullPool, QueuePool

from rhodb.errors import DatabaseBusyError, DatabaseError, RhodbError

DEFAULT_DB = "results/master.db"
ENVIRONMENT_VARIABLE = "RHODB_DB"
BUSY_TIMEOUT_MS = 5_000
OLDEST_SQLITE = (3, 37, 0)


@dataclass(frozen=True, kw_only=True)
class Location:
    """Where a warehouse is: a file, or a server's URL."""

    path: Path | None
    """Absolute, symbolic links followed, so that lock, WAL and spool lie beside the real file."""
    url: URL | None

    def __str__(self) -> str:
        return str(self.path) if self.path else self.url.render_as_string() if self.url else "?"

    @property
    def folder(self) -> Path:
        """Where the files of a warehouse go: beside the database file, or `results` for a server."""
        return self.path.parent if self.path is not None else Path("results").absolute()

    @property
    def spool_folder(self) -> Path:
        """Folder for outcomes that are not inserted yet, one a warehouse: spool/<database's name>/."""
        name = self.path.stem if self.path is not None else (self.url.database if self.url else None)
        return self.folder / "spool" / (name or "server")


def locate(db: str | os.PathLike[str] | None = None) -> Location:
    """Resolve what the user gave (path or URL), else `RHODB_DB`, else `results/master.db`."""
    text = os.fspath(db) if db is not None else os.environ.get(ENVIRONMENT_VARIABLE) or DEFAULT_DB
    if not text.strip() or text == ":memory:" or "\0" in text:
        raise DatabaseError(f"{text!r} does not name a warehouse: give a file path or a PostgreSQL URL")
    if "://" not in text:
        return Location(path=Path(text).expanduser().resolve(), url=None)
    try:
        url = make_url(text)
        backend = url.get_backend_name()
    except (ArgumentError, NoSuchModuleError) as error:
        raise DatabaseError(f"{text!r} is not a database URL: {error}") from error
    if backend == "sqlite":
        if not url.database or url.database == ":memory:":
            raise DatabaseError(f"{text!r} does not name a file: write sqlite:///PATH")
        return Location(path=Path(url.database).expanduser().resolve(), url=None)
    if backend in ("postgresql", "postgres"):
        return Location(path=None, url=url.set(drivername="postgresql+psycopg"))
    raise DatabaseError(f"rhodb knows no {backend!r} databases: give a file path or a PostgreSQL URL")


def _sqlite_uri(path: Path, *, create: bool, read_only: bool) -> str:
    """A `file:` URI. `immutable` lets a WAL database be read where its -shm file cannot be made."""
    if not read_only:
        return f"{path.as_uri()}?mode={'rwc' if create else 'rw'}"
    wal = path.with_name(f"{path.name}-wal")
    sealed = not os.access(path.parent, os.W_OK) and not (wal.exists() and wal.stat().st_size)
    return f"{path.as_uri()}?mode=ro{'&immutable=1' if sealed else ''}"


def sqlite_engine(path: Path, *, create: bool, read_only: bool, foreign_keys: bool = True) -> Engine:
    """An engine for a SQLite file. Transactions begin as the connection's option `begin` says."""

    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        oldest = ".".join(map(str, OLDEST_SQLITE))
        raise DatabaseError(f"this Python has SQLite {sqlite3.sqlite_version}, rhodb needs {oldest} (STRICT tables)")

    def connect() -> sqlite3.Connection:
        # check_same_thread: the pool hands a connection to one thread at a time.
        raw = sqlite3.connect(
            _sqlite_uri(path, create=create, read_only=read_only),
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            timeout=BUSY_TIMEOUT_MS / 1000,
        )
        raw.execute(f"PRAGMA foreign_keys = {'ON' if foreign_keys else 'OFF'}")
        raw.execute("PRAGMA synchronous = FULL")
        if not _has_sqrt():
            raw.create_function("sqrt", 1, _sqrt, deterministic=True)
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
        raise DatabaseError(
            f"{url.render_as_string()} needs the package psycopg: pip install 'psycopg[binary]'"
        ) from error


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
