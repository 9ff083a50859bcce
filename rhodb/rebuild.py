"""A warehouse made anew from what can be read of the old one, its spool and its files, if nothing is missing then.

The exchange is SQLite's own: the new contents are written over the old file in one transaction (the online backup), so
that no file is renamed while others have it open, whoever has it open goes on with the new contents, and a process that
dies at any moment leaves the old contents or the new, which the next one that opens the file finds. A rename could not
do that: the old file's WAL would lie beside the new file.
"""

import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.exc import DBAPIError

from rhodb.errors import DatabaseBusyError, DatabaseError, InputError
from rhodb.ingest import IngestReport, ingest
from rhodb.inventory import details, totals
from rhodb.location import Location, locate
from rhodb.migrate import check_known, current, only_one
from rhodb.place import Kind, for_warehouse, stamp, sync
from rhodb.salvage import Loss, salvage
from rhodb.spool import RecoverReport, Spool, recover, replay
from rhodb.transfer import merge
from rhodb.warehouse import Warehouse

WAIT_S = 60.0
TRIES = 5
"""How often the exchange is tried when somebody writes between the end of our lock and its begin."""
OLD, READ, FRESH = "old.db", "read.db", "fresh.db"


@dataclass(frozen=True, kw_only=True)
class Rebuilt:
    """What a rebuilt warehouse was made from."""

    kept: int
    """Runs that were carried over from the old warehouse."""
    recovered: RecoverReport
    ingested: IngestReport
    gone: tuple[str, ...]
    """Ingested files that are not where they were. Their runs are carried over."""
    missing: tuple[Loss, ...]
    """What the new warehouse lacks. If any of it was not named in `without`, the old one is still in place."""
    replaced: bool
    copy: Path | None
    """Copy of the old database."""


class _Changed(Exception):  # noqa: N818  not an error: the exchange begins anew
    """Somebody wrote into the old warehouse meanwhile."""


def rebuild(
    db: str | os.PathLike[str] | None = None, paths: Sequence[Path] = (), *, without: Collection[str] = ()
) -> Rebuilt:
    """Make a warehouse anew from itself, its spool, the files it names and `paths`.

    Rows of the old warehouse come first, those of its spool and files fill in what is missing or cannot be read.
    `without` names what may be lacking afterwards: a run (its uuid, or at least 8 characters of it), which is then made
    from the spool and the files alone, or a table with unreadable rows. Where anything else would be missing, the old
    warehouse stays as it is. Nobody can write into it meanwhile; they wait.
    """
    location = locate(db)
    if location.path is None:
        raise InputError(f"rhodb rebuild is for SQLite files: use a new database and `rhodb merge` for {location}")
    path = location.path
    there = for_warehouse(location.asked or path, create=True).kind is not Kind.FREE
    if there:
        with suppress(DBAPIError):  # damaged, which is what a rebuild is for
            check_known(current(location), location)
    elif not paths and not _spooled(location):
        raise InputError(f"there is nothing at {path} and nothing in its spool: name the files to make it from")
    path.parent.mkdir(parents=True, exist_ok=True)
    with only_one(location):
        _tidy(path)
        for _ in range(TRIES):
            try:
                return _once(location, paths, frozenset(without), there=there)
            except _Changed:
                continue
    raise DatabaseBusyError(f"{path} was written to again and again: nothing was changed; try again later")


def _spooled(location: Location) -> bool:
    spool = Spool(folder=location.spool_folder)
    return bool(spool.pending() or spool.inserted())


def _tidy(path: Path) -> None:
    """Remove what a rebuild left that was killed: it never held anything that is not in the warehouse."""
    for folder in path.parent.glob(f".{path.name}.rebuild-*"):
        if folder.is_dir() and not folder.is_symlink():
            strange = [file for file in folder.iterdir() if not file.name.startswith((OLD, READ, FRESH))]
            if not strange:
                shutil.rmtree(folder)


def _once(location: Location, paths: Sequence[Path], without: frozenset[str], *, there: bool) -> Rebuilt:
    path = location.path
    assert path is not None
    made_at = stamp()
    place = path.with_name(f".{path.name}.rebuild-{made_at}")
    place.mkdir()
    kept_at = path.with_name(f"{path.stem}.before-rebuild-{made_at}{path.suffix}") if there else None
    try:
        with _held(path) if there else nullcontext() as lock:
            if lock is not None:
                _copy(path, place / OLD)
            made = _make(location, place, paths, without, there=there)
            if any(not _named(loss.name, without) for loss in made.missing):
                return made
            if lock is None:  # and `only_one` keeps others from making a warehouse here
                (place / FRESH).rename(path)
                sync(path.parent)
            else:
                assert kept_at is not None
                _keep_and_exchange(lock, place, path, kept_at)
    finally:
        shutil.rmtree(place)
    with Warehouse.open(path) as wh:
        recover(wh)  # what waits in the spool is in the new warehouse: it is settled now
    return Rebuilt(**(vars(made) | {"replaced": True, "copy": kept_at}))


def _keep_and_exchange(lock: sqlite3.Connection, place: Path, path: Path, kept_at: Path) -> None:
    (place / OLD).rename(kept_at)
    sync(path.parent)
    try:
        version = _version(lock)
        lock.rollback()
        _exchange(place / FRESH, path, lambda: _version(lock) == version)
    except BaseException:
        kept_at.unlink()
        raise


def _version(lock: sqlite3.Connection) -> int:
    """Changes when another connection commits."""
    return int(lock.execute("PRAGMA data_version").fetchone()[0])


@contextmanager
def _held(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that holds SQLite's write lock on a warehouse, damaged or not."""
    with closing(_open(path)) as lock:
        try:
            lock.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            raise DatabaseBusyError(f"{path} is locked by another program: nothing was changed; try again") from error
        except sqlite3.DatabaseError as error:
            raise DatabaseError(f"{path} is damaged from its first page on: move it away, then rebuild") from error
        yield lock


def _open(path: Path) -> sqlite3.Connection:
    raw = sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, isolation_level=None, timeout=WAIT_S)
    raw.execute("PRAGMA writable_schema = ON")  # SQLite then takes a file that is shorter than it says
    return raw


def _copy(path: Path, target: Path) -> None:
    """Page by page through SQLite: closing the file itself would break our lock on it."""
    with closing(_open(path)) as old, closing(sqlite3.connect(target)) as copy:
        old.backup(copy)
    sync(target)


def _make(location: Location, place: Path, paths: Sequence[Path], without: frozenset[str], *, there: bool) -> Rebuilt:
    """The new warehouse, `place`/FRESH, and what it lacks."""
    read, fresh = place / READ, place / FRESH
    losses = salvage(place / OLD, read) if there else []
    with Warehouse.open(read) as old, Warehouse.open(fresh) as new:
        runs = _states(old)
        broken = {loss.name for loss in losses}
        dropped = {run for run in runs if _named(run, without)} - broken
        anew = broken | dropped
        files = [row["path"] for row in old.rows("SELECT path FROM sources ORDER BY id")]
        again = _sources_of(old, anew)
        merge(new, old, unfinished=True, without_runs=anew, without_sources=again)
        recovered = replay(new, Spool(folder=location.spool_folder))
        wanted = [Path(file) for file in dict.fromkeys([*files, *map(str, paths)])]
        ingested = ingest(new, [file for file in wanted if file.exists()])
        made = {run for run, state in _states(new).items() if state in ("done", runs.get(run, "done"))}
        merge(new, old, on_conflict="keep", unfinished=True, without_runs=dropped)
        missing = [loss for loss in losses if loss.name not in made]
        missing += _lacking(old, new, made & anew, dropped)
    with closing(sqlite3.connect(fresh)) as raw:
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    sync(fresh)
    return Rebuilt(
        kept=len(runs.keys() - (made & anew) - dropped), recovered=recovered, ingested=ingested, missing=tuple(missing),
        gone=tuple(str(file) for file in wanted if not file.exists()), replaced=False, copy=None,
    )  # fmt: skip


def _states(wh: Warehouse) -> dict[str, str]:
    return {row["uuid"]: row["state"] for row in wh.rows("SELECT uuid, state FROM runs")}


def _sources_of(old: Warehouse, runs: Collection[str]) -> set[str]:
    """Files that some runs stand in."""
    sql = (
        "SELECT DISTINCT uuid, path FROM sources JOIN run_sources ON source_id = sources.id "
        "JOIN runs ON runs.id = run_id"
    )
    return {row["path"] for row in old.rows(sql) if row["uuid"] in runs} if runs else set()


def _lacking(old: Warehouse, new: Warehouse, remade: Collection[str], dropped: Collection[str]) -> list[Loss]:
    """Compare the two run by run. Runs that were made anew may differ; those that were dropped may lack."""
    with old.read() as ours, new.read() as theirs:
        before, after = totals(ours), totals(theirs)
        found = [Loss(name=run, what="neither the spool nor a file holds it") for run in dropped if run not in after]
        changed = {owner for owner, rows in before.items() if rows != after.get(owner)} - {*remade, *dropped}
        if not changed:
            return found
        held, holds = details(ours, changed), details(theirs, changed)
    for (owner, table), rows in held.items():
        lost = len(rows - holds.get((owner, table), set()))
        if lost:
            found.append(Loss(name=owner, what=f"{lost} rows of {table} would be missing or changed"))
    return found


def _named(name: str, without: Collection[str]) -> bool:
    return any(name == word or (len(word) >= 8 and name.startswith(word)) for word in without)


def _exchange(fresh: Path, path: Path, unchanged: Callable[[], bool]) -> None:
    """Write the new contents over the old in one transaction of SQLite, unless somebody has changed them.

    SQLite cannot hand our lock on to its backup. So the backup's first step takes the lock anew, and then we look.
    """
    deadline = time.monotonic() + WAIT_S

    locked = False

    def look(status: int, _left: int, _total: int) -> None:
        nonlocal locked
        if status == sqlite3.SQLITE_OK and not locked:
            locked = True
            if not unchanged():
                raise _Changed
        if not locked and time.monotonic() > deadline:
            raise DatabaseBusyError(f"{path} is locked by another program: nothing was changed; try again")

    with closing(sqlite3.connect(fresh)) as new, closing(_open(path)) as old:
        # The last step commits: there must be one before it.
        pages = max(1, new.execute("PRAGMA page_count").fetchone()[0] // 2)
        try:
            new.backup(old, pages=pages, progress=look, sleep=0.02)
        except sqlite3.OperationalError as error:
            raise DatabaseBusyError(f"{path} was not changed: {error}") from error
