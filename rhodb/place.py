"""What stands at a path? Asked before rhodb creates, replaces, moves or deletes anything there.

rhodb takes a place that is free, or one that holds what rhodb made; everything else is refused in one sentence that
names what stands there. Looking changes nothing and never waits: only regular files are opened.
"""

import glob
import os
import shutil
import sqlite3
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path

from rhodb.errors import DatabaseError, InputError
from rhodb.revision import HEAD

APPLICATION_ID = 0x72686462
"""SQLite's `application_id` of a warehouse ("rhdb" in ASCII), from schema 0003 on."""
_USER_VERSION, _APPLICATION_ID = slice(60, 64), slice(68, 72)
"""Bytes of a database file (https://www.sqlite.org/fileformat.html, section 1.3): schema revision, whose file it is."""
_MAGIC = b"SQLite format 3\0"
_OLDER = {"alembic_version", "models", "probe_sets", "runs", "behavior_scores"}
"""Tables of a warehouse of schema 0001 or 0002, which have no application_id."""
SIDE_FILES = ("-wal", "-shm", "-journal")
"""What SQLite keeps beside a database: committed changes may stand in the first alone."""


class Kind(Enum):
    """What can stand at a path."""

    FREE = "nothing"
    EMPTY = "an empty file or database"
    WAREHOUSE = "a warehouse"
    NEWER = "a warehouse of a newer rhodb"
    DATABASE = "another program's database"
    FILE = "a file of another kind"
    FOLDER = "a folder"
    OTHER = "something that is neither file nor folder, or cannot be looked at"


@dataclass(frozen=True, kw_only=True)
class Place:
    """A path and what stands there. As text: the beginning of a sentence, e.g. `/home/me is your home folder`."""

    path: Path
    """Absolute; links are not followed."""
    kind: Kind
    said: str
    """What stands there, with its verb."""

    def __str__(self) -> str:
        return f"{self.path} {self.said}"


def absolute(path: str | os.PathLike[str]) -> Path:
    """A path with `~` and what is relative resolved; links stay. Raises InputError for one that cannot be."""
    text = os.fspath(path)
    if not text or "\0" in text:
        raise InputError(f"{text!r} is no path: name a file")
    try:
        return Path(os.path.abspath(Path(text).expanduser()))  # noqa: PTH100  Path.absolute keeps `..`
    except RuntimeError as error:
        raise InputError(f"{text!r} cannot be resolved: there is no such user") from error


def look(path: str | os.PathLike[str]) -> Place:
    """What stands at a path; a link is followed."""
    place = absolute(path)
    try:
        status = place.stat()
    except (FileNotFoundError, NotADirectoryError):
        return _nothing(place)
    except OSError as error:
        return Place(path=place, kind=Kind.OTHER, said=f"cannot be looked at ({error.strerror})")
    target = f"is a link to {place.resolve()}, which " if place.is_symlink() else ""
    kind, said = _standing(place, status)
    return Place(path=place, kind=kind, said=target + said)


def _nothing(place: Path) -> Place:
    if place.is_symlink():
        said = f"is a link to {place.readlink()}, where nothing stands (is a disk missing?)"
        return Place(path=place, kind=Kind.OTHER, said=said)
    above = next(folder for folder in place.parents if os.path.lexists(folder))
    if not above.is_dir():
        return Place(path=place, kind=Kind.OTHER, said=f"would lie in {above}, which is no folder")
    return Place(path=place, kind=Kind.FREE, said="is free")


def _standing(place: Path, status: os.stat_result) -> tuple[Kind, str]:
    mode = status.st_mode
    if stat.S_ISDIR(mode):
        home = Path("~").expanduser() if "HOME" in os.environ else place.parent
        at_home = home.exists() and home.samefile(place)
        return Kind.FOLDER, "is your home folder" if at_home else "is a folder"
    if not stat.S_ISREG(mode):
        words = {stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
        return Kind.OTHER, f"is {words.get(stat.S_IFMT(mode), 'neither file nor folder')}"
    return _file(place)


def _file(place: Path) -> tuple[Kind, str]:
    try:
        header = _header(place)
    except OSError as error:
        return Kind.OTHER, f"may not be read ({error.strerror})"
    if not header:
        return Kind.EMPTY, "is an empty file"
    if not header.startswith(_MAGIC):
        return Kind.FILE, "is a file, and not a database"
    application_id, revision = (int.from_bytes(header[part], "big") for part in (_APPLICATION_ID, _USER_VERSION))
    if application_id == APPLICATION_ID:
        return _ours(revision)
    return _others(place, application_id)


def _header(place: Path) -> bytes:
    """The first bytes of a file, without breaking a lock on it.

    Closing a file takes from this process every POSIX lock that it has there, those of its open SQLite connections too
    (https://www.sqlite.org/howtocorrupt.html, 2.2). So a descriptor that is open already is read, and never closed.
    """
    for descriptor in _descriptors(place):
        return os.pread(descriptor, 100, 0)
    descriptor = os.open(place, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    found = os.pread(descriptor, 100, 0)
    if threading.active_count() == 1 or not found.startswith(_MAGIC):  # else a thread may have locked it meanwhile
        os.close(descriptor)
    return found


def _descriptors(place: Path) -> Iterator[int]:
    """Descriptors of this process that are open on a file."""
    wanted = place.stat()
    for name in os.listdir("/dev/fd"):  # noqa: PTH208  numbers, not files
        with suppress(OSError):  # closed meanwhile, as the one that lists them is
            if os.path.samestat(os.fstat(int(name)), wanted):
                yield int(name)


def _ours(revision: int) -> tuple[Kind, str]:
    if revision <= int(HEAD):
        return Kind.WAREHOUSE, "is a warehouse"
    return Kind.NEWER, f"has schema {revision:04}, which is newer than schema {HEAD} of this rhodb"


def _others(place: Path, application_id: int) -> tuple[Kind, str]:
    tables = _tables(place)
    if tables is None:
        return Kind.DATABASE, "is a damaged database without a sign that rhodb made it"
    if not application_id and tables >= _OLDER:
        return Kind.WAREHOUSE, "is a warehouse of an older schema"
    if not application_id and tables <= {"alembic_version"}:  # as a downgrade to nothing leaves it
        return Kind.EMPTY, "is an empty database"
    names = ", ".join(sorted(tables)[:3]) or "none"
    return Kind.DATABASE, f"is a database of another program (tables: {names})"


def _tables(place: Path) -> set[str] | None:
    """Tables of a database file; None if they cannot be read.

    `immutable`: nothing is locked or made beside it. What stands in its WAL alone is not seen; opening it will tell.
    That does not do where this process has it open already; see `_header`.
    """
    how = "mode=ro" if any(_descriptors(place)) else "mode=ro&immutable=1"
    try:
        with closing(sqlite3.connect(f"{place.resolve().as_uri()}?{how}", uri=True)) as raw:
            raw.execute("PRAGMA writable_schema = ON")  # a file that was cut off is still looked into
            return {name for (name,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except sqlite3.Error:
        return None


def for_warehouse(path: Path, *, create: bool) -> Place:
    """A place that holds a warehouse, or, to create one, nothing. Raises DatabaseError for any other.

    An empty file or database passes. Opening it tells what schema it has.
    """
    found = look(path)
    if found.kind in (Kind.WAREHOUSE, Kind.EMPTY):
        return found
    if found.kind is Kind.NEWER:
        raise DatabaseError(f"{found}: upgrade rhodb")
    if found.kind is Kind.FOLDER:
        raise DatabaseError(f"{found}, not a database: give the file, e.g. {found.path / 'master.db'}")
    if found.kind is not Kind.FREE:
        raise DatabaseError(f"{found}: choose another with --db, or move it away")
    if not create:
        raise DatabaseError(
            f"there is no warehouse at {found.path}: run an experiment, or `rhodb db upgrade`, to create it"
        )
    _check_leftovers(found)
    return found


def _check_leftovers(found: Place) -> None:
    """What stands beside a missing database may hold the last of it. Raises DatabaseError."""
    for side in SIDE_FILES:
        left = found.path.with_name(found.path.name + side)
        if left.exists() and left.stat().st_size:
            raise DatabaseError(
                f"{found.path} is missing, but {left} is there, which may hold the last changes of the database that "
                "stood here: bring that back, or move this file away"
            )
    # rhodb 0.4.0 moved the old database away before the new one came, and could die in between.
    name, suffix = glob.escape(found.path.stem), glob.escape(found.path.suffix)
    moved = sorted(found.path.parent.glob(f"{name}.before-rebuild-*{suffix}"))
    if moved and any(found.path.parent.glob(f"{name}.rebuilding-*{suffix}")):
        raise DatabaseError(
            f"{found.path} is missing because a rebuild was interrupted: move {moved[-1]} back to it, and its -wal if "
            "there is one"
        )


def for_new(path: str | os.PathLike[str], what: str) -> Path:
    """An absolute path where nothing stands yet. Raises InputError naming what does; `what` is asked for instead."""
    found = look(path)
    if found.kind is not Kind.FREE:
        there = "" if found.kind is Kind.OTHER else " and exists already"
        raise InputError(f"{found}{there}: name {what}")
    return found.path


def for_output(path: str | os.PathLike[str], is_ours: Callable[[bytes], bool]) -> Path:
    """Where a file may be written: a free place, or one whose first 64 KiB show that rhodb wrote it; links followed.

    Raises InputError for anything else.
    """
    found = look(path)
    if found.kind is Kind.FREE or (found.kind is Kind.EMPTY and not found.path.stat().st_size):
        return found.path.resolve()
    if found.kind is Kind.FILE:
        with found.path.open("rb") as file:
            if is_ours(file.read(1 << 16)):
                return found.path.resolve()
        raise InputError(f"{found.path} is a file that rhodb did not write: choose another name, or move it away")
    raise InputError(f"{found}: choose another name, or move it away")


def for_folder(path: str | os.PathLike[str]) -> Path:
    """A folder for files, made when it is needed. Raises InputError where something else stands."""
    found = look(path)
    if found.kind not in (Kind.FREE, Kind.FOLDER):
        raise InputError(f"{found}, not a folder: choose another")
    return found.path


def for_lock(path: Path) -> Path:
    """A lock file: nothing, or an empty file (locking empties it). Raises DatabaseError for anything else."""
    found = look(path)
    empty = found.kind is Kind.EMPTY and not path.stat().st_size and not path.is_symlink()
    if found.kind is not Kind.FREE and not empty:
        raise DatabaseError(f"{found}, where rhodb's lock file belongs: move it away")
    return path


def for_reading(path: str | os.PathLike[str]) -> Path:
    """A regular file to read. Raises InputError for what is missing or no file: nothing waits for a FIFO."""
    place = absolute(path)
    if place.is_file():
        return place
    found = look(place)
    raise InputError(f"{place} does not exist" if found.kind is Kind.FREE else f"{found}: give a file")


def write_whole(path: Path, data: bytes) -> Path:
    """Write beside, flush to the disk, rename: the file is there whole or not at all. Makes its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)
    return path


def stamp() -> str:
    """The time, UTC, for the name of a copy: sorts as text, and a second one within a second differs."""
    return datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")


def sync(path: Path) -> None:
    """Flush a file, or a folder's names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def rename_new(temporary: Path, target: Path) -> None:
    """Give a finished file its name, unless something has come to stand there. Raises FileExistsError."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if os.path.lexists(target):
            raise FileExistsError(17, "File exists", str(target)) from None
        temporary.rename(target)
    else:
        temporary.unlink()
    sync(target.parent)


def replace_folder(draft: Path, folder: Path) -> None:
    """Put a finished folder in the place of an older one that holds nothing but files of the same names.

    Raises InputError where anything else stands.
    """
    found = look(folder)
    if found.kind is Kind.FREE:
        draft.rename(folder)
        return
    names = {path.name for path in draft.iterdir()}
    if found.kind is not Kind.FOLDER or folder.is_symlink():
        raise InputError(f"{found}: move it away")
    strange = [path for path in folder.iterdir() if path.name not in names or path.is_symlink() or not path.is_file()]
    if strange:
        raise InputError(f"{folder} holds {strange[0].name}, which rhodb did not write: move it away")
    old = Path(tempfile.mkdtemp(prefix=f".{folder.name}-old-", dir=folder.parent))
    folder.rename(old / "was")
    draft.rename(folder)
    shutil.rmtree(old)
