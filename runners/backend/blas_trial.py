"""The child process of `blas_proof`: multiply small matrices through MLX and compare with NumPy in float64.

MLX itself is asked, because it is MLX that the library will serve: what is proven is the whole way from an array to the
kernel. Importing this package has put the library in place unproven (see `blas_proof.TRIAL`).
"""

import contextlib
import json
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import mlx.core as mx
import numpy as np

from runners.backend.blas import blas_info, blas_threads
from runners.backend.blas_library import cpu_features

SHAPES = (
    (1, 64, 1), (1, 576, 192), (3, 5, 7), (64, 1, 64), (17, 33, 65), (64, 64, 64), (130, 257, 67),
)  # fmt: skip
"""Rows, inner length, columns: vectors, whole tiles of the kernels and odd remainders."""
SHARED = (256, 320, 288)
"""Large enough that OpenBLAS shares it out among its threads."""
UNIT_ROUNDOFF = {mx.float32: 2.0**-24, mx.float64: 2.0**-53}

Arrays = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


def main() -> int:
    """Report in JSON lines what is loaded, then whether it computes right."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # its death is an answer, not a bug to look into
    info = blas_info()
    _say(kernel=info.kernel, features=cpu_features())
    if not info.loaded:
        _say(wrong=info.reason)
        return 1
    mistakes = list(mistaken_products([SHARED]))
    with blas_threads(1), ThreadPoolExecutor(2) as pool:  # as scoring does: one thread a product, products in threads
        for found in pool.map(lambda _: list(mistaken_products(SHAPES)), range(2)):
            mistakes += found
    if mistakes:
        _say(wrong=f"{len(mistakes)} of its products are wrong, e.g. {mistakes[0]}")
        return 1
    _say(works=True)
    return 0


def mistaken_products(shapes: Sequence[tuple[int, int, int]]) -> Iterator[str]:
    """Every product whose error is beyond the bound of floating-point arithmetic, as `130 x 257 x 67 float32 NT`.

    |fl(AB) - AB| <= k u / (1 - k u) |A||B| in any order of summation (Higham, Accuracy and Stability, 3.5), with the
    unit roundoff u, and the reference has an error of its own; a broken kernel misses it by orders of magnitude.
    """
    rng = np.random.default_rng(16)
    with mx.stream(mx.new_stream(mx.cpu)):
        for dtype, roundoff in UNIT_ROUNDOFF.items():
            for m, k, n in shapes:
                for transposed in ("NN", "NT", "TN", "TT"):
                    a, b = rng.normal(size=(2, m, k)), rng.normal(size=(k, n))
                    found, a64, b64 = _multiply(a, b, dtype, transposed)
                    bound = 2 * k * roundoff / (1 - k * roundoff) * (np.abs(a64) @ np.abs(b64))
                    if not np.all(np.abs(found - a64 @ b64) <= bound):
                        yield f"{m} x {k} x {n} {str(dtype).removeprefix('mlx.core.')} {transposed}"


def _multiply(a: Arrays, b: Arrays, dtype: mx.Dtype, transposed: str) -> tuple[Arrays, Arrays, Arrays]:
    """The product through MLX of two stacked `a` (2, m, k) with `b` (k, n), and both factors as MLX has rounded them.

    A transposed factor is laid out the other way in memory, so that the library is asked to transpose it.
    """
    left, right = mx.array(a, dtype=dtype), mx.array(b, dtype=dtype)
    if transposed[0] == "T":
        left = mx.contiguous(left.transpose(0, 2, 1)).transpose(0, 2, 1)
    if transposed[1] == "T":
        right = mx.contiguous(right.T).T
    product = left @ right
    mx.eval(left, right, product)
    first, second, found = (np.array(array).astype(np.float64) for array in (left, right, product))
    return found, first, second


def _say(**found: object) -> None:
    print(json.dumps(found), flush=True)  # noqa: T201  the parent reads it


if __name__ == "__main__":
    sys.exit(main())
