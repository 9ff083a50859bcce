"""Spearman correlations of many columns at once, with permutation p values, and their change between two groups."""

import math
from collections import defaultdict
from collections.abc import Sequence
from functools import cache
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


def many_spearman_pairs(tables: Sequence[Array], rng: np.random.Generator) -> list[dict[tuple[int, int], Test]]:
    """`spearman_pairs` of many tables: those of one shape, with few rows, no gap and no ties, all at once."""
    shapes: dict[tuple[int, ...], list[int]] = defaultdict(list)
    found: list[dict[tuple[int, int], Test]] = [{} for _ in tables]
    for k, table in enumerate(tables):
        if 3 <= len(table) <= EXACT_ROWS and not np.isnan(table).any():
            shapes[table.shape].append(k)
        else:
            found[k] = spearman_pairs(table, rng)
    for (n, columns), members in shapes.items():
        stack = np.stack([tables[k] for k in members])
        ties = (np.diff(np.sort(stack, axis=1), axis=1) == 0).any(axis=(1, 2))
        null, orders = _null_of_rho(n)
        units = (stack.argsort(axis=1).argsort(axis=1) - (n - 1) / 2) / math.sqrt(n * (n * n - 1) / 12)
        rho = np.einsum("tni,tnj->tij", units, units)
        p = (orders - np.searchsorted(null, np.abs(rho) - 1e-10)) / orders
        method = f"exact {_METHOD} ({orders} arrangements)"
        for at, k in enumerate(members):
            if ties[at]:
                found[k] = spearman_pairs(tables[k], rng)
                continue
            seen, ps = rho[at].tolist(), p[at].tolist()
            found[k] = {
                (i, j): Test(statistic=seen[i][j], p=ps[i][j], n=n, method=method, floor=2 / orders)
                for j in range(1, columns)
                for i in range(j)
            }
    return found


@cache
def _null_of_rho(n: int) -> tuple[Array, int]:
    """|rho| of all orders of n values without ties, sorted, and how many there are."""
    centred = np.arange(n) - (n - 1) / 2
    null = np.sort(np.abs(centred[all_orders(n)] @ centred) / (n * (n * n - 1) / 12))
    return null, len(null)


def coupling_change(a: Array, b: Array, rng: np.random.Generator) -> dict[tuple[int, int], Test]:
    """Difference of Spearman's rho of each pair of columns between two groups of rows (b minus a).

    Null: after centring and scaling each group, rows are exchangeable between the groups. All splits where
    there are at most 10,000, else as many random ones; Fisher's z where both groups are large.
    """
    return coupling_changes([(a, b)], rng)[0]


def coupling_changes(
    groups: Sequence[tuple[Array, Array]], rng: np.random.Generator
) -> list[dict[tuple[int, int], Test]]:
    """`coupling_change` of many pairs of groups: those of one shape share their splits and are computed together."""
    shapes: dict[tuple[int, int, int], list[int]] = defaultdict(list)
    found: list[dict[tuple[int, int], Test]] = [{} for _ in groups]
    for k, (a, b) in enumerate(groups):
        pairs = list(combinations(range(a.shape[1]), 2))
        if min(len(a), len(b)) < 4:
            found[k] = {pair: no_test("not enough data", _CHANGE, len(a) + len(b)) for pair in pairs}
        elif min(len(a), len(b)) > MONTE_CARLO_ROWS:
            found[k] = {(i, j): _fisher_change(a[:, [i, j]], b[:, [i, j]]) for i, j in pairs}
        else:
            shapes[len(a), len(b), a.shape[1]].append(k)
    for (n_a, n_b, columns), members in shapes.items():
        first = _splits(n_a + n_b, n_a, rng)
        step = max(1, _CHUNK // (columns * first.size))
        for start in range(0, len(members), step):
            some = [groups[k] for k in members[start : start + step]]
            for k, tests in zip(members[start : start + step], _changes(some, first), strict=True):
                found[k] = tests
    return found


_CHANGE = "permutation test of the difference of two Spearman correlations"
_CHUNK = 1 << 21
"""Array elements held at a time (8 MiB of float32)."""


def _changes(groups: Sequence[tuple[Array, Array]], first: np.ndarray) -> list[dict[tuple[int, int], Test]]:
    """Tests of groups of one shape. `first`: splits x rows, whether a row is on the first side; row 0 as observed."""
    n_a, n = len(groups[0][0]), first.shape[1]
    exact = math.comb(n, n_a) <= DRAWS + 1
    method = f"{'exact' if exact else 'Monte Carlo'} {_CHANGE} ({len(first)} splits)"
    pooled = np.stack([np.vstack([_scaled(a), _scaled(b)]) for a, b in groups])
    null = _rank_correlations(pooled, ~first) - _rank_correlations(pooled, first)
    sizes = np.abs(null)
    # The observed split is the first one, so that p is never 0.
    ps = (sizes >= sizes[:, :, :1] - 1e-10).mean(axis=2)
    floors = (sizes >= sizes.max(axis=2, keepdims=True) - 1e-10).mean(axis=2)
    found = []
    for k, (a, b) in enumerate(groups):
        still = [is_constant(a[:, i]) or is_constant(b[:, i]) for i in range(a.shape[1])]
        tests = {}
        for at, (i, j) in enumerate(combinations(range(a.shape[1]), 2)):
            if still[i] or still[j]:
                tests[i, j] = no_test("degenerate", _CHANGE, n)
                continue
            p = float(ps[at, k])
            tests[i, j] = Test(
                statistic=float(null[at, k, 0]), p=p, n=n, method=method, floor=float(floors[at, k]),
                p_error=None if exact else math.sqrt(p * (1 - p) / len(first)),
            )  # fmt: skip
        found.append(tests)
    return found


def _fisher_change(a: Array, b: Array) -> Test:
    """Fisher's z of the difference, variance 1.06 / (n - 3) each (Fieller, Hartley & Pearson 1957)."""
    method, n = "z test of the difference of two Spearman correlations on Fisher's scale", len(a) + len(b)
    if any(is_constant(group[:, k]) for group in (a, b) for k in (0, 1)):
        return no_test("degenerate", method, n)
    first, second = (float(np.clip(u[:, 0] @ u[:, 1], -1 + 1e-12, 1 - 1e-12)) for u in (_units(a), _units(b)))
    error = math.sqrt(1.06 / (len(a) - 3) + 1.06 / (len(b) - 3))
    z = (math.atanh(second) - math.atanh(first)) / error
    return Test(statistic=second - first, p=float(2 * special.ndtr(-abs(z))), n=n, method=method)


def _splits(n: int, k: int, rng: np.random.Generator) -> np.ndarray:
    """Splits x rows, true on the first side; the first split is the observed one."""
    if math.comb(n, k) <= DRAWS + 1:
        first = np.array(list(combinations(range(n), k)))
    else:
        first = np.vstack([np.arange(n), rng.permuted(np.broadcast_to(np.arange(n), (DRAWS, n)), axis=1)])[:, :k]
    sides = np.zeros((len(first), n), dtype=bool)
    np.put_along_axis(sides, first, values=True, axis=1)
    return sides


def _rank_correlations(pooled: Array, side: np.ndarray) -> Array:
    """Spearman's rho of each pair of columns among the rows of each side: pairs x tables x splits.

    `pooled` is tables x rows x columns. Twice a centred average rank is a whole number (2 less + equal - size),
    so that float32 holds ranks and their products exactly; 0 where a column is constant on the side.
    """
    values = pooled.transpose(2, 1, 0)  # columns x rows x tables
    apart = values[:, :, None, :] - values[:, None, :, :]
    order = (np.sign(apart).astype(np.float32) + 1).transpose(0, 1, 3, 2)  # 2: above, 1: equal
    mask = side.T.astype(np.float32)  # rows x splits
    ranks = order @ mask - mask.sum(axis=0)
    ranks *= mask[:, None, :]
    norms = np.sqrt((ranks * ranks).sum(axis=1, dtype=np.float64))
    norms[norms == 0] = np.inf
    return np.stack(
        [
            (ranks[i] * ranks[j]).sum(axis=0, dtype=np.float64) / (norms[i] * norms[j])
            for i, j in combinations(range(len(ranks)), 2)
        ]
    )


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
