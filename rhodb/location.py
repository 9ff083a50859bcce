"""Where the warehouse is: a file or a server. Loads no SQLAlchemy for a file."""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rhodb.errors import DatabaseError, InputError
from rhodb.place import absolute

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

DEFAULT_DB = "results/master.db"
ENVIRONMENT_VARIABLE = "RHODB_DB"


@dataclass(frozen=True, kw_only=True)
class Location:
    """Where a warehouse is: a file, or a server's URL."""

    path: Path | None
    """Absolute, symbolic links followed, so that lock, WAL and spool lie beside the real file."""
    url: "URL | None"
    asked: Path | None = field(default=None, compare=False)
    """The path as it was asked for, `~` and what is relative resolved, links not followed."""

    def __str__(self) -> str:
        return str(self.path) if self.path else shown(self.url) if self.url else "?"

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
        return _file(text)
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError

    try:
        url = make_url(text)
        backend = url.get_backend_name()
    except (ArgumentError, NoSuchModuleError, ValueError) as error:  # ValueError: a port that is no number
        said = without_passwords(str(error))
        raise DatabaseError(f"{without_passwords(text)!r} is not a database URL: {said}") from None
    if backend == "sqlite":
        if not url.database or url.database == ":memory:":
            raise DatabaseError(f"{without_passwords(text)!r} does not name a file: write sqlite:///PATH")
        return _file(url.database)
    if backend in ("postgresql", "postgres"):
        return Location(path=None, url=url.set(drivername="postgresql+psycopg"))
    raise DatabaseError(f"rhodb knows no {backend!r} databases: give a file path or a PostgreSQL URL")


def shown(url: "URL") -> str:
    """A URL for people: without its password, wherever it stands."""
    return without_passwords(url.render_as_string())


def without_passwords(text: str) -> str:
    """A text that may be a URL, with `***` for what may be a password: after the user, or in a parameter."""
    text = re.sub(r"(//[^/?#\s:]*):.*@", r"\1:***@", text)
    return re.sub(r"(?i)(\w*(?:password|passwd|secret|token)\w*)(=|%3D)[^&\s'\"]*", r"\1\2***", text)


def _file(text: str) -> Location:
    try:
        asked = absolute(text)
        return Location(path=asked.resolve(), url=None, asked=asked)
    except InputError as error:
        raise DatabaseError(str(error)) from error
    except (OSError, RuntimeError) as error:
        raise DatabaseError(f"{text!r} cannot be resolved ({error}): give a file path") from error


def sqlite_uri(path: Path, *, create: bool, read_only: bool) -> str:
    """A `file:` URI. `immutable` lets a WAL database be read where its -shm file cannot be made."""
    if not read_only:
        return f"{path.as_uri()}?mode={'rwc' if create else 'rw'}"
    wal = path.with_name(f"{path.name}-wal")
    sealed = not os.access(path.parent, os.W_OK) and not (wal.exists() and wal.stat().st_size)
    return f"{path.as_uri()}?mode=ro{'&immutable=1' if sealed else ''}"


def read_only_uri(path: Path) -> str:
    """A `file:` URI for Python's sqlite3 (with `uri=True`) that cannot write."""
    return sqlite_uri(path, create=False, read_only=True)
