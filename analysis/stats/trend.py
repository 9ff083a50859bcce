"""Does an outcome rise or fall with an ordered factor? Jonckheere-Terpstra test."""

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations

import numpy as np
import numpy.typing as npt
from scipy import special

from analysis.stats.batches import places_of
from analysis.stats.results import Array, Test, as_sample, no_test, still

METHOD = "Jonckheere-Terpstra trend test"
EXACT_LIMIT = 100
"""Values up to which the null distribution is computed exactly (without ties)."""


def jonckheere_terpstra(groups: Sequence[npt.ArrayLike]) -> Test:
    """Trend over groups in the order given (Terpstra 1952, Jonckheere 1954), two-sided.

    The statistic is the number of pairs from two groups in rising order, ties one half. Exact without
    ties, else a normal approximation with the variance corrected for ties.
    """
    return jonckheere_terpstra_each([groups])[0]


def jonckheere_terpstra_each(cases: Sequence[Sequence[npt.ArrayLike]]) -> list[Test]:
    """`jonckheere_terpstra` of the groups of each case."""
    samples = [[sample for group in groups if (sample := as_sample(group)).size] for groups in cases]
    found: dict[int, Test] = {}
    for sizes, places in places_of(tuple(sample.size for sample in groups) for groups in samples).items():
        if len(sizes) < 2 or sum(sizes) < 3:
            found |= dict.fromkeys(places, no_test("not enough data", METHOD, sum(sizes)))
            continue
        pooled = np.array([np.concatenate(samples[place]) for place in places])
        found |= dict(zip(places, _tests(pooled, sizes), strict=True))
    return [found[place] for place in range(len(cases))]


def _tests(pooled: Array, sizes: tuple[int, ...]) -> list[Test]:
    """Tests of cases with groups of one set of sizes (cases x values, group after group)."""
    n = sum(sizes)
    groups = np.split(pooled, np.cumsum(sizes)[:-1], axis=1)
    seen = np.sum([_rising_pairs(low, high) for low, high in combinations(groups, 2)], axis=0)
    if n <= EXACT_LIMIT:
        null = _null_distribution(sizes)
        at = np.rint(seen).astype(np.intp)
        # The sum of all up to what was seen, and of all from there on.
        p = np.minimum(1.0, 2 * np.minimum(np.cumsum(null)[at], np.cumsum(null[::-1])[len(null) - 1 - at]))
        exact, floor = (np.diff(np.sort(pooled, axis=1), axis=1) != 0).all(axis=1), min(1.0, 2 * float(null[0]))
    else:
        p, exact, floor = np.ones(len(pooled)), np.zeros(len(pooled), dtype=bool), 1.0
    found = []
    rows = zip(*(column.tolist() for column in (still(pooled), exact, seen, p)), strict=True)
    for place, (constant, distinct, statistic, small) in enumerate(rows):
        if constant:
            found.append(no_test("degenerate", METHOD, n))
        elif distinct:
            found.append(Test(statistic=statistic, p=small, n=n, method=f"exact {METHOD}", floor=floor))
        else:
            z = (statistic - _mean(sizes)) / math.sqrt(_variance(pooled[place], sizes))
            by_normal = float(2 * special.ndtr(-abs(z)))
            found.append(
                Test(statistic=statistic, p=by_normal, n=n, method=f"{METHOD}, normal approximation with ties")
            )
    return found


def _rising_pairs(low: Array, high: Array) -> Array:
    """Of each case, the pairs in rising order; ties count one half."""
    apart = high[:, None, :] - low[:, :, None]
    return np.asarray((apart > 0).sum(axis=(1, 2)) + 0.5 * (apart == 0).sum(axis=(1, 2)))


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
