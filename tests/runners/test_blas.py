"""OpenBLAS is in place before MLX wherever it can be, and the report about it is true."""

import subprocess
import sys

import pytest

from runners.backend import blas

ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="OpenBLAS is loaded on Linux only")


def _run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


@ON_LINUX
def test_importing_any_backend_module_puts_openblas_in_place() -> None:
    info = blas.load_openblas()
    assert info.loaded, info.reason
    assert info.name.startswith("OpenBLAS")
    assert info.path is not None
    assert info.kernel


@ON_LINUX
def test_mlx_really_computes_with_openblas() -> None:
    check = blas.verify_blas(size=512)
    assert check.in_use, check


@ON_LINUX
def test_mlx_imported_first_is_reported() -> None:
    out = _run(
        "import mlx.core\nfrom runners.backend.blas import verify_blas\nc = verify_blas(256)\n"
        "print(c.info.loaded, c.in_use, c.info.reason)"
    )
    assert out.startswith("False False mlx.core was imported before runners.backend")


@ON_LINUX
def test_blas_threads_are_set_and_restored() -> None:
    before = blas.blas_info().threads
    with blas.blas_threads(1):
        assert blas.blas_info().threads == 1
    assert blas.blas_info().threads == before


def test_a_missing_package_is_harmless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blas, "_info", None)
    monkeypatch.setattr(blas, "_library", None)
    monkeypatch.setattr(blas, "PACKAGE", "no-such-package")
    info = blas.load_openblas()
    assert not info.loaded
    assert info.name == "as shipped with mlx"
    with blas.blas_threads(1):
        pass
