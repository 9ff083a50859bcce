"""The warehouse as a Python object: open it, read from it with SQL, write in short transactions."""

import copy
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, CursorResult, Engine, text
from sqlalchemy.exc import DBAPIError

from rhodb.adhoc_process import Limits, Reader
from rhodb.engine import BUSY_TIMEOUT_MS, Location, is_locked, locate, server_engine, sqlite_engine, translate
from rhodb.errors import DatabaseBusyError, DatabaseError, InputError
from rhodb.frames import frame_of
from rhodb.place import Kind, for_warehouse, look
from rhodb.revision import HEAD

if TYPE_CHECKING:
    import pandas as pd

RETRY_S = 0.02


class Warehouse:
    """An open warehouse. Threads may share one; a forked process must open its own."""

    def __init__(self, location: Location, engine: Engine, *, read_only: bool) -> None:
        self.location = location
        self.engine = engine
        self.read_only = read_only
        self._file: tuple[int, int] | None = None
        self._limits: Limits | None = None
        self._reader: Reader | None = None

    @classmethod
    def open(
        cls, db: str | os.PathLike[str] | None = None, *, create: bool = True, read_only: bool = False
    ) -> "Warehouse":
        """Open a warehouse, and create or upgrade it first if need be and allowed.

        db: path or URL, else `RHODB_DB`, else `results/master.db`. Raises DatabaseError with one sentence
        about what is wrong. An up-to-date warehouse costs one query.
        """
        location = locate(db)
        create = create and not read_only
        if location.path is not None:
            for_warehouse(location.asked or location.path, create=create)
            _make_folder(location.path)
        if create and location.path is not None and not location.path.exists():
            _migrate(location)
        wh = cls(location, _engine(location, read_only=read_only), read_only=read_only)
        try:
            wh._bring_to_head(create=create)
            wh._file = wh._find_file()
        except BaseException:
            wh.close()
            raise
        return wh

    @classmethod
    def peek(cls, db: str | os.PathLike[str] | None = None) -> "Warehouse | None":
        """The warehouse for reading, or None where there is none yet. Never creates or changes anything."""
        location = locate(db)
        if location.path is not None and look(location.asked or location.path).kind is Kind.FREE:
            return None
        return cls.open(db, create=False, read_only=True)

    def _bring_to_head(self, *, create: bool) -> None:
        found = self._revision()
        if found == HEAD:
            return
        from rhodb.migrate import check_known

        check_known(found, self.location)
        if self.read_only or not create:
            state = f"has the older schema {found}" if found else "is empty"
            raise DatabaseError(f"{self.location} {state}: run `rhodb db upgrade` first")
        _migrate(self.location)

    def _revision(self) -> str | None:
        """The schema revision by one cheap query; only an unfamiliar database is looked at more closely."""
        with self._errors(), self.engine.connect() as connection:
            try:
                found = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
            except DBAPIError as error:
                if translate(error, self.location) is not None:
                    raise
                found = None
            if found is not None:
                return str(found)
        from rhodb.migrate import revision_of

        with self._errors(), self.engine.connect() as connection:
            return revision_of(connection)

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    def __enter__(self) -> "Warehouse":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def limited(self, limits: Limits | None = None) -> "Warehouse":
        """The same warehouse for SELECTs that hold what somebody typed: within limits, each of its own.

        On SQLite `rows` and `query` run in a process that can be ended, which reads with the allow list of
        `rhodb.adhoc_allowed`; a server has a time limit.
        """
        if limits is None and self._limits is not None:
            return self
        other = copy.copy(self)
        other._limits = limits or Limits(memory_mib=4096)
        if self.location.path is not None:
            other._reader = Reader(self.location, other._limits)
        return other

    @property
    def is_sqlite(self) -> bool:
        return self.location.path is not None

    @property
    def spool_folder(self) -> Path:
        return self.location.spool_folder

    def _find_file(self) -> tuple[int, int] | None:
        """Device and inode of the database file; None on a server or where there is no file any more."""
        if self.location.path is None:
            return None
        try:
            found = self.location.path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _check_file(self) -> None:
        """SQLite goes on writing into a file that was deleted, and all of it would be lost."""
        if self._find_file() != self._file:
            raise DatabaseError(f"{self.location} was deleted or replaced while it was open: nothing more is written")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            raise translate(error, self.location) or error from error

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection inside one read-only transaction: a consistent view that never waits for writers."""
        self._check_file()
        with self._errors(), self.engine.connect() as connection:
            _set_query_only(connection, True)
            try:
                if not self.is_sqlite:
                    connection.exec_driver_sql("SET TRANSACTION READ ONLY")
                    if self._limits is not None:
                        milliseconds = max(1, int(self._limits.timeout_s * 1000))
                        connection.exec_driver_sql(f"SET LOCAL statement_timeout = {milliseconds}")
                yield connection
            finally:
                connection.rollback()
                _set_query_only(connection, False)

    @contextmanager
    def write(self, timeout_s: float = 60.0) -> Iterator[Connection]:
        """A connection inside one write transaction, committed at the end, rolled back on an exception.

        The lock is taken at the beginning (`BEGIN IMMEDIATE`: a transaction that reads first and then
        wants to write fails under load). Raises DatabaseBusyError when it is not free within `timeout_s`.
        """
        if self.read_only:
            raise DatabaseError(f"{self.location} was opened for reading only")
        self._check_file()
        with self._errors(), self.engine.connect() as plain:
            connection = plain.execution_options(begin="BEGIN IMMEDIATE")
            self._begin(connection, timeout_s)
            try:
                yield connection
                connection.commit()
                self._check_file()  # it may have gone in between; writing the same again later does no harm
            finally:
                connection.rollback()

    def _begin(self, connection: Connection, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while True:
            left = deadline - time.monotonic()
            if self.is_sqlite:
                _pragma(connection, f"busy_timeout = {max(0, min(BUSY_TIMEOUT_MS, int(left * 1000)))}")
            try:
                connection.begin()
                return
            except DBAPIError as error:
                if not is_locked(error):
                    raise
                if left <= 0:
                    raise DatabaseBusyError(
                        f"{self.location} has been locked by another program for {timeout_s:g} s: "
                        "nothing was written; try again"
                    ) from error
                time.sleep(RETRY_S)

    def rows(self, sql: str, **params: Any) -> list[dict[str, Any]]:
        """Rows of a SELECT as dicts. Parameters are named: `wh.rows("... WHERE seed = :seed", seed=42)`."""
        if self._reader is not None:
            names, found = self._reader.ask(sql, params)
            return [dict(zip(names, row, strict=True)) for row in found]
        with self.read() as connection:
            result = self._execute(connection, sql, params)
            return [dict(row) for row in result.mappings()]

    def query(self, sql: str, **params: Any) -> "pd.DataFrame":
        """The rows of a SELECT as a DataFrame: `wh.query("SELECT * FROM runs WHERE seed = :seed", seed=42)`."""
        if self._reader is not None:
            import pandas as pd

            names, found = self._reader.ask(sql, params)
            return pd.DataFrame.from_records(found, columns=names)
        with self.read() as connection:
            result = self._execute(connection, sql, params)
            # The driver's plain tuples: SQLAlchemy's rows take pandas twice as long.
            cursor, names = result.cursor, list(result.keys())
            assert cursor is not None
            if self.is_sqlite:
                return frame_of(cursor, names)
            import pandas as pd

            return pd.DataFrame.from_records(cursor.fetchall(), columns=names)

    frame = query

    def scores(self, **conditions: Any) -> "pd.DataFrame":
        """Every score of finished runs, tidy; see `rhodb.tidy.scores` for the conditions."""
        from rhodb.tidy import scores

        return scores(self, **conditions)

    def runs(self, **conditions: Any) -> "pd.DataFrame":
        """One row a run, with the settings of its experiment; see `rhodb.tidy.runs` for the conditions."""
        from rhodb.tidy import runs

        return runs(self, **conditions)

    def _execute(self, connection: Connection, sql: str, params: dict[str, Any]) -> CursorResult[Any]:
        try:
            if self.is_sqlite:
                # The driver's own :name parameters: a colon inside a quoted text stays a colon.
                result: CursorResult[Any] = connection.exec_driver_sql(sql, params)
            else:
                result = connection.execute(text(sql), params)
        except DBAPIError as error:
            if translate(error, self.location) is None or "readonly" in str(error.orig):
                reason = str(error.orig).strip().splitlines()[0]
                raise InputError(f"the SQL was refused: {reason}") from error
            raise
        except (OverflowError, UnicodeEncodeError) as error:
            raise InputError(f"a parameter cannot be used in SQL: {error}") from error
        if not result.returns_rows:
            raise InputError("the SQL returns no rows: only SELECT statements can be run here")
        return result


def _pragma(connection: Connection, pragma: str) -> None:
    """Run a PRAGMA outside any transaction (SQLAlchemy would begin one)."""
    raw = connection.connection.driver_connection
    assert raw is not None
    raw.execute(f"PRAGMA {pragma}")


def _set_query_only(connection: Connection, on: bool) -> None:
    if connection.dialect.name == "sqlite":
        _pragma(connection, f"query_only = {int(on)}")


def _engine(location: Location, *, read_only: bool) -> Engine:
    if location.path is not None:
        return sqlite_engine(location.path, create=False, read_only=read_only)
    assert location.url is not None
    return server_engine(location.url)


def _migrate(location: Location) -> None:
    """Alembic is imported only when there is something to migrate."""
    from rhodb.migrate import upgrade

    upgrade(location)


def _make_folder(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DatabaseError(f"the folder {path.parent} cannot be made: {error.strerror}") from error
