"""Compression of the embedded model's q, k and o matrices, and exact against randomised truncation by size.

Run: OPENBLAS_NUM_THREADS=1 python benchmarks/bench_svd.py (CPU time, which busy neighbours change little)
"""

import statistics
import time
from collections.abc import Callable

import numpy as np

from runners.backend import svd
from runners.backend.models import load_model

REPEATS = 3


def seconds(work: Callable[[], object]) -> float:
    """CPU time, the median of a few runs."""
    times = []
    for _ in range(REPEATS):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return statistics.median(times)


def compress(ratio: float) -> svd.Compression:
    with svd.compressed(loaded, ratio) as done:
        return done


def relative_error(matrix: np.ndarray, low: np.ndarray) -> float:
    return float(np.linalg.norm(matrix - low) / np.linalg.norm(matrix))


loaded = load_model("smollm2-135m")
for ratio in (0.3, 0.7):
    done = compress(ratio)
    taken = seconds(lambda ratio=ratio: compress(ratio))
    print(f"{done.n_matrices} matrices at ratio {ratio}: {taken:.2f} s, relative error {done.relative_error:.4f}")

rng = np.random.default_rng(0)
print("size  share  exact s  random s  error exact  error random")
for size in (576, 1024, 2048):
    left, right = (rng.standard_normal((size, size)).astype(np.float32) for _ in range(2))
    decaying = (left * np.arange(1, size + 1, dtype=np.float32) ** -0.5) @ right
    for share in (0.1, 0.3, 0.5):
        rank = svd.rank_of(decaying.shape, share)
        exact, random = svd.truncate_exact(decaying, rank), svd.truncate_random(decaying, rank, rng)
        times = (
            seconds(lambda m=decaying, k=rank: svd.truncate_exact(m, k)),
            seconds(lambda m=decaying, k=rank: svd.truncate_random(m, k, rng)),
        )
        errors = (relative_error(decaying, exact), relative_error(decaying, random))
        print(f"{size:4}  {share:5}  {times[0]:7.3f}  {times[1]:8.3f}  {errors[0]:11.4f}  {errors[1]:12.4f}")
