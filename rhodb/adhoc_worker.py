"""The process that runs SQL somebody typed: started by `adhoc_process` as a script, without the site's packages.

Reads requests from standard input and writes answers to standard output, each a length and a marshalled value.
"""

import contextlib
import marshal
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[1])  # instead of this folder: the module names here are the package's

from rhodb.adhoc_sqlite import Reading, RefusedError

HEADER = struct.Struct("!Q")
OVERHEAD = 48 << 20
"""Bytes of address space that Python and SQLite take before the first row."""


def send(stream: IO[bytes], value: Any) -> int:
    """Write one value; its length."""
    data = marshal.dumps(value)
    stream.write(HEADER.pack(len(data)))
    stream.write(data)
    stream.flush()
    return len(data)


def receive(stream: IO[bytes]) -> Any:
    """Read one value. Raises EOFError where there is none any more."""
    header = stream.read(HEADER.size)
    if len(header) < HEADER.size:
        raise EOFError
    (length,) = HEADER.unpack(header)
    data = stream.read(length)
    if len(data) < length:
        raise EOFError
    return marshal.loads(data)


def main() -> None:
    """Answer requests until there are no more, or until memory has run out once."""
    uri, wait_s, memory, value = receive(sys.stdin.buffer)
    with contextlib.suppress(ImportError):  # Windows has SQLite's own limit alone
        _limit_memory(memory + OVERHEAD)
    answers = sys.stdout.buffer
    reading = None
    while True:
        try:
            sql, params, limit, timeout_s, most = receive(sys.stdin.buffer)
        except EOFError:
            return
        try:
            if reading is None:
                reading = Reading(uri, wait_s=wait_s)
                reading.limit(memory=memory, value=value)
            for message in _answer(reading, sql, params, limit, timeout_s, most):
                send(answers, message)
        except RefusedError as error:
            send(answers, ("refused", (error.kind, error.sentence)))
            if error.kind == "large":
                return
        except MemoryError:
            send(answers, ("refused", ("large", "")))
            return


def _answer(
    reading: Reading, sql: str, params: Any, limit: int | None, timeout_s: float, most: int
) -> Iterator[tuple[str, Any]]:
    """Columns, pieces of rows, the end. Raises RefusedError for more than `most` bytes of rows."""
    with contextlib.suppress(ImportError):
        _limit_time(timeout_s)
    parts = reading.rows(sql, params, limit=limit, timeout_s=timeout_s)
    yield "columns", next(parts)
    total = 0
    for rows in parts:
        total += len(marshal.dumps(rows))
        if total > most:
            raise RefusedError("large")
        yield "rows", rows
    yield "end", None


def _limit_memory(size: int) -> None:
    """Of the address space; a file that SQLite sorts in may have as much."""
    import resource

    for kind in (resource.RLIMIT_AS, resource.RLIMIT_FSIZE):
        with contextlib.suppress(ValueError, OSError):  # a smaller limit is set already, or the system has none
            resource.setrlimit(kind, (size, resource.getrlimit(kind)[1]))


def _limit_time(timeout_s: float) -> None:
    """The system ends this process some time after its time is over, even where nobody is left to do it."""
    import resource

    with contextlib.suppress(ValueError, OSError):
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time() + timeout_s) + 5, hard))


if __name__ == "__main__":
    main()
