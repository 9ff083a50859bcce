"""Care of a warehouse: verified backups, vacuum, and rebuilding it from what was spooled and ingested."""

import os
import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy.exc import DBAPIError

from rhodb.errors import DatabaseBusyError, DatabaseError, InputError
from rhodb.ingest import IngestReport, ingest
from rhodb.location import Location, locate, read_only_uri
from rhodb.migrate import check_known, current
from rhodb.place import Kind, for_new, for_warehouse, rename_new, sync
from rhodb.spool import RecoverReport, Spool, recover
from rhodb.warehouse import Warehouse


def _stamp() -> str:
    return datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")


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
    target = target or source.with_name(f"{source.stem}.backup-{_stamp()}{source.suffix}")
    if target.is_dir():
        target = target / f"{source.stem}.backup-{_stamp()}{source.suffix}"
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
        with closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as connection:
            connection.execute("VACUUM")
            connection.execute("ANALYZE")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorname", "")
        busy = code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_FULL"))
        reason = "the disk is full (it needs room for a copy)" if code == "SQLITE_FULL" else str(error)
        raise (DatabaseBusyError if busy else DatabaseError)(f"{path} was not vacuumed: {reason}") from error
    return Vacuumed(before=before, after=path.stat().st_size)


@dataclass(frozen=True, kw_only=True)
class Rebuilt:
    """What a rebuilt warehouse was made from."""

    recovered: RecoverReport
    ingested: IngestReport
    lost: tuple[str, ...]
    """Ingested files that are not where they were."""
    moved: Path | None
    """Where the old database is now."""


def rebuild(db: str | os.PathLike[str] | None = None, paths: Sequence[Path] = ()) -> Rebuilt:
    """Make a warehouse anew from the outcomes in its spool and the files that it was made from.

    The files are those that the old warehouse names, as far as it can be read, and `paths`. The old database is moved
    aside, never deleted; if anything goes wrong it stays where it was.
    """
    location = locate(db)
    path = _file(location, "rhodb rebuild", "a new database and `rhodb runs recover`, `rhodb ingest`")
    if for_warehouse(location.asked or path, create=True).kind is not Kind.FREE:
        with suppress(DBAPIError):  # damaged, which is what a rebuild is for
            check_known(current(location), location)
    known = _source_paths(path)
    wanted = list(dict.fromkeys([*(Path(name) for name in known), *paths]))
    present = [file for file in wanted if file.exists()]
    fresh = path.with_name(f"{path.stem}.rebuilding-{_stamp()}{path.suffix}")
    spool = Spool(folder=location.spool_folder)
    try:
        with Warehouse.open(fresh) as wh:
            _unsettle(spool)
            recovered = recover(wh, spool)
            ingested = ingest(wh, present)
        with closing(sqlite3.connect(fresh)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        moved = _swap(path, fresh)
    finally:
        for leftover in path.parent.glob(f"{fresh.name}*"):
            leftover.unlink()
    lost = tuple(str(file) for file in wanted if not file.exists())
    return Rebuilt(recovered=recovered, ingested=ingested, lost=lost, moved=moved)


def _source_paths(path: Path) -> list[str]:
    """Files that an old warehouse was made from; none if it cannot be read."""
    if not path.exists():
        return []
    try:
        with closing(sqlite3.connect(read_only_uri(path), uri=True)) as connection:
            return [name for (name,) in connection.execute("SELECT path FROM sources ORDER BY id")]
    except sqlite3.Error:
        return []


def _unsettle(spool: Spool) -> None:
    """Outcomes that were inserted wait again. Copied: the settled ones stay whatever happens."""
    for settled in spool.inserted():
        waiting = spool.folder / settled.name
        if not waiting.exists():
            shutil.copy2(settled, waiting)


def _swap(path: Path, fresh: Path) -> Path | None:
    """Put the new database in the old one's place."""
    moved = None
    if path.exists():
        moved = path.with_name(f"{path.stem}.before-rebuild-{_stamp()}{path.suffix}")
        for ending in ("", "-wal", "-shm"):
            part = path.with_name(path.name + ending)
            if part.exists():
                part.replace(moved.with_name(moved.name + ending))
    fresh.replace(path)
    return moved
