"""Spearman correlations of many columns at once, with permutation p values, and their change between two groups."""

import math
from itertools import combinations

import numpy as np
from scipy import special

from analysis.stats.permutation import all_orders, spearman_test
from analysis.stats.results import Array, Test, average_ranks, is_constant, no_test

EXACT_ROWS = 8
"""Rows up to which all orders are gone through (8! = 40,320)."""
MONTE_CARLO_ROWS = 30
"""Rows up to which random orders are drawn; beyond, Student's t (Fisher's z for a difference) is as good."""
DRAWS = 9_999
_METHOD = "permutation test of Spearman's rho"


def spearman_pairs(values: Array, rng: np.random.Generator) -> dict[tuple[int, int], Test]:
    """Spearman's rho of every pair of columns, over the rows that have both (NaN: missing)."""
    if not np.isnan(values).any() and 3 <= len(values) <= MONTE_CARLO_ROWS:
        return _drawn(values, rng)
    return {(i, j): _pair(values[:, [i, j]], rng) for i, j in combinations(range(values.shape[1]), 2)}


def _pair(pair: Array, rng: np.random.Generator) -> Test:
    whole = pair[~np.isnan(pair).any(axis=1)]
    n = len(whole)
    if n <= EXACT_ROWS:
        return spearman_test(whole[:, 0], whole[:, 1], rng)
    if n <= MONTE_CARLO_ROWS:
        return _drawn(whole, rng)[0, 1]
    method = "t test of Spearman's rho"
    if is_constant(whole[:, 0]) or is_constant(whole[:, 1]):
        return no_test("degenerate", method, n)
    rho = float(_units(whole)[:, 0] @ _units(whole)[:, 1])
    t = rho * math.sqrt((n - 2) / max(1e-15, 1 - rho * rho))
    return Test(statistic=rho, p=float(2 * special.stdtr(n - 2, -abs(t))), n=n, method=method)


def _drawn(values: Array, rng: np.random.Generator) -> dict[tuple[int, int], Test]:
    """One set of orders serves all pairs: the later column is rearranged against the earlier ones."""
    n, columns = values.shape
    units = _units(values)
    exact = n <= EXACT_ROWS
    orders = all_orders(n) if exact else rng.permuted(np.broadcast_to(np.arange(n), (DRAWS, n)), axis=1)
    tests = {}
    for j in range(1, columns):
        shuffled = np.abs(units[orders, j] @ units[:, :j])
        for i in range(j):
            if is_constant(values[:, i]) or is_constant(values[:, j]):
                tests[i, j] = no_test("degenerate", _METHOD, n)
                continue
            rho = float(units[:, i] @ units[:, j])
            hits = int(np.count_nonzero(shuffled[:, i] >= abs(rho) - 1e-10))
            if exact:
                least = int(np.count_nonzero(shuffled[:, i] >= shuffled[:, i].max() - 1e-10))
                method = f"exact {_METHOD} ({len(orders)} arrangements)"
                tests[i, j] = Test(statistic=rho, p=hits / len(orders), n=n, method=method, floor=least / len(orders))
                continue
            p = (1 + hits) / (1 + DRAWS)
            tests[i, j] = Test(
                statistic=rho, p=p, n=n, method=f"Monte Carlo {_METHOD} ({DRAWS} random orders)",
                floor=1 / (1 + DRAWS), p_error=math.sqrt(p * (1 - p) / DRAWS),
            )  # fmt: skip
    return tests


def coupling_change(a: Array, b: Array, rng: np.random.Generator) -> dict[tuple[int, int], Test]:
    """Difference of Spearman's rho of each pair of columns between two groups of rows (b minus a).

    Null: after centring and scaling each group, rows are exchangeable between the groups. All splits where
    there are at most 10,000, else as many random ones; Fisher's z where both groups are large.
    """
    method = "permutation test of the difference of two Spearman correlations"
    n_a, n = len(a), len(a) + len(b)
    pairs = list(combinations(range(a.shape[1]), 2))
    if min(n_a, len(b)) < 4:
        return {pair: no_test("not enough data", method, n) for pair in pairs}
    if min(n_a, len(b)) > MONTE_CARLO_ROWS:
        return {(i, j): _fisher_change(a[:, [i, j]], b[:, [i, j]]) for i, j in pairs}
    pooled = np.vstack([_scaled(a), _scaled(b)])
    splits = _splits(n, n_a, rng)
    null = _correlations(pooled, splits[1]) - _correlations(pooled, splits[0])
    exact = math.comb(n, n_a) <= DRAWS + 1
    tests = {}
    for i, j in pairs:
        if any(is_constant(group[:, k]) for group in (a, b) for k in (i, j)):
            tests[i, j] = no_test("degenerate", method, n)
            continue
        seen, others = float(null[0, i, j]), np.abs(null[:, i, j])
        # The observed split is the first row, so that p is never 0.
        p = float(np.mean(others >= abs(seen) - 1e-10))
        floor = float(np.mean(others >= others.max() - 1e-10))
        kind = "exact" if exact else "Monte Carlo"
        tests[i, j] = Test(
            statistic=seen, p=p, n=n, method=f"{kind} {method} ({len(others)} splits)", floor=floor,
            p_error=None if exact else math.sqrt(p * (1 - p) / len(others)),
        )  # fmt: skip
    return tests


def _fisher_change(a: Array, b: Array) -> Test:
    """Fisher's z of the difference, variance 1.06 / (n - 3) each (Fieller, Hartley & Pearson 1957)."""
    method, n = "z test of the difference of two Spearman correlations on Fisher's scale", len(a) + len(b)
    if any(is_constant(group[:, k]) for group in (a, b) for k in (0, 1)):
        return no_test("degenerate", method, n)
    first, second = (float(np.clip(u[:, 0] @ u[:, 1], -1 + 1e-12, 1 - 1e-12)) for u in (_units(a), _units(b)))
    error = math.sqrt(1.06 / (len(a) - 3) + 1.06 / (len(b) - 3))
    z = (math.atanh(second) - math.atanh(first)) / error
    return Test(statistic=second - first, p=float(2 * special.ndtr(-abs(z))), n=n, method=method)


def _splits(n: int, k: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Rows of both sides of every split; the first is the observed one."""
    if math.comb(n, k) <= DRAWS + 1:
        first = np.array(list(combinations(range(n), k)))
        mask = np.ones((len(first), n), dtype=bool)
        np.put_along_axis(mask, first, values=False, axis=1)
        return first, np.nonzero(mask)[1].reshape(len(first), n - k)
    orders = np.vstack([np.arange(n), rng.permuted(np.broadcast_to(np.arange(n), (DRAWS, n)), axis=1)])
    return orders[:, :k], orders[:, k:]


def _correlations(pooled: Array, rows: np.ndarray) -> Array:
    """Spearman matrices of many subsets at once: subsets x columns x columns."""
    chosen = pooled[rows]
    ranks = (chosen[:, :, None, :] > chosen[:, None, :, :]).sum(axis=2) + 0.5 * (
        (chosen[:, :, None, :] == chosen[:, None, :, :]).sum(axis=2) - 1
    )
    centred = ranks - ranks.mean(axis=1, keepdims=True)
    scale = np.sqrt((centred**2).sum(axis=1))
    scale[scale == 0] = np.inf
    units = centred / scale[:, None, :]
    return np.asarray(np.einsum("sni,snj->sij", units, units))


def _scaled(group: Array) -> Array:
    spread = group.std(axis=0, ddof=1)
    spread[spread == 0] = 1.0
    return np.asarray((group - np.median(group, axis=0)) / spread)


def _units(values: Array) -> Array:
    ranks = np.column_stack([average_ranks(column) for column in values.T])
    centred = ranks - ranks.mean(axis=0)
    norms = np.linalg.norm(centred, axis=0)
    norms[norms == 0] = np.inf
    return np.asarray(centred / norms)
