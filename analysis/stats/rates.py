"""Rates of yes/no outcomes: Wilson and Newcombe intervals, exact McNemar and Fisher tests. Counts are integers >= 0."""

import math

import numpy as np
from scipy import special

from analysis.stats.results import Estimate, Test, no_estimate, no_test

WILSON_METHOD = "Wilson score interval"
NEWCOMBE_METHOD = "Newcombe hybrid score interval, independent groups"
PAIRED_METHOD = "Newcombe hybrid score interval, paired"
FISHER_METHOD = "Fisher's exact test"
MCNEMAR_METHOD = "exact McNemar test (binomial on the discordant pairs)"


def wilson(successes: int, n: int, *, level: float = 0.95) -> Estimate:
    """Rate with Wilson's interval (Wilson 1927)."""
    _check_counts(successes, n)
    if n == 0:
        return no_estimate("not enough data", WILSON_METHOD, 0, level=level)
    rate = successes / n
    low, high = wilson_limits(rate, n, level)
    return Estimate(value=rate, low=low, high=high, n=n, method=WILSON_METHOD, level=level)


def wilson_limits(rate: float, n: float, level: float) -> tuple[float, float]:
    """Wilson's limits of a rate over n > 0 trials; n may be an effective number."""
    z = float(special.ndtri((1 + level) / 2))
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    return (0.0 if rate == 0 else centre - half), (1.0 if rate == 1 else centre + half)


def newcombe(successes_a: int, n_a: int, successes_b: int, n_b: int, *, level: float = 0.95) -> Estimate:
    """rate(a) - rate(b), independent groups (Newcombe 1998, method 10)."""
    a, b = wilson(successes_a, n_a, level=level), wilson(successes_b, n_b, level=level)
    if a.value is None or a.low is None or a.high is None or b.value is None or b.low is None or b.high is None:
        return no_estimate("not enough data", NEWCOMBE_METHOD, n_a + n_b, level=level)
    difference = a.value - b.value
    return Estimate(
        value=difference,
        low=difference - math.hypot(a.value - a.low, b.high - b.value),
        high=difference + math.hypot(a.high - a.value, b.value - b.low),
        n=n_a + n_b,
        method=NEWCOMBE_METHOD,
        level=level,
    )


def newcombe_paired(both: int, only_a: int, only_b: int, neither: int, *, level: float = 0.95) -> Estimate:
    """rate(a) - rate(b) over the same units (Newcombe 1998b, method 10): Wilson's limits, joined by the correlation."""
    n = both + only_a + only_b + neither
    a, b = wilson(both + only_a, n, level=level), wilson(both + only_b, n, level=level)
    if a.value is None or a.low is None or a.high is None or b.value is None or b.low is None or b.high is None:
        return no_estimate("not enough data", PAIRED_METHOD, n, level=level)
    margins = (both + only_a) * (only_b + neither) * (both + only_b) * (only_a + neither)
    cross = float(both * neither - only_a * only_b)
    # Continuity for a positive correlation only, so that the interval is not too narrow.
    cross = max(cross - n / 2, 0.0) if cross > 0 else cross
    phi = cross / math.sqrt(margins) if margins else 0.0
    difference = a.value - b.value
    down, up = a.value - a.low, a.high - a.value
    b_down, b_up = b.value - b.low, b.high - b.value
    return Estimate(
        value=difference,
        low=difference - math.sqrt(max(0.0, down**2 - 2 * phi * down * b_up + b_up**2)),
        high=difference + math.sqrt(max(0.0, up**2 - 2 * phi * up * b_down + b_down**2)),
        n=n,
        method=PAIRED_METHOD,
        level=level,
    )


def mcnemar(only_a: int, only_b: int) -> Test:
    """Exact test on paired outcomes from the two discordant counts; the statistic is only_a - only_b."""
    n = only_a + only_b
    _check_counts(only_a, n)
    _check_counts(only_b, n)
    if n == 0:
        return no_test("not enough data", MCNEMAR_METHOD, 0)
    p = min(1.0, 2 * float(special.bdtr(min(only_a, only_b), n, 0.5)))
    floor = min(1.0, 2 * 0.5**n)
    return Test(statistic=float(only_a - only_b), p=p, n=n, method=MCNEMAR_METHOD, floor=floor)


def fisher_exact(successes_a: int, n_a: int, successes_b: int, n_b: int) -> Test:
    """Fisher's exact test of two independent rates; the floor is that of the observed margins."""
    total, hits = n_a + n_b, successes_a + successes_b
    if hits in (0, total):
        return no_test("degenerate", FISHER_METHOD, total)
    support = np.arange(max(0, hits - n_b), min(hits, n_a) + 1)
    chances = np.array(
        [math.comb(n_a, k) * math.comb(n_b, hits - k) / math.comb(total, hits) for k in support.tolist()]
    )
    seen = chances[successes_a - support[0]]
    p = float(min(1.0, chances[chances <= seen * (1 + 1e-9)].sum()))
    floor = float(chances[chances <= chances.min() * (1 + 1e-9)].sum())
    return Test(statistic=successes_a / n_a - successes_b / n_b, p=p, n=total, method=FISHER_METHOD, floor=floor)


def _check_counts(successes: int, n: int) -> None:
    if not 0 <= successes <= n:
        raise ValueError(f"successes must lie in 0..n, got {successes} of {n}")
