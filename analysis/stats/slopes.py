"""Slopes over doses: one line through all points, one a seed, comparisons of slopes and equivalence of their ratio.

`..._each` functions take many samples, those of one shape at once; the function of one sample is the batch of one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy import special

from analysis.stats.batches import DRAWS, Places, by_shape, random_orders, staged
from analysis.stats.couplings import EXACT_ROWS, MONTE_CARLO_ROWS
from analysis.stats.intervals import t_quantile
from analysis.stats.permutation import all_orders
from analysis.stats.results import Array, Estimate, Test, finite, no_estimate, no_test, still

_CHUNK = 1 << 20
"""Array elements held at a time."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """Least squares through (x, y)."""

    slope: float
    intercept: float
    error: float
    """Standard error of the slope."""
    df: int
    ss: float
    """Residual sum of squares."""
    sxx: float


def fit_line(x: Array, y: Array) -> Line | None:
    """The line, or None with fewer than three points or a single x."""
    return fit_lines([(x, y)])[0]


def fit_lines(pairs: Sequence[tuple[Array, Array]]) -> list[Line | None]:
    """`fit_line` of each (x, y)."""
    found: list[Line | None] = [None] * len(pairs)
    for places, both in by_shape([np.stack(pair) for pair in pairs]):
        x, y, n = both[:, 0], both[:, 1], both.shape[2]
        if n < 3:
            continue
        means = x.mean(axis=1)
        centred = x - means[:, None]
        sxx = (centred**2).sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            slope = (centred * y).sum(axis=1) / sxx
            intercept = y.mean(axis=1) - slope * means
            ss = ((y - intercept[:, None] - slope[:, None] * x) ** 2).sum(axis=1)
            error = np.sqrt(ss / (n - 2) / sxx)
        columns = (column.tolist() for column in (slope, intercept, error, ss, sxx))
        for place, (own_slope, own_intercept, own_error, own_ss, own_sxx) in zip(
            places, zip(*columns, strict=True), strict=True
        ):
            if own_sxx:
                found[place] = Line(
                    slope=own_slope, intercept=own_intercept, error=own_error, df=n - 2, ss=own_ss, sxx=own_sxx
                )
    return found


def slope_interval(line: Line | None, *, level: float = 0.95) -> Estimate:
    """The slope with Student's t interval."""
    method = "least-squares slope, t interval"
    if line is None:
        return no_estimate("not enough data", method, 0)
    reach = t_quantile(line.df, level) * line.error
    return Estimate(
        value=line.slope, low=line.slope - reach, high=line.slope + reach, n=line.df + 2, method=method, level=level
    )


def slope_difference(a: Line, b: Line) -> Test:
    """Do two lines differ in slope? t test with the pooled residual variance; the statistic is t of b minus a."""
    df = a.df + b.df
    method = f"t test of two slopes, pooled variance (df {df})"
    variance = (a.ss + b.ss) / df * (1 / a.sxx + 1 / b.sxx)
    if variance == 0:
        return no_test("degenerate", method, df + 4)
    t = (b.slope - a.slope) / math.sqrt(variance)
    return Test(statistic=t, p=float(2 * special.stdtr(df, -abs(t))), n=df + 4, method=method)


def equivalent_slopes(a: Line, b: Line, *, tolerance: float = 0.15) -> Test:
    """Two one-sided tests that slope(a) / slope(b) lies within 1 ± tolerance (Schuirmann 1987); p is the larger."""
    df = a.df + b.df
    method = f"two one-sided t tests of the ratio against 1 ± {tolerance:g}"
    spread = (a.ss + b.ss) / df
    if spread == 0:
        return no_test("degenerate", method, df + 4)
    sign = math.copysign(1.0, b.slope)
    worst = 0.0
    for edge, side in ((1 - tolerance, 1.0), (1 + tolerance, -1.0)):
        error = math.sqrt(spread * (1 / a.sxx + edge * edge / b.sxx))
        t = side * sign * (a.slope - edge * b.slope) / error
        worst = max(worst, float(special.stdtr(df, -t)))
    # Where slope(b) may have either sign, its sign is not known either: add the chance of being wrong.
    p = min(1.0, worst + float(special.stdtr(b.df, -abs(b.slope) / b.error)) if b.error else worst)
    return Test(statistic=a.slope / b.slope if b.slope else None, p=p, n=df + 4, method=method)


def seed_slopes(doses: Array, table: Array) -> Array:
    """Least-squares slope of each row (seed) of a complete seeds x doses table, or of each of a stack of them."""
    centred = doses - doses.mean(axis=-1, keepdims=True)
    return np.asarray(
        (finite(table, "a table") * centred[..., None, :]).sum(axis=-1) / (centred**2).sum(axis=-1, keepdims=True)
    )


def slopes_vary(doses: Array, table: Array) -> Test:
    """Do seeds differ in slope beyond the scatter about their own lines? F test of random slopes.

    In a complete table the ratio of the mean squares of slopes and of deviations from each seed's own
    line is F distributed under equal slopes: the balanced case of the random-slope model.
    """
    return slopes_vary_each([doses], [table])[0]


def slopes_vary_each(doses: Sequence[Array], tables: Sequence[Array]) -> list[Test]:
    """`slopes_vary` of each table, at its own doses."""
    method = "F test of equal slopes of the seeds (random slopes, balanced)"
    found: dict[int, Test] = {}
    for places, stack in by_shape(tables):
        seeds, points = stack.shape[1:]
        size = seeds * points
        if seeds < 3 or points < 3:
            found |= dict.fromkeys(places, no_test("not enough data", method, size))
            continue
        at = np.array([doses[place] for place in places])
        centred = at - at.mean(axis=1, keepdims=True)
        # Dose means are taken out first: a curved mean response is no difference between seeds.
        apart = stack - stack.mean(axis=1, keepdims=True)
        own = seed_slopes(at, apart)
        rest = apart - apart.mean(axis=2, keepdims=True) - own[:, :, None] * centred[:, None, :]
        df_slopes, df_rest = seeds - 1, (seeds - 1) * (points - 2)
        ms_slopes = (own**2).sum(axis=1) * (centred**2).sum(axis=1) / df_slopes
        ms_rest = (rest**2).sum(axis=(1, 2)) / df_rest
        nothing = ms_rest <= 1e-24 * np.maximum(1e-300, np.abs(stack).max(axis=(1, 2)) ** 2)
        f = ms_slopes / np.where(nothing, 1.0, ms_rest)
        p = special.fdtrc(df_slopes, df_rest, f)
        for place, flat, statistic, small in zip(places, nothing.tolist(), f.tolist(), p.tolist(), strict=True):
            found[place] = (
                no_test("degenerate", method, size)
                if flat
                else Test(statistic=statistic, p=small, n=size, method=method)
            )
    return [found[place] for place in range(len(tables))]


def slopes_permuted(doses: Array, table: Array, rng: np.random.Generator) -> Test:
    """Do seeds differ in slope? The larger p of the F test (`slopes_vary`) and of a permutation of the same ratio.

    The permutation moves the values of each dose over the seeds. It asks nothing of the shape of the errors, nor equal
    spread at the doses, but it takes seeds for exchangeable at each dose; the F test allows them to differ in level,
    but assumes normal errors of one spread. The larger p keeps its level where either holds. Monte Carlo: `staged`.
    """
    return slopes_permuted_each([doses], [table], rng)[0]


def slopes_permuted_each(doses: Sequence[Array], tables: Sequence[Array], rng: np.random.Generator) -> list[Test]:
    """`slopes_permuted` of each table; those of one shape share their arrangements."""
    found = slopes_vary_each(doses, tables)
    usable = [place for place, test in enumerate(found) if test.p is not None]
    for group, stack in by_shape([tables[place] for place in usable]):
        places = [usable[k] for k in group]
        ratio = _Ratio(doses=np.array([doses[place] for place in places]), tables=stack)
        hits, draws = staged(len(places), partial(ratio.extreme, rng=rng))
        for place, more, done in zip(places, hits.tolist(), draws.tolist(), strict=True):
            by_f = found[place]
            assert by_f.p is not None
            found[place] = Test(
                statistic=by_f.statistic, p=max(by_f.p, (1 + more) / (1 + done)), n=by_f.n, floor=1 / (1 + DRAWS),
                method=f"F ratio of random slopes, the larger p of the F test and of {done} permutations within the "
                "doses",
            )  # fmt: skip
    return found


class _Ratio:
    """The F ratio of random slopes of tables of one shape, as each dose's values move over the seeds."""

    def __init__(self, *, doses: Array, tables: Array) -> None:
        self.weights = doses - doses.mean(axis=1, keepdims=True)
        # Doses x seeds x tables: an arrangement then moves whole rows.
        self.apart = np.ascontiguousarray((tables - tables.mean(axis=1, keepdims=True)).transpose(2, 1, 0))
        self.total = (self.apart**2).sum(axis=(0, 1))
        self.seen = self._share(self.apart.sum(axis=0), np.einsum("dst,td->st", self.apart, self.weights))

    def _share(self, levels: Array, rises: Array, which: Places | slice = slice(None)) -> Array:
        """The sum of squares is the same in all arrangements, so that F grows with this share of it.

        `levels` and `rises`: ... x seeds x tables.
        """
        points, sxx = len(self.apart), (self.weights[which] ** 2).sum(axis=1)
        outside = self.total[which] - (levels**2).sum(axis=-2) / points
        return np.asarray((rises**2).sum(axis=-2) / sxx / np.maximum(outside, 1e-300))

    def extreme(self, which: Places, count: int, rng: np.random.Generator) -> Places:
        """How many of `count` random arrangements are as extreme, for each of some of the tables."""
        apart, weights = self.apart[:, :, which], self.weights[which]
        seeds = apart.shape[1]
        bound, hits = self.seen[which] * (1 - 1e-10), np.zeros(len(which), dtype=np.intp)
        orders = [random_orders(count, seeds, rng) for _ in apart[1:]]
        step = max(1, _CHUNK // (seeds * len(which)))
        for start in range(0, count, step):
            # The first dose may stay as it is: only how the doses lie to each other matters.
            levels, rises = apart[0][None], apart[0][None] * weights[:, 0]
            for k, order in enumerate(orders, 1):
                moved = apart[k].take(order[start : start + step], axis=0)
                levels, rises = levels + moved, rises + weights[:, k] * moved
            hits += np.count_nonzero(self._share(levels, rises, which) >= bound, axis=0)
        return hits


def slope_test(x: Array, y: Array, rng: np.random.Generator) -> Test:
    """Permutation test of the covariance of x and y: all orders up to 8 values, else random ones in stages.

    Beyond 30 values Student's t test of the slope.
    """
    return slope_tests([(x, y)], rng)[0]


def slope_tests(pairs: Sequence[tuple[Array, Array]], rng: np.random.Generator) -> list[Test]:
    """`slope_test` of each (x, y); those of one length share their random orders."""
    method = "permutation test of a slope"
    found: dict[int, Test] = {}
    for places, both in by_shape([np.stack(pair) for pair in pairs]):
        n = both.shape[2]
        if n < 4:
            found |= dict.fromkeys(places, no_test("not enough data", method, n))
            continue
        flat = still(both).any(axis=1)
        found |= dict.fromkeys((places[k] for k in np.flatnonzero(flat)), no_test("degenerate", method, n))
        usable = np.flatnonzero(~flat)
        if n > MONTE_CARLO_ROWS:
            for k in usable:
                found[places[k]] = _line_test(*both[k])
        elif usable.size:
            tests = _order_tests(both[usable, 0], both[usable, 1], rng)
            found |= {places[k]: test for k, test in zip(usable, tests, strict=True)}
    return [found[place] for place in range(len(pairs))]


def _order_tests(x: Array, y: Array, rng: np.random.Generator) -> list[Test]:
    """Tests of pairs of one length (pairs x values)."""
    count, n = x.shape
    centred = x - x.mean(axis=1, keepdims=True)
    seen = (centred * y).sum(axis=1)
    slopes = seen / (centred**2).sum(axis=1)
    bound = np.abs(seen) * (1 - 1e-10)

    def extreme(which: Places, orders: Places) -> Places:
        hits = np.zeros(len(which), dtype=np.intp)
        step = max(1, _CHUNK // orders.size)
        for start in range(0, len(which), step):
            some = which[start : start + step]
            null = np.abs(np.einsum("pon,pn->po", y[some].take(orders, axis=1), centred[some]))
            hits[start : start + step] = np.count_nonzero(null >= bound[some, None], axis=1)
        return hits

    exact = n <= EXACT_ROWS
    if exact:
        orders = all_orders(n)
        p = extreme(np.arange(count), orders) / len(orders)
        draws, floor = np.full(count, len(orders)), 1 / len(orders)
    else:
        hits, draws = staged(count, lambda which, number: extreme(which, random_orders(number, n, rng)))
        p, floor = (1 + hits) / (1 + draws), 1 / (1 + DRAWS)
    return [
        Test(
            statistic=slope, p=small, n=n, floor=floor, effect=no_estimate("ok", "slope", n, value=slope),
            method=f"{'exact' if exact else 'Monte Carlo'} permutation test of a slope ({done} orders)",
        )
        for slope, small, done in zip(slopes.tolist(), p.tolist(), draws.tolist(), strict=True)
    ]  # fmt: skip


def _line_test(x: Array, y: Array) -> Test:
    """t test of the slope, for many values."""
    line = fit_line(x, y)
    method = "t test of a slope"
    if line is None or line.error == 0:
        return no_test("degenerate", method, len(x))
    p = float(2 * special.stdtr(line.df, -abs(line.slope / line.error)))
    return Test(statistic=line.slope, p=p, n=len(x), method=method)
