"""OpenBLAS for MLX on Linux, put in place before `mlx.core` is imported.

MLX's Linux CPU wheel links the reference BLAS. Its symbols are resolved through the process's global scope,
so an OpenBLAS that was loaded there first (`RTLD_GLOBAL`) takes over every matrix product. It is loaded only if a child
process has multiplied right through it on this CPU (`blas_proof`). Elsewhere nothing is done.
"""

import ctypes
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from runners.backend.blas_library import (
    PACKAGE,
    NoLibraryError,
    cpu_name,
    find_library,
    keep_freed_memory,
    kernel_name,
    library_name,
    open_library,
)
from runners.backend.blas_proof import TRIAL, prove
from runners.resources import BLAS_TOLD

AS_SHIPPED = "as shipped with mlx"
QUICK_SIZE = 256
LONG_S = 0.5
"""A product that takes longer is not worth waiting for: a smaller one tells as much."""
_ROW_MAJOR, _NO_TRANSPOSE = 101, 111  # enumerators of cblas.h


@dataclass(frozen=True, kw_only=True)
class BlasInfo:
    """Which BLAS serves MLX's matrix products on the CPU."""

    name: str
    """E.g. `OpenBLAS 0.3.31`, or `as shipped with mlx`."""
    path: str | None
    threads: int | None
    kernel: str | None
    """The CPU family whose kernels run, e.g. `Haswell`."""
    loaded: bool
    """OpenBLAS was proven and loaded before MLX, so that MLX uses it. Else path and kernel are those of one unused."""
    reason: str
    """Why it was loaded or not."""
    remedy: str = ""
    """What to do where it should have been loaded and was not."""
    malloc_tuned: bool = False
    """glibc keeps freed memory instead of returning it to the system after every array."""


@dataclass(frozen=True, kw_only=True)
class BlasCheck:
    """What `verify_blas` measured."""

    info: BlasInfo
    in_use: bool
    """MLX reaches the speed of OpenBLAS called directly."""
    mlx_gflops: float
    openblas_gflops: float | None


_library: ctypes.CDLL | None = None
_info: BlasInfo | None = None


def load_openblas() -> BlasInfo:
    """Load OpenBLAS for MLX, if it is proven on this CPU (once a process; later calls return the same answer).

    Never raises. Where there is a library and it cannot be used, one line on stderr says so.
    """
    global _info, _library  # noqa: PLW0603 (a process has one global symbol scope)
    if _info is not None:
        return _info
    kernel = None
    try:
        path = find_library()
    except NoLibraryError as error:
        _info = _as_shipped(str(error), remedy=error.remedy)
        return _info
    if "mlx.core" in sys.modules:
        reason = "mlx.core was imported before runners.backend"
        _info = _as_shipped(reason, path, remedy="import runners.backend first")
        return _info
    if TRIAL not in os.environ and not (proof := prove(path)).works:
        reason, kernel = f"{path} is not used on this CPU ({cpu_name()}): {proof.reason}", proof.kernel
    else:
        try:
            _library = open_library(path)
        except OSError as error:
            reason = f"{path} cannot be loaded: {error}"
    if _library is None:
        _info = _as_shipped(reason, path, kernel, remedy=f"install another version of {PACKAGE}, or report this line")
        _warn(reason)
        return _info
    _info = BlasInfo(
        name=library_name(_library),
        path=str(path),
        threads=_library.openblas_get_num_threads(),
        kernel=kernel_name(_library),
        loaded=True,
        reason="loaded before mlx",
        malloc_tuned=keep_freed_memory(),
    )
    return _info


def _as_shipped(reason: str, path: Path | None = None, kernel: str | None = None, *, remedy: str) -> BlasInfo:
    """MLX's own BLAS, and why; the path and kernel are those of a library that is not used."""
    return BlasInfo(
        name=AS_SHIPPED,
        path=None if path is None else str(path),
        threads=None,
        kernel=kernel,
        loaded=False,
        reason=reason,
        remedy=remedy,
    )


def _warn(reason: str) -> None:
    """Say once a command, not once a worker, that products will be slow."""
    if multiprocessing.parent_process() is None and BLAS_TOLD not in os.environ and sys.stderr is not None:
        print(f"rhodb: {reason}; MLX's own BLAS serves, many times slower", file=sys.stderr)  # noqa: T201


def blas_info() -> BlasInfo:
    """The BLAS in use now, with its present number of threads."""
    info = load_openblas()
    return info if _library is None else replace(info, threads=_library.openblas_get_num_threads())


@contextmanager
def blas_threads(count: int) -> Iterator[None]:
    """Run OpenBLAS with `count` threads inside the block; without OpenBLAS nothing changes."""
    if _library is None:
        yield
        return
    before = _library.openblas_get_num_threads()
    _library.openblas_set_num_threads(count)
    try:
        yield
    finally:
        _library.openblas_set_num_threads(before)


def verify_blas(size: int = 1024, repeats: int = 4) -> BlasCheck:
    """Time a product of two `size` x `size` float32 matrices through MLX and through OpenBLAS itself.

    GFLOP/s of one thread (several spin, and collapse when neighbours are busy), best of `repeats`, taken in turn. Where
    such a product takes long, smaller ones are timed.
    """
    info = blas_info()
    with blas_threads(1):
        slowest = min(_rates(QUICK_SIZE, 1).values())
        rates = _rates(size if 2 * size**3 / slowest < LONG_S * 1e9 else QUICK_SIZE, repeats)
    return BlasCheck(
        info=info,
        in_use="openblas" in rates and rates["mlx"] > rates["openblas"] / 3,
        mlx_gflops=rates["mlx"],
        openblas_gflops=rates.get("openblas"),
    )


def _rates(size: int, repeats: int) -> dict[str, float]:
    """GFLOP/s of one product through `mlx` and, where it is loaded, `openblas`: the best of `repeats`."""
    import mlx.core as mx

    a = mx.random.normal((size, size))
    mx.eval(a, a @ a)
    products: dict[str, Callable[[], object]] = {"mlx": lambda: mx.eval(a @ a)}
    if (direct := _direct_product(size)) is not None:
        products["openblas"] = direct
    best = dict.fromkeys(products, float("inf"))
    for _ in range(repeats):
        for name, product in products.items():
            start = time.perf_counter()
            product()
            best[name] = min(best[name], time.perf_counter() - start)
    return {name: 2 * size**3 / seconds / 1e9 for name, seconds in best.items()}


def _direct_product(size: int) -> Callable[[], None] | None:
    """A function that multiplies two fixed matrices through OpenBLAS itself; None without OpenBLAS."""
    if _library is None:
        return None
    import numpy

    sgemm = _library.cblas_sgemm
    one, zero, n = ctypes.c_float(1.0), ctypes.c_float(0.0), ctypes.c_int(size)
    matrices = [numpy.ones((size, size), numpy.float32) for _ in range(3)]
    a, b, c = (matrix.ctypes.data_as(ctypes.c_void_p) for matrix in matrices)

    def product() -> None:
        sgemm(_ROW_MAJOR, _NO_TRANSPOSE, _NO_TRANSPOSE, n, n, n, one, a, n, b, n, zero, c, n)
        assert matrices[2][0, 0] == size  # ones times ones; and the closure keeps the memory alive

    product()
    return product
