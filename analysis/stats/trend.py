"""Does an outcome rise or fall with an ordered factor? Jonckheere-Terpstra test."""

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations

import numpy as np
import numpy.typing as npt
from scipy import special

from analysis.stats.results import Array, Test, as_sample, is_constant, no_test

EXACT_LIMIT = 100
"""Values up to which the null distribution is computed exactly (without ties)."""


def jonckheere_terpstra(groups: Sequence[npt.ArrayLike]) -> Test:
    """Trend over groups in the order given (Terpstra 1952, Jonckheere 1954), two-sided.

    The statistic is the number of pairs from two groups in rising order, ties one half. Exact without
    ties, else a normal approximation with the variance corrected for ties.
    """
    samples = [as_sample(group) for group in groups]
    samples = [sample for sample in samples if sample.size]
    sizes = tuple(sample.size for sample in samples)
    n = sum(sizes)
    method = "Jonckheere-Terpstra trend test"
    if len(sizes) < 2 or n < 3:
        return no_test("not enough data", method, n)
    pooled = np.concatenate(samples)
    if is_constant(pooled):
        return no_test("degenerate", method, n)
    statistic = sum(_rising_pairs(low, high) for low, high in combinations(samples, 2))
    if n <= EXACT_LIMIT and np.unique(pooled).size == n:
        null = _null_distribution(sizes)
        at = round(statistic)
        p = min(1.0, 2 * float(min(null[: at + 1].sum(), null[at:].sum())))
        floor = min(1.0, 2 * float(null[0]))
        return Test(statistic=statistic, p=p, n=n, method=f"exact {method}", floor=floor)
    z = (statistic - _mean(sizes)) / math.sqrt(_variance(pooled, sizes))
    p = float(2 * special.ndtr(-abs(z)))
    return Test(statistic=statistic, p=p, n=n, method=f"{method}, normal approximation with ties")


def _rising_pairs(low: Array, high: Array) -> float:
    return float((low[:, None] < high).sum() + 0.5 * (low[:, None] == high).sum())


@lru_cache(maxsize=32)
def _null_distribution(sizes: tuple[int, ...]) -> Array:
    """Probabilities of J = 0, 1, ...: each group against all earlier ones is an independent Mann-Whitney U."""
    distribution = np.ones(1)
    before = sizes[0]
    for size in sizes[1:]:
        distribution = np.convolve(distribution, _mann_whitney(before, size))
        before += size
    return distribution


def _mann_whitney(m: int, n: int) -> Array:
    """Null probabilities of U = 0..mn: the Gaussian binomial Π (1 - q^(m+i)) / (1 - q^i), i = 1..n."""
    top = m * n
    counts = [0] * (top + 1)  # Python integers: exact whatever the size
    counts[0] = 1
    for i in range(1, n + 1):
        for u in range(top, m + i - 1, -1):
            counts[u] -= counts[u - m - i]
        for u in range(i, top + 1):
            counts[u] += counts[u - i]
    total = math.comb(m + n, n)
    return np.array([count / total for count in counts])


def _mean(sizes: tuple[int, ...]) -> float:
    n = sum(sizes)
    return (n * n - sum(size * size for size in sizes)) / 4


def _variance(pooled: Array, sizes: tuple[int, ...]) -> float:
    """Null variance of J with ties (Hollander, Wolfe & Chicken 2014, eq. 6.19)."""
    n = pooled.size
    groups, ties = np.array(sizes), np.unique(pooled, return_counts=True)[1]

    def cubic(k: npt.NDArray[np.int64]) -> float:
        return float((k * (k - 1.0) * (2.0 * k + 5.0)).sum())

    def triples(k: npt.NDArray[np.int64]) -> float:
        return float((k * (k - 1.0) * (k - 2.0)).sum())

    def pairs(k: npt.NDArray[np.int64]) -> float:
        return float((k * (k - 1.0)).sum())

    variance = (n * (n - 1) * (2 * n + 5) - cubic(groups) - cubic(ties)) / 72
    if n > 2:
        variance += triples(groups) * triples(ties) / (36 * n * (n - 1) * (n - 2))
    return variance + pairs(groups) * pairs(ties) / (8 * n * (n - 1))
