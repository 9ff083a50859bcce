"""Foreign SQL in a process of its own, which is ended when its time is over, whatever the statement does."""

import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rhodb.adhoc_worker as worker
from rhodb.adhoc_sqlite import Params
from rhodb.errors import DatabaseBusyError, DatabaseError, InputError, RhodbError
from rhodb.exits import describe_exit
from rhodb.location import Location, read_only_uri

LONGEST_S = 7 * 86_400.0
"""A week; timers overflow at some point beyond."""
GRACE_S = 0.2
"""SQLite stops by itself in most statements; this long after the time is over the process is ended."""
MIB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one statement may take."""

    timeout_s: float = 60.0
    memory_mib: int = 1024
    """Of the process that runs it, beside Python itself; and of all rows together, as they are sent."""
    value_mib: int = 64
    """Of one text, blob or row."""

    def __post_init__(self) -> None:
        if not 0 < self.timeout_s <= LONGEST_S:
            raise InputError(f"the time limit must be > 0 and at most {LONGEST_S:g} seconds, got {self.timeout_s:g}")
        if self.memory_mib < 1 or self.value_mib < 1:
            raise InputError(f"the memory limit must be >= 1 MiB, got {min(self.memory_mib, self.value_mib)}")


class LateError(InputError):
    """A statement took longer than it may."""


class Reader:
    """Runs statements on one SQLite file, one at a time, in a process that is started when it is first needed."""

    def __init__(self, location: Location, limits: Limits, *, advice: bool = False) -> None:
        """`advice`: errors name the options of `rhodb sql` that raise a limit."""
        self.location, self.limits, self.advice = location, limits, advice
        self._process: subprocess.Popen[bytes] | None = None

    def ask(
        self, sql: str, params: Params, *, limit: int | None = None, timeout_s: float | None = None
    ) -> tuple[list[str], list[tuple[Any, ...]]]:
        """Names of the columns, and at most `limit` + 1 rows. Raises InputError, DatabaseError, DatabaseBusyError."""
        timeout_s = self.limits.timeout_s if timeout_s is None else timeout_s
        request = (sql, _plain(params), limit, timeout_s, self.limits.memory_mib * MIB)
        late, kind = threading.Event(), ""
        value: Any = None
        columns: list[str] = []
        rows: list[tuple[Any, ...]] = []
        process, self._process = self._process or self._start(), None
        timer = threading.Timer(timeout_s + GRACE_S, _end_late, (process, late))
        timer.daemon = True
        timer.start()
        try:
            assert process.stdin is not None and process.stdout is not None
            worker.send(process.stdin, request)
            while kind not in ("end", "refused"):
                kind, value = worker.receive(process.stdout)
                if kind == "columns":
                    columns = value
                elif kind == "rows":
                    rows += value
        except (EOFError, BrokenPipeError):
            kind, value = "refused", ("late", "") if late.is_set() else ("died", describe_exit(process.wait()))
        finally:  # it is kept for the next statement if it has answered and goes on
            timer.cancel()
            goes_on = kind == "end" or (kind == "refused" and value[0] not in ("large", "died"))
            if goes_on and not late.is_set() and self._process is None:
                self._process = process
            else:
                _end(process)
        if kind == "refused":
            raise explained(self.location, *value, limits=self.limits, timeout_s=timeout_s, advice=self.advice)
        return columns, rows

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            _end(process)

    def _start(self) -> "subprocess.Popen[bytes]":
        assert self.location.path is not None
        # Without the site's packages it starts in 20 ms; in a session of its own, Ctrl-C reaches only who waits for it.
        process = subprocess.Popen(
            [sys.executable, "-S", "-E", str(Path(worker.__file__))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        weakref.finalize(self, _end, process)
        assert process.stdin is not None
        wait_s = min(self.limits.timeout_s, 30.0)
        limits = (self.limits.memory_mib * MIB, self.limits.value_mib * MIB)
        worker.send(process.stdin, (read_only_uri(self.location.path), wait_s, *limits))
        return process


def explained(
    location: Location,
    kind: str,
    sentence: str,
    *,
    limits: Limits | None = None,
    timeout_s: float = 0.0,
    advice: bool = False,
) -> RhodbError:
    """The error for what an `adhoc_sqlite.RefusedError` says."""
    limits = limits or Limits()
    more = ": give it more with --timeout" if advice else ""
    less = ": ask for fewer rows or columns, or give it more with --memory" if advice else ""
    sentences = {
        "late": f"the query took more than {timeout_s:g} s{more}",
        "large": f"the query needs more than {limits.memory_mib} MiB of memory{less}",
        "value": f"a text, blob or row of the query is larger than {limits.value_mib} MiB",
        "died": f"the process that ran the SQL {sentence}: it may have needed too much memory",
        "busy": f"{location} is locked by another program: try again when it has finished",
        "database": f"{location} cannot be read: {sentence}",
    }  # fmt: skip
    kinds: dict[str, type[RhodbError]] = {"late": LateError, "busy": DatabaseBusyError, "database": DatabaseError}
    return kinds.get(kind, InputError)(sentences.get(kind, sentence))


def _plain(params: Params) -> Params:
    """The values as Python's own kinds: marshal would take a NumPy number for bytes. Raises InputError for others."""
    if isinstance(params, Mapping):
        return {str(name): _plain_value(value) for name, value in params.items()}
    return [_plain_value(value) for value in params]


def _plain_value(value: Any) -> Any:
    if value is None or type(value) in (int, float, str, bytes):
        return value
    if isinstance(value, int | float | str):  # bool, or a library's subclass
        return next(kind(value) for kind in (int, float, str) if isinstance(value, kind))
    raise InputError(f"a parameter cannot be used in SQL: type {type(value).__name__} is not supported")


def _end_late(process: "subprocess.Popen[bytes]", late: threading.Event) -> None:
    late.set()
    process.kill()


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with suppress(OSError):
                stream.close()
