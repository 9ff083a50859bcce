"""Standardised mean differences: Hedges' g with the exact correction and a noncentral-t interval.

SciPy's `nct.cdf` fails for large noncentrality (d of 10 with five seeds a group is common here), so the
distribution function is integrated directly.
"""

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

from analysis.stats.results import Array, Estimate, as_sample, is_constant, no_estimate

G_METHOD = "Hedges' g (exact gamma correction), noncentral-t interval"


def hedges_correction(df: float) -> float:
    """J(df) = Γ(df/2) / (sqrt(df/2) Γ((df-1)/2)), Hedges 1981 eq. 6d; df > 1."""
    return math.exp(math.lgamma(df / 2) - math.lgamma((df - 1) / 2)) / math.sqrt(df / 2)


def hedges_g(a: npt.ArrayLike, b: npt.ArrayLike, *, level: float = 0.95) -> Estimate:
    """(mean(a) - mean(b)) / pooled SD, times J; the interval is J times that of Cohen's d."""
    first, second = as_sample(a), as_sample(b)
    n, df = first.size + second.size, first.size + second.size - 2
    if min(first.size, second.size) < 1 or df < 2:
        return no_estimate("not enough data", G_METHOD, n, level=level)
    if is_constant(first) and is_constant(second):
        return no_estimate("degenerate", G_METHOD, n, level=level)
    squares = float(((first - first.mean()) ** 2).sum() + ((second - second.mean()) ** 2).sum())
    d = float(first.mean() - second.mean()) / math.sqrt(squares / df)
    return hedges_g_from_d(d, first.size, second.size, level=level)


def hedges_g_from_d(d: float, n_a: int, n_b: int, *, level: float = 0.95) -> Estimate:
    """Hedges' g and its interval from Cohen's d (pooled SD) and the two group sizes, n_a + n_b >= 4."""
    df = n_a + n_b - 2
    unit = math.sqrt(1 / n_a + 1 / n_b)
    correction = hedges_correction(df)
    low, high = noncentrality_interval(d / unit, df, level=level)
    return Estimate(
        value=correction * d,
        low=correction * low * unit,
        high=correction * high * unit,
        n=n_a + n_b,
        method=G_METHOD,
        level=level,
    )


def noncentrality_interval(t: float, df: float, *, level: float = 0.95) -> tuple[float, float]:
    """The noncentralities at which an observed t is a (1 ± level)/2 quantile (Steiger & Fouladi 1997)."""
    tail = (1 - level) / 2
    return _noncentrality(t, df, 1 - tail), _noncentrality(t, df, tail)


def _noncentrality(t: float, df: float, probability: float) -> float:
    """delta with P(T <= t; df, delta) = probability; the function falls in delta, so any bracket works."""

    def excess(delta: float) -> float:
        return noncentral_t_cdf(t, df, delta) - probability

    step = 2 * math.sqrt(1 + t * t / (2 * df))
    low, high = t - step, t + step
    while excess(low) < 0:
        low, step = low - step, 2 * step
    while excess(high) > 0:
        high, step = high + step, 2 * step
    return float(optimize.brentq(excess, low, high, xtol=1e-12 * max(1.0, abs(t)), rtol=1e-13))


def noncentral_t_cdf(t: float, df: float, delta: float) -> float:
    """P(T <= t) for T = (Z + delta) / S, S² = chi²(df) / df; absolute error about 1e-12.

    The double integral is done analytically in the variable that is smooth and by Gauss-Legendre in the
    other: over Z where t is large against sqrt(2 df), over S otherwise.
    """
    if t < 0:
        return 1.0 - noncentral_t_cdf(-t, df, -delta)
    if t * t > 2 * df:
        return _cdf_over_z(t, df, delta)
    return _cdf_over_s(t, df, delta)


def _cdf_over_z(t: float, df: float, delta: float) -> float:
    """P(Z <= -delta) + ∫ φ(z) P(S >= (z + delta)/t) dz; the first part has S >= a negative number."""
    certain = float(special.ndtr(-delta))
    start, stop = max(-delta, -9.0), 9.0
    if start >= stop:
        return certain
    z, weights = _nodes(start, stop)
    density = np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
    tail = special.chdtrc(df, df * ((z + delta) / t) ** 2)
    return certain + float(weights @ (density * tail))


def _cdf_over_s(t: float, df: float, delta: float) -> float:
    """∫ f_S(s) P(Z <= t s - delta) ds between the 1e-17 quantiles of S."""
    largest = math.sqrt(float(special.chdtri(df, 1e-17)) / df)
    smallest = math.sqrt(2 * float(special.gammaincinv(df / 2, 1e-17)) / df)
    s, weights = _nodes(smallest, largest)
    log_density = math.log(2) + df / 2 * math.log(df / 2) - math.lgamma(df / 2) + (df - 1) * np.log(s) - df * s * s / 2
    return float(weights @ (np.exp(log_density) * special.ndtr(t * s - delta)))


def _nodes(start: float, stop: float) -> tuple[Array, Array]:
    points, weights = _legendre()
    half = (stop - start) / 2
    return start + half * (points + 1), half * weights


@lru_cache(maxsize=1)
def _legendre() -> tuple[Array, Array]:
    points, weights = np.polynomial.legendre.leggauss(160)
    return points.astype(np.float64), weights.astype(np.float64)
