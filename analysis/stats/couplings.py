"""Spearman correlations of many columns at once, with permutation p values, and their change between two groups."""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache, partial
from itertools import combinations

import numpy as np
import numpy.typing as npt
from scipy import special

from analysis.stats.batches import DRAWS, STAGES, Places, Stages, by_shape, random_orders, staged
from analysis.stats.permutation import all_orders, spearman_test
from analysis.stats.results import Array, Test, average_ranks, finite, is_constant, no_test, still

EXACT_ROWS = 8
"""Rows up to which all orders are gone through (8! = 40,320)."""
MONTE_CARLO_ROWS = 30
"""Rows up to which random orders are drawn; beyond, Student's t (Fisher's z for a difference) is as good."""
Sides = npt.NDArray[np.bool_]
_METHOD = "permutation test of Spearman's rho"


def spearman_pairs(values: Array, rng: np.random.Generator) -> dict[tuple[int, int], Test]:
    """Spearman's rho of every pair of columns, over the rows that have both (NaN: missing)."""
    return many_spearman_pairs([values], rng)[0]


def _alone(values: Array, rng: np.random.Generator) -> dict[tuple[int, int], Test]:
    """The pairs of a table with gaps, with ties, or with very few or very many rows."""
    finite(values[~np.isnan(values)], "a table")
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
    orders = all_orders(n) if exact else random_orders(DRAWS, n, rng)
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
    """`spearman_pairs` of many tables: those of one shape, without gaps and ties, at once.

    Without ties the null distribution hangs on the number of rows only, so that they share it.
    """
    regular = [k for k, table in enumerate(tables) if _regular(table)]
    found: list[dict[tuple[int, int], Test]] = [{} for _ in tables]
    nulls: dict[int, tuple[Array, bool]] = {}
    for group, stack in by_shape([tables[k] for k in regular]):
        n, columns = stack.shape[1:]
        ties = (np.diff(np.sort(stack, axis=1), axis=1) == 0).any(axis=(1, 2)).tolist()
        if n not in nulls:
            nulls[n] = (_all_rho(n), True) if n <= EXACT_ROWS else (_random_rho(n, rng), False)
        null, exact = nulls[n]
        units = (stack.argsort(axis=1).argsort(axis=1) - (n - 1) / 2) / math.sqrt(n * (n * n - 1) / 12)
        rho = np.einsum("tni,tnj->tij", units, units)
        hits = len(null) - np.searchsorted(null, np.abs(rho) - 1e-10)
        if exact:
            p, errors, floor = hits / len(null), None, 2 / len(null)
            method = f"exact {_METHOD} ({len(null)} arrangements)"
        else:
            p, floor = (1 + hits) / (1 + len(null)), 1 / (1 + len(null))
            errors = np.sqrt(p * (1 - p) / len(null)).tolist()
            method = f"Monte Carlo {_METHOD} ({len(null)} random orders)"
        seen, small = rho.tolist(), p.tolist()
        for at, place in enumerate(group):
            if not ties[at]:
                found[regular[place]] = {
                    (i, j): Test(
                        statistic=seen[at][i][j], p=small[at][i][j], n=n, method=method, floor=floor,
                        p_error=None if errors is None else errors[at][i][j],
                    )
                    for j in range(1, columns)
                    for i in range(j)
                }  # fmt: skip
    return [tests or _alone(table, rng) for table, tests in zip(tables, found, strict=True)]


def _regular(table: Array) -> bool:
    return 3 <= len(table) <= MONTE_CARLO_ROWS and table.shape[1] > 1 and not np.isnan(table).any()


@cache
def _all_rho(n: int) -> Array:
    """|rho| of all orders of n values without ties, sorted."""
    centred = np.arange(n) - (n - 1) / 2
    return np.sort(np.abs(centred[all_orders(n)] @ centred) / (n * (n * n - 1) / 12))


def _random_rho(n: int, rng: np.random.Generator) -> Array:
    """|rho| of random orders of n values without ties, sorted."""
    centred = np.arange(n) - (n - 1) / 2
    return np.sort(np.abs(centred[random_orders(DRAWS, n, rng)] @ centred) / (n * (n * n - 1) / 12))


def coupling_change(a: Array, b: Array, rng: np.random.Generator) -> dict[tuple[int, int], Test]:
    """Difference of Spearman's rho of each pair of columns between two groups of rows (b minus a).

    Null: after centring and scaling each group, rows are exchangeable between the groups. All splits where
    there are at most 10,000, else as many random ones; Fisher's z where both groups are large.
    """
    return coupling_changes([(a, b)], rng)[0]


def coupling_changes(
    groups: Sequence[tuple[Array, Array]], rng: np.random.Generator, stages: Stages = STAGES
) -> list[dict[tuple[int, int], Test]]:
    """`coupling_change` of many pairs of groups: those of one shape share their splits and are computed together."""
    shapes: dict[tuple[int, int, int], list[int]] = defaultdict(list)
    found: list[dict[tuple[int, int], Test]] = [{} for _ in groups]
    for k, (a, b) in enumerate(groups):
        pairs = list(combinations(range(finite(a, "a table").shape[1]), 2))
        finite(b, "a table")
        if min(len(a), len(b)) < 4:
            found[k] = {pair: no_test("not enough data", _CHANGE, len(a) + len(b)) for pair in pairs}
        elif min(len(a), len(b)) > MONTE_CARLO_ROWS:
            found[k] = {(i, j): _fisher_change(a[:, [i, j]], b[:, [i, j]]) for i, j in pairs}
        else:
            shapes[len(a), len(b), a.shape[1]].append(k)
    for places in shapes.values():
        a, b = (np.array([groups[k][side] for k in places]) for side in (0, 1))
        for k, tests in zip(places, _Changes(a, b).tests(rng, stages), strict=True):
            found[k] = tests
    return found


_CHANGE = "permutation test of the difference of two Spearman correlations"
_CHUNK = 1 << 21
"""Array elements held at a time (8 MiB of float32)."""
_WHOLE = 250
"""Rows up to which float32 holds sums of products of ranks, whole numbers, exactly."""


class _Changes:
    """Differences of Spearman's rho (second side minus first) of all pairs of columns of tables of one shape.

    A *unit* is a column of a table, a test two units of one table. Twice a centred average rank is a whole number
    (2 less + equal - size), so that sums of products of ranks are exact.
    """

    def __init__(self, a: Array, b: Array) -> None:
        """`a` and `b`: tables x rows x columns, the rows of the first and of the second side."""
        self.n_a, self.n_b = a.shape[1], b.shape[1]
        self.n, count, self.columns = self.n_a + self.n_b, len(a), a.shape[2]
        pooled = np.concatenate([_scaled(a), _scaled(b)], axis=1)
        self.units = pooled.transpose(0, 2, 1).reshape(-1, self.n)
        self.still = np.logical_or(*(still(side.transpose(0, 2, 1)) for side in (a, b))).reshape(-1)
        self.pairs = list(combinations(range(self.columns), 2))
        self.of_test = (np.array(self.pairs) + self.columns * np.arange(count)[:, None, None]).reshape(-1, 2)

    def tests(self, rng: np.random.Generator, stages: Stages) -> list[dict[tuple[int, int], Test]]:
        """The tests of each table. All splits where there are few, else random ones."""
        count = len(self.of_test)
        everything = np.arange(count)
        if (splits := math.comb(self.n, self.n_a)) <= DRAWS + 1:
            p, floors, word, draws = np.empty(count), np.empty(count), "exact", np.full(count, splits)
            for at, null in self._parts(everything, all_splits(self.n, self.n_a)):
                sizes = np.abs(null)
                p[at] = (sizes >= sizes[:, :1] - 1e-10).mean(axis=1)
                floors[at] = (sizes >= sizes.max(axis=1, keepdims=True) - 1e-10).mean(axis=1)
            errors = [None] * count
        else:
            hits, draws = staged(count, partial(self._extreme, rng=rng), stages)
            p, floors, word = (1 + hits) / (1 + draws), np.full(count, 1 / (1 + stages[-1][0])), "Monte Carlo"
            errors = np.sqrt(p * (1 - p) / draws).tolist()
        seen = self._seen(everything)
        flat = self.still[self.of_test].any(axis=1)
        methods = {done: f"{word} {_CHANGE} ({done} splits)" for done in set(draws.tolist())}
        rows = zip(*(column.tolist() for column in (flat, seen, p, floors, draws)), errors, strict=True)
        found = [
            no_test("degenerate", _CHANGE, self.n)
            if constant
            else Test(statistic=change, p=small, n=self.n, method=methods[done], floor=least, p_error=error)
            for constant, change, small, least, done, error in rows
        ]
        size = len(self.pairs)
        return [dict(zip(self.pairs, found[start : start + size], strict=True)) for start in range(0, len(found), size)]

    def _seen(self, which: Places) -> Array:
        """The differences between the two sides as they are."""
        observed = np.arange(self.n)[None] < self.n_a
        return np.concatenate([found[:, 0] for _, found in self._parts(which, observed)])

    def _extreme(self, which: Places, count: int, rng: np.random.Generator) -> Places:
        """How many of `count` random splits are as extreme, for each of some of the tests."""
        bounds, hits = np.abs(self._seen(which)) - 1e-10, np.empty(len(which), dtype=np.intp)
        for at, null in self._parts(which, random_orders(count, self.n, rng) < self.n_a):
            hits[at] = np.count_nonzero(np.abs(null) >= bounds[at, None], axis=1)
        return hits

    def _parts(self, which: Places, sides: Sides) -> Iterator[tuple[slice, Array]]:
        """The differences (tests x splits) of some tests at a time, and which of `which` they are."""
        step = max(1, _CHUNK // (self.n * max(self.n, len(sides))))
        for start in range(0, len(which), step):
            at = slice(start, start + step)
            yield at, self._differences(self.of_test[which[at]], sides)

    def _differences(self, of_test: Places, sides: Sides) -> Array:
        """`sides`: splits x rows, whether a row is on the first side."""
        kept, own = np.unique(of_test, return_inverse=True)
        i, j = own.reshape(of_test.shape).T
        values, first = self.units[kept], sides.T
        kind = np.float32 if self.n <= _WHOLE else np.float64
        order = (np.sign(values[:, :, None] - values[:, None, :]) + 1).astype(kind)  # 2: above, 1: equal
        mask = first.astype(kind)
        below = (order.reshape(-1, self.n) @ mask).reshape(len(kept), self.n, -1)
        ranks = np.where(first, below - self.n_a, order.sum(axis=2, keepdims=True) - below - self.n_b)
        masked = ranks * mask

        def products(i: Places, j: Places) -> tuple[Array, Array]:
            first, both = (np.einsum("urs,urs->us", side[i], ranks[j]).astype(np.float64) for side in (masked, ranks))
            return first, both - first

        def rho(shared: Array, squares: Array | float) -> Array:
            norms = np.sqrt(squares[i] * squares[j]) if isinstance(squares, np.ndarray) else squares
            return shared / np.where(norms == 0, np.inf, norms)

        if (np.diff(np.sort(values, axis=1), axis=1) == 0).any():
            units = np.arange(len(kept))
            squares: tuple[Array | float, Array | float] = products(units, units)
        else:
            squares = self.n_a * (self.n_a**2 - 1) / 3, self.n_b * (self.n_b**2 - 1) / 3
        before, after = (rho(shared, square) for shared, square in zip(products(i, j), squares, strict=True))
        return np.asarray(after - before)


def _fisher_change(a: Array, b: Array) -> Test:
    """Fisher's z of the difference, variance 1.06 / (n - 3) each (Fieller, Hartley & Pearson 1957)."""
    method, n = "z test of the difference of two Spearman correlations on Fisher's scale", len(a) + len(b)
    if any(is_constant(group[:, k]) for group in (a, b) for k in (0, 1)):
        return no_test("degenerate", method, n)
    first, second = (float(np.clip(u[:, 0] @ u[:, 1], -1 + 1e-12, 1 - 1e-12)) for u in (_units(a), _units(b)))
    error = math.sqrt(1.06 / (len(a) - 3) + 1.06 / (len(b) - 3))
    z = (math.atanh(second) - math.atanh(first)) / error
    return Test(statistic=second - first, p=float(2 * special.ndtr(-abs(z))), n=n, method=method)


@lru_cache(maxsize=4)
def all_splits(n: int, k: int) -> Sides:
    """Splits x rows: all ways to have k of n rows on the first side (true); the first k come first."""
    first = np.array(list(combinations(range(n), k)))
    sides = np.zeros((len(first), n), dtype=bool)
    np.put_along_axis(sides, first, values=True, axis=1)
    return sides


def _scaled(tables: Array) -> Array:
    """Each column of each table (tables x rows x columns) about its median, by its SD."""
    spread = tables.std(axis=1, ddof=1, keepdims=True)
    return np.asarray((tables - np.median(tables, axis=1, keepdims=True)) / np.where(spread == 0, 1.0, spread))


def _units(values: Array) -> Array:
    ranks = np.column_stack([average_ranks(column) for column in values.T])
    centred = ranks - ranks.mean(axis=0)
    norms = np.linalg.norm(centred, axis=0)
    norms[norms == 0] = np.inf
    return np.asarray(centred / norms)
