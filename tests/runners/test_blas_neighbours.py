"""NumPy's and SciPy's own OpenBLAS copies compute right beside the global one, whoever comes first.

Held to closed forms and residuals: the second-difference matrix has eigenvalues 2 - 2 cos(k pi / (n + 1)), and a
decomposition multiplied out is its matrix.
"""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="OpenBLAS is loaded on Linux only")

OURS = "import runners.backend, mlx.core as mx"
ORDERS = {
    "rhodb first": [OURS, "import numpy as np", "import scipy.linalg as sla"],
    "NumPy first": ["import numpy as np", OURS, "import scipy.linalg as sla"],
    "both first": ["import numpy as np", "import scipy.linalg as sla", OURS],
}
CHECK = """
from concurrent.futures import ThreadPoolExecutor

def check(seed):
    rng = np.random.default_rng(seed)
    n = 180
    differences = 2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)
    true = 2 - 2 * np.cos(np.arange(1, n + 1) * np.pi / (n + 1))
    a = rng.normal(size=(n, 140))
    x = mx.array(a.astype(np.float32))
    with mx.stream(mx.new_stream(mx.cpu)):
        product = np.array(x @ x.T).astype(float)
    errors = [np.abs(product - np.array(x).astype(float) @ np.array(x).astype(float).T).max() / 1e9]
    for library in (np.linalg, sla):
        errors.append(np.abs(library.eigvalsh(differences) - true).max())
        values, vectors = library.eigh(differences)
        errors.append(np.abs(differences @ vectors - vectors * values).max())
        u, s, v = library.svd(a, full_matrices=False)
        errors.append(np.abs(u * s @ v - a).max())
        errors.append(np.abs(u.T @ u - np.eye(140)).max())
        q, r = np.linalg.qr(a) if library is np.linalg else sla.qr(a, mode="economic")
        errors.append(np.abs(q @ r - a).max())
        errors.append(np.abs(library.solve(differences, differences @ a) - a).max() / 1e4)  # its condition: 1.3e4
        errors.append(np.abs(np.sort(library.eigvals(differences).real) - true).max())
    # A matrix of ones times counting numbers: every entry is their sum, exactly.
    counting = np.arange(1.0, 301.0)
    errors.append(np.abs(np.ones((70, 300)) @ np.tile(counting, (90, 1)).T - 45150).max())
    return max(errors)

with ThreadPoolExecutor(4) as pool:
    worst = max(pool.map(check, range(12)))
assert worst < 1e-11, worst
print(worst)
"""


@pytest.mark.parametrize("order", ORDERS)
def test_three_libraries_in_threads(order: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "\n".join([*ORDERS[order], CHECK])], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("order", ORDERS)
def test_no_copy_is_bound_to_another_ones_kernels(order: str, tmp_path) -> None:
    """The dynamic loader itself says which file each symbol was found in."""
    subprocess.run(
        [sys.executable, "-c", "\n".join(ORDERS[order])],
        check=True,
        env={**os.environ, "LD_DEBUG": "bindings", "LD_DEBUG_OUTPUT": str(tmp_path / "bindings")},
    )
    crossed, seen = [], False
    for line in "".join(file.read_text(errors="replace") for file in tmp_path.iterdir()).splitlines():
        user, _, found_in = line.partition(" to ")
        if "binding file" in user and "libscipy_openblas" in user:
            seen = True
            crossed += [line] if "libopenblas" in found_in else []
    assert seen  # the loader's words are as expected
    assert crossed == []
