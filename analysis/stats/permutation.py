"""Exact permutation tests: all rearrangements where there are at most 100,000, else Monte Carlo.

Every test reports its floor: the smallest p that the given values could have produced in any arrangement.
Five against five cannot go below 2/252 = .0079, three against three not below .10, Spearman with five
pairs not below 2/120 = .0167. All tests are two-sided.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, permutations

import numpy as np
import numpy.typing as npt

from analysis.stats.results import Array, Test, as_sample, average_ranks, is_constant, no_test, still

MAX_EXACT = 100_000
DRAWS = 99_999
"""Monte Carlo rearrangements beside the observed one: p is a multiple of 1/100,000."""

_CHUNK = 1 << 21
"""Array elements held at a time by the Monte Carlo branch (16 MiB of float64)."""


def two_sample_floor(n_a: int, n_b: int) -> float:
    """Smallest two-sided p of the exact two-sample test without ties; 2/C for equal sizes, else 1/C."""
    splits = math.comb(n_a + n_b, n_a)
    return min(1.0, (2 if n_a == n_b else 1) / splits)


def two_sample_test(a: npt.ArrayLike, b: npt.ArrayLike, rng: np.random.Generator) -> Test:
    """Permutation test of the difference of means; null: the group labels are exchangeable."""
    first, second = as_sample(a), as_sample(b)
    pooled = np.concatenate([first, second])
    n, k = pooled.size, first.size
    method = "permutation test of the difference of means"
    if min(first.size, second.size) < 1 or n < 3:
        return no_test("not enough data", method, n)
    difference = float(first.mean() - second.mean())
    if is_constant(pooled):
        return no_test("degenerate", method, n)
    centred = pooled - pooled.mean()
    # With a fixed total, |difference of means| is an increasing function of |centred sum of group a|.
    seen = _Observed(
        statistic=difference,
        size=abs(float(centred[:k].sum())),
        n=n,
        method=method,
        tolerance=1e-10 * float(np.abs(centred).sum()),
    )
    if math.comb(n, k) <= MAX_EXACT:
        return _exact(seen, np.abs(centred[_splits(n, k)].sum(axis=1)))

    def draw(count: int) -> Array:
        chosen = np.argpartition(rng.random((count, n)), k, axis=1)[:, :k]
        return np.asarray(np.abs(centred[chosen].sum(axis=1)), dtype=np.float64)

    return _monte_carlo(seen, draw)


def two_sample_tests(pairs: Sequence[tuple[npt.ArrayLike, npt.ArrayLike]], rng: np.random.Generator) -> list[Test]:
    """`two_sample_test` of many pairs: those of the same sizes share their rearrangements, where these are exact."""
    samples = [(as_sample(a), as_sample(b)) for a, b in pairs]
    sizes: dict[tuple[int, int], list[int]] = defaultdict(list)
    found: dict[int, Test] = {}
    for i, (a, b) in enumerate(samples):
        n = a.size + b.size
        if min(a.size, b.size) < 1 or n < 3 or math.comb(n, a.size) > MAX_EXACT:
            found[i] = two_sample_test(a, b, rng)
        else:
            sizes[a.size, b.size].append(i)
    for (k, rest), members in sizes.items():
        splits = _splits(k + rest, k)
        step = max(1, _CHUNK // splits.size)
        for start in range(0, len(members), step):
            some = members[start : start + step]
            pooled = np.concatenate([np.stack([samples[i][side] for i in some]) for side in (0, 1)], axis=1)
            flat = still(pooled)
            differences = pooled[:, :k].mean(axis=1) - pooled[:, k:].mean(axis=1)
            centred = pooled - pooled.mean(axis=1, keepdims=True)
            slack = 1e-10 * np.abs(centred).sum(axis=1)
            null = np.abs(centred[:, splits].sum(axis=2))
            seen = np.abs(centred[:, :k].sum(axis=1))
            p = (null >= (seen - slack)[:, None]).mean(axis=1)
            floor = (null >= (null.max(axis=1) - slack)[:, None]).mean(axis=1)
            method = f"exact permutation test of the difference of means ({len(splits)} arrangements)"
            for i, statistic, share, least in zip(some, differences.tolist(), p.tolist(), floor.tolist(), strict=True):
                found[i] = Test(statistic=statistic, p=share, n=k + rest, method=method, floor=least)
            found |= {some[at]: two_sample_test(*samples[some[at]], rng) for at in np.flatnonzero(flat)}
    return [found[i] for i in range(len(samples))]


def sign_flip_test(differences: npt.ArrayLike, rng: np.random.Generator) -> Test:
    """Paired permutation test of a zero mean difference; null: each difference is symmetric about zero."""
    sample = as_sample(differences)
    n = sample.size
    method = "sign-flip permutation test of the mean difference"
    if n < 2:
        return no_test("not enough data", method, n)
    if not sample.any():
        return no_test("degenerate", method, n)
    seen = _Observed(
        statistic=float(sample.mean()),
        size=abs(float(sample.sum())),
        n=n,
        method=method,
        tolerance=1e-10 * float(np.abs(sample).sum()),
    )
    if 2**n <= MAX_EXACT:
        return _exact(seen, np.abs(_signs(n) @ sample))

    def draw(count: int) -> Array:
        signs = 2.0 * rng.integers(0, 2, size=(count, n)) - 1.0
        return np.asarray(np.abs(signs @ sample), dtype=np.float64)

    return _monte_carlo(seen, draw)


def paired_test(a: npt.ArrayLike, b: npt.ArrayLike, rng: np.random.Generator) -> Test:
    """Sign-flip test of a - b, value by value; ValueError if the lengths differ."""
    first, second = as_sample(a), as_sample(b)
    if first.size != second.size:
        raise ValueError(f"paired samples need equal lengths, got {first.size} and {second.size}")
    return sign_flip_test(first - second, rng)


def spearman_test(x: npt.ArrayLike, y: npt.ArrayLike, rng: np.random.Generator) -> Test:
    """Spearman's rank correlation (ties averaged) with its permutation p; the statistic is rho."""
    first, second = as_sample(x), as_sample(y)
    if first.size != second.size:
        raise ValueError(f"a correlation needs equal lengths, got {first.size} and {second.size}")
    n = first.size
    method = "permutation test of Spearman's rho"
    if n < 3:
        return no_test("not enough data", method, n)
    if is_constant(first) or is_constant(second):
        return no_test("degenerate", method, n)
    rank_x = _unit(average_ranks(first))
    rank_y = _unit(average_ranks(second))
    rho = float(np.clip(rank_x @ rank_y, -1.0, 1.0))
    seen = _Observed(statistic=rho, size=abs(rho), n=n, method=method, tolerance=1e-10)
    if math.factorial(n) <= MAX_EXACT:
        return _exact(seen, np.abs(rank_y[all_orders(n)] @ rank_x))

    def draw(count: int) -> Array:
        shuffled = rng.permuted(np.broadcast_to(rank_y, (count, n)), axis=1)
        return np.asarray(np.abs(shuffled @ rank_x), dtype=np.float64)

    return _monte_carlo(seen, draw)


@dataclass(frozen=True, kw_only=True)
class _Observed:
    """What was seen, to be set against rearrangements; `size` is the absolute statistic they are compared in."""

    statistic: float
    size: float
    n: int
    method: str
    tolerance: float
    """Rounding up to which a rearrangement counts as equally extreme."""


def _exact(seen: _Observed, null: Array) -> Test:
    """p and floor from the full null distribution of the absolute statistic."""
    return Test(
        statistic=seen.statistic,
        p=float(np.mean(null >= seen.size - seen.tolerance)),
        n=seen.n,
        method=f"exact {seen.method} ({null.size} arrangements)",
        floor=float(np.mean(null >= null.max() - seen.tolerance)),
    )


def _monte_carlo(seen: _Observed, draw: Callable[[int], Array]) -> Test:
    """p = (1 + hits) / (1 + draws): the observed arrangement counts (Phipson & Smyth 2010)."""
    hits, left, chunk = 0, DRAWS, max(1, _CHUNK // seen.n)
    while left:
        null = draw(min(chunk, left))
        hits += int(np.count_nonzero(null >= seen.size - seen.tolerance))
        left -= null.size
    p = (1 + hits) / (1 + DRAWS)
    return Test(
        statistic=seen.statistic,
        p=p,
        n=seen.n,
        method=f"Monte Carlo {seen.method} ({DRAWS} random arrangements)",
        floor=1 / (1 + DRAWS),
        p_error=math.sqrt(p * (1 - p) / DRAWS),
    )


def _unit(ranks: npt.NDArray[np.float64]) -> Array:
    centred = ranks - ranks.mean()
    return np.asarray(centred / np.linalg.norm(centred), dtype=np.float64)


@lru_cache(maxsize=16)
def _splits(n: int, k: int) -> npt.NDArray[np.intp]:
    """All C(n, k) choices of k of n indices, one a row."""
    flat = np.fromiter((i for choice in combinations(range(n), k) for i in choice), dtype=np.intp)
    return flat.reshape(-1, k)


@lru_cache(maxsize=4)
def _signs(n: int) -> Array:
    """All 2^n vectors of signs, one a row."""
    bits = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
    return (1 - 2 * bits).astype(np.float64)


@lru_cache(maxsize=4)
def all_orders(n: int) -> npt.NDArray[np.intp]:
    """All n! orders of n indices, one a row."""
    return np.array(list(permutations(range(n))), dtype=np.intp)
