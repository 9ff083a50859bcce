"""Slopes over doses: one line through all points, one a seed, comparisons of slopes and equivalence of their ratio."""

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from analysis.stats.intervals import t_quantile
from analysis.stats.results import Array, Estimate, Test, no_estimate, no_test

SCREENED = 199
"""Random arrangements after which a test of slopes stops if more than a tenth of them are as extreme."""
ARRANGED = 9_999
"""Random arrangements of all other tests of slopes."""
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
    centred = x - x.mean()
    sxx = float(centred @ centred)
    if len(x) < 3 or sxx == 0:
        return None
    slope = float(centred @ y) / sxx
    intercept = float(y.mean() - slope * x.mean())
    ss = float(((y - intercept - slope * x) ** 2).sum())
    df = len(x) - 2
    return Line(slope=slope, intercept=intercept, error=math.sqrt(ss / df / sxx), df=df, ss=ss, sxx=sxx)


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
    """Least-squares slope of each row (seed) of a complete seeds x doses table."""
    centred = doses - doses.mean()
    return np.asarray(table @ centred / (centred @ centred))


def slopes_vary(doses: Array, table: Array) -> Test:
    """Do seeds differ in slope beyond the scatter about their own lines? F test of random slopes.

    In a complete table the ratio of the mean squares of slopes and of deviations from each seed's own
    line is F distributed under equal slopes: the balanced case of the random-slope model.
    """
    seeds, points = table.shape
    method = "F test of equal slopes of the seeds (random slopes, balanced)"
    if seeds < 3 or points < 3:
        return no_test("not enough data", method, table.size)
    centred = doses - doses.mean()
    slopes = seed_slopes(doses, table)
    # Dose means are taken out first: a curved mean response is no difference between seeds.
    apart = table - table.mean(axis=0)
    own = seed_slopes(doses, apart)
    rest = apart - apart.mean(axis=1, keepdims=True) - own[:, None] * centred
    df_slopes, df_rest = seeds - 1, (seeds - 1) * (points - 2)
    ms_slopes = float(((slopes - slopes.mean()) ** 2).sum() * (centred @ centred)) / df_slopes
    ms_rest = float((rest**2).sum()) / df_rest
    if ms_rest <= 1e-24 * max(1e-300, float(np.abs(table).max()) ** 2):
        return no_test("degenerate", method, table.size)
    f = ms_slopes / ms_rest
    return Test(statistic=f, p=float(special.fdtrc(df_slopes, df_rest, f)), n=table.size, method=method)


def slopes_permuted(doses: Array, table: Array, rng: np.random.Generator) -> Test:
    """Do seeds differ in slope? The larger p of the F test (`slopes_vary`) and of a permutation of the same ratio.

    The permutation moves the values of each dose over the seeds. It asks nothing of the shape of the errors, nor equal
    spread at the doses, but it takes seeds for exchangeable at each dose; the F test allows them to differ in level,
    but assumes normal errors of one spread. The larger p keeps its level where either holds. Monte Carlo: (1 + hits) /
    (1 + draws) (Phipson & Smyth 2010); stopping early where that exceeds a tenth leaves smaller p as they are.
    """
    parametric = slopes_vary(doses, table)
    if parametric.p is None:
        return parametric
    seeds, points = table.shape
    centred = doses - doses.mean()
    apart = table - table.mean(axis=0)
    total, sxx = float((apart**2).sum()), float(centred @ centred)

    def share(levels: Array, rises: Array) -> Array:
        # The sum of squares is the same in all arrangements, so that F grows with this share of it.
        by_slope = (rises**2).sum(axis=-1) / sxx
        return np.asarray(by_slope / np.maximum(total - (levels**2).sum(axis=-1) / points, 1e-300))

    seen = float(share(apart.sum(axis=1), apart @ centred))
    hits, done = 0, 0
    for goal in (SCREENED, ARRANGED):
        while done < goal:
            count = min(goal - done, max(1, _CHUNK // seeds))
            levels, rises = np.tile(apart[:, 0], (count, 1)), np.tile(apart[:, 0] * centred[0], (count, 1))
            for column, weight in zip(apart.T[1:], centred[1:], strict=True):
                moved = rng.permuted(np.broadcast_to(column, (count, seeds)), axis=1)
                levels += moved
                rises += weight * moved
            hits += int(np.count_nonzero(share(levels, rises) >= seen * (1 - 1e-10)))
            done += count
        if 10 * (1 + hits) > 1 + done:
            break
    return Test(
        statistic=parametric.statistic,
        p=max(parametric.p, (1 + hits) / (1 + done)),
        n=table.size,
        method=f"F ratio of random slopes, the larger p of the F test and of {done} permutations within the doses",
        floor=1 / (1 + ARRANGED),
    )
