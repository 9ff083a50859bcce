"""How many of the machine's cores this process computes on."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from runners.backend.blas import load_openblas

_granted: int | None = None


def cores() -> int:
    """As many as were granted; else as many as BLAS started with, which `OPENBLAS_NUM_THREADS` limits."""
    return _granted or load_openblas().threads or os.cpu_count() or 1


@contextmanager
def granted(count: int) -> Iterator[None]:
    """Inside the block the process may compute on so many cores."""
    global _granted  # noqa: PLW0603  one number a process
    before, _granted = _granted, count
    try:
        yield
    finally:
        _granted = before
