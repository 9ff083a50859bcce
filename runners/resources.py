"""Cores and memory that this process may use, which containers and users limit."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

import psutil

from rhodb.errors import InputError

BLAS_TOLD: Final = "RHODB_BLAS_TOLD"
"""Set for workers where the first one has said that OpenBLAS is not used."""
CGROUP: Final = Path("/sys/fs/cgroup")
"""Version 2; inside a container the container's own."""


def usable_cores() -> int:
    """Cores that the process may run on; fewer where `OPENBLAS_NUM_THREADS` says so, as BLAS counts them."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = os.environ.get("OPENBLAS_NUM_THREADS", "")
    return min(here, int(limit)) if limit.isascii() and limit.isdigit() and int(limit) > 0 else here


def free_memory(cgroup: Path = CGROUP) -> int:
    """Bytes that can be had without swapping, on the machine and within the container's limit."""
    available = int(psutil.virtual_memory().available)
    with suppress(OSError, ValueError, KeyError):  # no limit ("max"), or no such files
        limit = int((cgroup / "memory.max").read_text())
        parts = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
        used = int((cgroup / "memory.current").read_text()) - int(parts["inactive_file"])
        available = min(available, max(0, limit - used))
    return available


def check_mlx() -> None:
    """Raises InputError where MLX cannot be imported, as on a system older than its wheel was made for."""
    try:
        import runners.backend.device  # noqa: F401
    except (ImportError, OSError) as error:
        raise InputError(f"MLX cannot be loaded ({error}): `pip install --force-reinstall mlx` may help") from error
