"""Finding and opening the OpenBLAS that serves MLX on Linux; what it says of itself."""

import ctypes
import importlib.metadata
import importlib.util
import os
import platform
import sys
from pathlib import Path

from rhodb.errors import RhodbError

PACKAGE = "ngsolve-openblas"
FORTRAN_RUNTIME = "libgfortran.so.5"
NEIGHBOURS = ("numpy", "scipy")
# Parameters of glibc's mallopt (malloc.h).
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -2, -4, -8


class NoLibraryError(RhodbError):
    """There is no OpenBLAS for MLX here; the message says why, and `remedy` what to do, if anything."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy


def find_library() -> Path:
    """Path of libopenblas.so. Raises NoLibraryError."""
    if sys.platform != "linux":
        raise NoLibraryError(f"not needed on {platform.system()}")
    try:
        files = importlib.metadata.files(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        if platform.machine() != "x86_64":
            reason = f"package {PACKAGE} has no wheel for {platform.machine()}"
            raise NoLibraryError(reason, "runs take many times longer here than on x86-64 or on a GPU") from None
        remedy = f"`pip install {PACKAGE}` makes MLX 30 to 40 times as fast"
        raise NoLibraryError(f"package {PACKAGE} is not installed", remedy) from None
    for file in files:
        if file.name.startswith("libopenblas") and ".so" in file.name:
            return Path(str(file.locate()))
    raise NoLibraryError(f"package {PACKAGE} contains no OpenBLAS library", f"reinstall {PACKAGE}")


def open_library(path: Path) -> ctypes.CDLL:
    """Load OpenBLAS globally, with MLX's own Fortran runtime where the system has none. Raises OSError."""
    _load_neighbours()
    try:
        return ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
    except OSError as error:
        if FORTRAN_RUNTIME not in str(error):
            raise
    _provide_fortran_runtime()
    return ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)


def library_name(library: ctypes.CDLL) -> str:
    """E.g. `OpenBLAS 0.3.33`."""
    config = _c_string(library, "openblas_get_config")  # "OpenBLAS 0.3.33 DYNAMIC_ARCH ..."
    return " ".join(config.split()[:2])


def kernel_name(library: ctypes.CDLL) -> str:
    """The CPU family whose kernels run, e.g. `Haswell`."""
    return _c_string(library, "openblas_get_corename")


def cpu_name() -> str:
    """The processor's name, e.g. `AMD EPYC 7B13`."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def cpu_features() -> list[str]:
    """Instruction sets beyond NumPy's baseline, by NumPy, which asks the CPU itself (or the emulator in its place)."""
    import numpy

    found = numpy.show_config("dicts") or {}
    return sorted(found.get("SIMD Extensions", {}).get("found", []))


def keep_freed_memory() -> bool:
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


def _load_neighbours() -> None:
    """Load the OpenBLAS copies of NumPy and SciPy first.

    They share hundreds of kernel symbols with ours. Loaded after it, they would be bound to its kernels, of another
    version than the code that calls them; loaded before, each is bound to its own (Python's loader binds at once).
    """
    for package in NEIGHBOURS:
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            continue
        for file in sorted((Path(spec.origin).parents[1] / f"{package}.libs").glob("libscipy_openblas*.so*")):
            ctypes.CDLL(str(file), mode=os.RTLD_NOW | os.RTLD_LOCAL)


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


def _c_string(library: ctypes.CDLL, function: str) -> str:
    getter = library[function]
    getter.restype = ctypes.c_char_p
    value = getter()
    return value.decode() if isinstance(value, bytes) else ""
