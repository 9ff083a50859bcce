"""Bringing a warehouse to this rhodb's schema: one process migrates, in one transaction, after a backup."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib.resources import files
from pathlib import Path

from alembic import command
from alembic.config import Config
from filelock import FileLock, Timeout
from sqlalchemy import Connection, create_engine, inspect, text
from sqlalchemy.exc import DBAPIError

from rhodb.engine import Location, locate, server_engine, sqlite_engine, translate
from rhodb.errors import DatabaseBusyError, DatabaseError
from rhodb.place import Kind, for_lock, for_warehouse, rename_new, stamp, sync
from rhodb.revision import HEAD

LOCK_TIMEOUT_S = 120.0
ADVISORY_LOCK = 0x72686F6462
"""Number of the PostgreSQL advisory lock that serialises migrations ("rhodb" in ASCII)."""


def script_location() -> Path:
    """The folder of Alembic's revisions, wherever the package is installed."""
    return Path(str(files("migrations")))


def _config(connection: Connection) -> Config:
    config = Config()
    # Alembic interpolates % in its settings, and a path may hold one.
    config.set_main_option("script_location", str(script_location()).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def revision_of(connection: Connection) -> str | None:
    """The schema revision, or None for an empty database. A database of another program is refused."""
    tables = inspect(connection).get_table_names()
    if "alembic_version" in tables:
        found = connection.scalar(text("SELECT version_num FROM alembic_version"))
        if found is not None or tables == ["alembic_version"]:
            return str(found) if found is not None else None
    elif not tables:
        return None
    raise DatabaseError(
        f"the database holds tables of another program ({', '.join(sorted(tables)[:3])}, ...): choose another with --db"
    )


def check_known(revision: str | None, location: Location) -> None:
    """Refuse a schema newer than this rhodb, or one that is not rhodb's."""
    if revision is None or (revision.isdigit() and revision <= HEAD):
        return
    from rhodb import __version__

    if revision.isdigit() and len(revision) == len(HEAD):
        raise DatabaseError(
            f"{location} has schema {revision}, which is newer than schema {HEAD} of this rhodb {__version__}: "
            "upgrade rhodb"
        )
    raise DatabaseError(f"{location} belongs to another program (schema {revision}): choose another with --db")


@contextmanager
def migration_connection(db: str | Location | None) -> Iterator[Connection]:
    """A connection inside one write transaction, foreign keys off (SQLite rebuilds tables) but checked at the end."""
    location = db if isinstance(db, Location) else locate(db)
    if location.path is None:
        assert location.url is not None
        engine = server_engine(location.url)
        with engine.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})
            yield connection
        engine.dispose()
        return
    engine = sqlite_engine(location.path, create=True, read_only=False, foreign_keys=False)
    with engine.connect() as plain:
        raw = plain.connection.driver_connection
        assert raw is not None
        raw.execute("PRAGMA journal_mode = WAL")
        connection = plain.execution_options(begin="BEGIN IMMEDIATE")
        with connection.begin():
            yield connection
            broken = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
            if broken:
                raise DatabaseError(
                    f"{location}: {len(broken)} rows point to rows that do not exist (table {broken[0][0]})"
                )
    engine.dispose()


def upgrade(location: Location) -> tuple[str | None, str]:
    """Bring a new or old warehouse to the newest schema. Returns (revision before, revision after).

    Several processes may call this at once: one migrates, the others wait and find it done.
    """
    with only_one(location), _as_rhodb_errors(location):
        before = current(location)
        check_known(before, location)
        if before == HEAD:
            return before, before
        if before is not None and location.path is not None:
            backup(location.path, before)
        with migration_connection(location) as connection:
            # Another machine, or a rhodb without the lock file, may have been faster.
            if revision_of(connection) != HEAD:
                command.upgrade(_config(connection), "head")
        return before, HEAD


def create_at(path: Path, revision: str) -> None:
    """A new, empty warehouse of a certain schema."""
    with migration_connection(Location(path=path, url=None)) as connection:
        command.upgrade(_config(connection), revision)


def downgrade(location: Location, revision: str) -> None:
    """Go back to an older schema (`base`: drop everything), for tests and for rescue; makes a backup first."""
    with only_one(location), _as_rhodb_errors(location):
        if location.path is not None:
            backup(location.path, current(location) or "empty")
        with migration_connection(location) as connection:
            command.downgrade(_config(connection), revision)


def current(location: Location) -> str | None:
    """The revision of a warehouse that may not exist yet."""
    if location.path is None:
        assert location.url is not None
        engine = server_engine(location.url)
    elif location.path.exists():
        engine = sqlite_engine(location.path, create=False, read_only=True)
    else:
        return None
    try:
        with engine.connect() as connection:
            return revision_of(connection)
    finally:
        engine.dispose()


def backup(path: Path, revision: str) -> Path | None:
    """Copy a database that holds rows beside itself, by SQLite's online backup. None if it holds none."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as source:
        if source.execute("SELECT EXISTS (SELECT 1 FROM models)").fetchone() == (0,):
            return None
        made_at = stamp()
        copy = path.with_name(f"{path.stem}.backup-{revision}-{made_at}{path.suffix}")
        temporary = copy.with_name(f".{copy.name}.{os.getpid()}.tmp")
        try:
            with closing(sqlite3.connect(temporary)) as target:
                source.backup(target)
            sync(temporary)
            rename_new(temporary, copy)
        except (sqlite3.Error, OSError) as error:
            temporary.unlink(missing_ok=True)
            raise DatabaseError(f"no backup of {path} could be made, so it was not upgraded: {error}") from error
    return copy


@contextmanager
def only_one(location: Location) -> Iterator[None]:
    """A lock file beside the database; a server is locked in the transaction itself."""
    if location.path is None:
        yield
        return
    lock = FileLock(for_lock(location.path.with_name(f"{location.path.name}.lock")))
    try:
        lock.acquire(timeout=LOCK_TIMEOUT_S)
    except Timeout as error:
        raise DatabaseBusyError(
            f"another process has been migrating {location} for {LOCK_TIMEOUT_S:.0f} s: try again"
        ) from error
    except OSError as error:
        raise DatabaseError(f"{location} cannot be written ({error.strerror}): choose another with --db") from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _as_rhodb_errors(location: Location) -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        raise translate(error, location) or error from error


@contextmanager
def in_memory() -> Iterator[Connection]:
    """An empty warehouse in memory, for looking at the schema itself."""
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        command.upgrade(_config(connection), "head")
        yield connection
    engine.dispose()


def look(location: Location) -> dict[str, str | None]:
    """Where a warehouse stands: its place, its schema, this rhodb's, and what that means. Changes nothing."""
    if location.path is not None and for_warehouse(location.asked or location.path, create=True).kind is Kind.FREE:
        return {"warehouse": str(location), "schema": None, "newest": HEAD, "state": "missing"}
    with _as_rhodb_errors(location):
        found = current(location)
    check_known(found, location)
    state = "empty" if found is None else "up to date" if found == HEAD else "older: run `rhodb db upgrade`"
    return {"warehouse": str(location), "schema": found, "newest": HEAD, "state": state}
