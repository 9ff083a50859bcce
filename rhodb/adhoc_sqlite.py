"""One SELECT on a SQLite file that cannot be written to. Standard library only: it runs in a process of its own."""

import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from rhodb.adhoc_allowed import authorizer
from rhodb.aggregates import register

CHECK_EVERY = 20_000
"""Virtual machine steps between two looks at the clock: about a millisecond."""
PIECE = 500
"""Rows that are handed on together."""
KINDS = {
    "late": ("SQLITE_INTERRUPT",),
    "value": ("SQLITE_TOOBIG",),
    "large": ("SQLITE_NOMEM", "SQLITE_FULL", "SQLITE_IOERR_WRITE"),  # the last two: of the files that it sorts in
    "busy": ("SQLITE_BUSY", "SQLITE_LOCKED"),
    "database": ("SQLITE_NOTADB", "SQLITE_CORRUPT", "SQLITE_CANTOPEN", "SQLITE_IOERR"),
}
"""What SQLite's result codes mean here; the first that fits."""
DENIED = ("not authorized", "prohibited", "vtable constructor failed")
"""What SQLite says where the authorizer said no: the allowed virtual tables are all there already."""
MAY = "it may only read, with SQLite's ordinary functions (no writing, attaching, settings or extensions)"

Params = Mapping[str, Any] | Sequence[Any]


class RefusedError(Exception):
    """What went wrong, and of what kind: input, late, large, value, busy, database."""

    def __init__(self, kind: str, sentence: str = "") -> None:
        super().__init__(kind, sentence)
        self.kind, self.sentence = kind, sentence


class Reading:
    """A connection for SQL that somebody typed."""

    def __init__(self, uri: str, *, wait_s: float) -> None:
        """`uri`: of `location.read_only_uri`; `wait_s`: for a lock."""
        self.problems: list[str] = []
        try:
            self.connection = sqlite3.connect(uri, uri=True, timeout=wait_s)
            self.connection.execute("PRAGMA query_only = ON")
            self.authorizer = authorizer(self.connection)
        except sqlite3.Error as error:
            raise RefusedError("database", str(error)) from error
        register(self.connection, self.problems)

    def close(self) -> None:
        self.connection.close()

    def limit(self, *, memory: int, value: int) -> None:
        """Bytes that SQLite may hold, and bytes of one text, blob or row."""
        self.connection.execute(f"PRAGMA hard_heap_limit = {memory}")
        self.connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, value)

    def rows(self, sql: str, params: Params, *, limit: int | None, timeout_s: float) -> Iterator[list[Any]]:
        """First the names of the columns, then pieces of at most `limit` + 1 rows. Raises RefusedError."""
        self.problems.clear()
        deadline = time.monotonic() + timeout_s
        self.connection.set_authorizer(self.authorizer)
        self.connection.set_progress_handler(lambda: time.monotonic() > deadline, CHECK_EVERY)
        cursor = self._explained(sql, partial(self.connection.execute, sql, params))
        try:
            if cursor.description is None:
                raise RefusedError("input", "the SQL returns no rows: write a SELECT")
            yield [name for name, *_ in cursor.description]
            left = None if limit is None else limit + 1
            while left is None or left > 0:
                wanted = PIECE if left is None else min(PIECE, left)
                piece = self._explained(sql, partial(cursor.fetchmany, wanted))
                if not piece:
                    break
                yield piece
                left = None if left is None else left - len(piece)
        finally:
            cursor.close()  # an open one would keep the file as it was when it began

    def _explained(self, sql: str, step: Callable[[], Any]) -> Any:
        """The step; what SQLite says against it becomes a RefusedError."""
        try:
            return step()
        except sqlite3.Error as error:
            raise self._refused(sql, error) from error
        except (OverflowError, UnicodeEncodeError) as error:
            raise RefusedError("input", f"a parameter cannot be used in SQL: {error}") from error
        except MemoryError as error:
            raise RefusedError("large") from error

    def _refused(self, sql: str, error: sqlite3.Error) -> RefusedError:
        message, code = str(error), getattr(error, "sqlite_errorname", "") or ""
        if self.problems:
            return RefusedError("input", f"the SQL was refused: {self.problems[0]}")
        kind = next((kind for kind, codes in KINDS.items() if code.startswith(codes)), "")
        if kind:
            return RefusedError(kind, message)
        if code == "SQLITE_AUTH" or any(words in message for words in DENIED):
            what = "" if message == "not authorized" else f" ({message})"
            return RefusedError("input", f"the SQL was refused{what}: {MAY}")
        from rhodb.adhoc_errors import describe

        self.connection.set_progress_handler(None, 0)
        return RefusedError("input", describe(self.connection, sql, message))
