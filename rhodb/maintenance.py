"""Care of a warehouse: verified backups and vacuum; making it anew is `rhodb.rebuild`."""

import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from rhodb.errors import DatabaseBusyError, DatabaseError, InputError
from rhodb.location import Location, read_only_uri
from rhodb.migrate import only_one
from rhodb.place import for_new, rename_new, stamp, sync
from rhodb.warehouse import Warehouse


def _file(location: Location, what: str, instead: str) -> Path:
    """The database file. A server has tools of its own."""
    if location.path is None:
        raise InputError(f"{what} is for SQLite files: use {instead} for {location}")
    return location.path


def backup(wh: Warehouse, target: Path | None = None) -> Path:
    """Copy a warehouse while it is in use (SQLite's online backup), check the copy, and only then name it `target`.

    Without a target: beside the warehouse, with the time in its name. An existing file is never overwritten.
    """
    source = _file(wh.location, "rhodb db backup", "pg_dump")
    target = target or source.with_name(f"{source.stem}.backup-{stamp()}{source.suffix}")
    if target.is_dir():
        target = target / f"{source.stem}.backup-{stamp()}{source.suffix}"
    target = for_new(target, "a file that does not")
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DatabaseError(f"{target} cannot be written: {error.strerror}") from error
    try:
        with (
            closing(sqlite3.connect(read_only_uri(source), uri=True)) as original,
            closing(sqlite3.connect(temporary)) as copy,
        ):
            original.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")
        _verify(temporary)
        sync(temporary)
        rename_new(temporary, target)
    except OSError as error:
        raise DatabaseError(f"{target} cannot be written: {error.strerror}") from error
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorname", "")
        kind = DatabaseBusyError if code == "SQLITE_FULL" else DatabaseError
        reason = "the disk is full" if code == "SQLITE_FULL" else str(error)
        raise kind(f"no backup of {source} could be made at {target}: {reason}") from error
    finally:
        for path in (temporary, temporary.with_name(temporary.name + "-journal")):
            if path.exists():
                path.unlink()
    return target


def _verify(path: Path) -> None:
    with closing(sqlite3.connect(path)) as copy:
        found = copy.execute("PRAGMA integrity_check").fetchall()
        broken = copy.execute("PRAGMA foreign_key_check").fetchone()
    if found != [("ok",)] or broken is not None:
        raise DatabaseError(f"the backup is not sound ({found[0][0]}): run `rhodb db check` on the warehouse")


@dataclass(frozen=True, kw_only=True)
class Vacuumed:
    """Size of the database file, bytes."""

    before: int
    after: int


def vacuum(wh: Warehouse) -> Vacuumed:
    """Give free pages back to the disk and refresh the query planner's statistics."""
    path = _file(wh.location, "rhodb db vacuum", "VACUUM ANALYZE")
    before = path.stat().st_size
    try:
        with only_one(wh.location), closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as connection:
            connection.execute("VACUUM")
            connection.execute("ANALYZE")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorname", "")
        busy = code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_FULL"))
        reason = "the disk is full (it needs room for a copy)" if code == "SQLITE_FULL" else str(error)
        raise (DatabaseBusyError if busy else DatabaseError)(f"{path} was not vacuumed: {reason}") from error
    return Vacuumed(before=before, after=path.stat().st_size)
