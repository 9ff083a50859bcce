"""Standardised mean differences: Hedges' g with the exact correction and a noncentral-t interval.

SciPy's `nct.cdf` fails for large noncentrality (d of 10 with five seeds a group is common here), so the
distribution function is integrated directly.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from analysis.stats.batches import places_of
from analysis.stats.results import Array, Estimate, as_sample, no_estimate, still

G_METHOD = "Hedges' g (exact gamma correction), noncentral-t interval"
PIECE = 2000
"""Values of t that are solved together: some MiB of nodes."""
MOST_STEPS = 200
"""Bisection alone would need fewer."""


def hedges_correction(df: float) -> float:
    """J(df) = Γ(df/2) / (sqrt(df/2) Γ((df-1)/2)), Hedges 1981 eq. 6d; df > 1."""
    return math.exp(math.lgamma(df / 2) - math.lgamma((df - 1) / 2)) / math.sqrt(df / 2)


def hedges_g(a: npt.ArrayLike, b: npt.ArrayLike, *, level: float = 0.95) -> Estimate:
    """(mean(a) - mean(b)) / pooled SD, times J; the interval is J times that of Cohen's d."""
    return hedges_g_each([(a, b)], level=level)[0]


def hedges_g_each(pairs: Sequence[tuple[npt.ArrayLike, npt.ArrayLike]], *, level: float = 0.95) -> list[Estimate]:
    """`hedges_g` of many pairs: the intervals of pairs of the same sizes are found together."""
    samples = [(as_sample(a), as_sample(b)) for a, b in pairs]
    found: dict[int, Estimate] = {}
    for (n_a, n_b), members in places_of((a.size, b.size) for a, b in samples).items():
        n, df = n_a + n_b, n_a + n_b - 2
        if min(n_a, n_b) < 1 or df < 2:
            found |= dict.fromkeys(members, no_estimate("not enough data", G_METHOD, n, level=level))
            continue
        first, second = (np.stack([samples[i][side] for i in members]) for side in (0, 1))
        flat = still(first) & still(second)
        squares = sum((((side.T - side.mean(axis=1)).T) ** 2).sum(axis=1) for side in (first, second))
        cohen = (first.mean(axis=1) - second.mean(axis=1))[~flat] / np.sqrt(squares[~flat] / df)
        estimates = iter(_from_cohen(cohen, n_a, n_b, level=level))
        constant = no_estimate("degenerate", G_METHOD, n, level=level)
        found |= {i: constant if same else next(estimates) for i, same in zip(members, flat.tolist(), strict=True)}
    return [found[i] for i in range(len(pairs))]


def hedges_g_from_d(d: float, n_a: int, n_b: int, *, level: float = 0.95) -> Estimate:
    """Hedges' g and its interval from Cohen's d (pooled SD) and the two group sizes, n_a + n_b >= 4."""
    return _from_cohen(np.array([d], dtype=np.float64), n_a, n_b, level=level)[0]


def _from_cohen(d: Array, n_a: int, n_b: int, *, level: float) -> list[Estimate]:
    df = n_a + n_b - 2
    unit = math.sqrt(1 / n_a + 1 / n_b)
    correction = hedges_correction(df)
    lows, highs = _intervals(d / unit, df, level=level)
    return [
        Estimate(
            value=correction * value,
            low=correction * low * unit,
            high=correction * high * unit,
            n=n_a + n_b,
            method=G_METHOD,
            level=level,
        )
        for value, low, high in zip(d.tolist(), lows.tolist(), highs.tolist(), strict=True)
    ]


def noncentrality_interval(t: float, df: float, *, level: float = 0.95) -> tuple[float, float]:
    """The noncentralities at which an observed t is a (1 ± level)/2 quantile (Steiger & Fouladi 1997)."""
    low, high = _intervals(np.array([t], dtype=np.float64), df, level=level)
    return float(low[0]), float(high[0])


def _intervals(t: Array, df: float, *, level: float) -> tuple[Array, Array]:
    """Both ends for every t. By symmetry the low end of t < 0 is the high end of -t with its sign changed."""
    tail, negative, size = (1 - level) / 2, t < 0, np.abs(t)
    low, high = _noncentrality(size, df, 1 - tail), _noncentrality(size, df, tail)
    return np.where(negative, -high, low), np.where(negative, -low, high)


def _noncentrality(t: Array, df: float, probability: float) -> Array:
    """delta with P(T <= t; df, delta) = probability, for t >= 0, a few thousand at a time."""
    pieces = [_solve(t[i : i + PIECE], df, probability) for i in range(0, t.size, PIECE)]
    return np.concatenate(pieces) if pieces else t


def _solve(t: Array, df: float, probability: float) -> Array:
    """The secant method within a bracket, on the probit of the probability: that is nearly linear in delta.

    The function falls in delta, so any bracket works. A secant that leaves the bracket, or has an infinite end,
    gives way to bisection.
    """
    target = float(special.ndtri(probability))

    def excess(delta: Array, rows: npt.NDArray[Any]) -> Array:
        probit = special.ndtri(np.clip(_cdf(t[rows], df, delta), 0.0, 1.0))
        return np.asarray(probit - target, dtype=np.float64)

    every = np.arange(t.size)
    step = 2 * np.sqrt(1 + t * t / (2 * df))
    ends = []
    for sign in (-1.0, 1.0):
        end = t + sign * step
        value, reach = excess(end, every), step.copy()
        while (beyond := np.flatnonzero(sign * value > 0)).size:
            reach[beyond] *= 2
            end[beyond] += sign * reach[beyond]
            value[beyond] = excess(end[beyond], beyond)
        ends.append((end, value))
    (low, f_low), (high, f_high) = ends
    before, f_before, now, f_now = low.copy(), f_low.copy(), high.copy(), f_high.copy()
    root, tolerance = now.copy(), 1e-11 * np.maximum(1.0, t)
    rows = every
    for _ in range(MOST_STEPS):
        with np.errstate(all="ignore"):
            guess = now[rows] - f_now[rows] * (now[rows] - before[rows]) / (f_now[rows] - f_before[rows])
        guess[~np.isfinite(f_now[rows] + f_before[rows])] = np.nan  # a probit is infinite: no secant
        done = (np.abs(guess - now[rows]) <= tolerance[rows]) | (f_now[rows] == 0)
        middle = (low[rows] + high[rows]) / 2
        inside = (guess >= low[rows]) & (guess <= high[rows])
        root[rows] = np.where(inside, guess, np.where(done, now[rows], middle))
        done |= high[rows] - low[rows] <= tolerance[rows]
        rows = rows[~done]
        if not rows.size:
            break
        value = excess(root[rows], rows)
        before[rows], f_before[rows] = now[rows], f_now[rows]
        now[rows], f_now[rows] = root[rows], value
        above = value >= 0
        low[rows[above]], high[rows[~above]] = root[rows[above]], root[rows[~above]]
    return root


def noncentral_t_cdf(t: float, df: float, delta: float) -> float:
    """P(T <= t) for T = (Z + delta) / S, S² = chi²(df) / df; absolute error about 1e-12.

    The double integral is done analytically in the variable that is smooth and by Gauss-Legendre in the
    other: over Z where t is large against sqrt(2 df), over S otherwise.
    """
    if t < 0:
        return 1.0 - noncentral_t_cdf(-t, df, -delta)
    return float(_cdf(np.array([t], dtype=np.float64), df, np.array([delta], dtype=np.float64))[0])


def _cdf(t: Array, df: float, delta: Array) -> Array:
    """The same for many t >= 0."""
    found = np.empty_like(t)
    for rows, integral in ((t * t > 2 * df, _cdf_over_z), (t * t <= 2 * df, _cdf_over_s)):
        if rows.any():
            found[rows] = integral(t[rows], df, delta[rows])
    return found


def _cdf_over_z(t: Array, df: float, delta: Array) -> Array:
    """P(Z <= -delta) + ∫ φ(z) P(S >= (z + delta)/t) dz; the first part has S >= a negative number."""
    points, weights = _legendre()
    start, stop = np.clip(-delta, -9.0, 9.0), 9.0
    half = (stop - start) / 2
    z = start[:, None] + half[:, None] * (points + 1)
    density = np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
    tail = special.chdtrc(df, df * ((z + delta[:, None]) / t[:, None]) ** 2)
    return np.asarray(special.ndtr(-delta) + half * ((density * tail) @ weights), dtype=np.float64)


def _cdf_over_s(t: Array, df: float, delta: Array) -> Array:
    """∫ f_S(s) P(Z <= t s - delta) ds between the 1e-17 quantiles of S."""
    s, weights = _nodes_of_s(df)
    return np.asarray(special.ndtr(t[:, None] * s - delta[:, None]) @ weights, dtype=np.float64)


@lru_cache(maxsize=64)
def _nodes_of_s(df: float) -> tuple[Array, Array]:
    """Nodes, and the weights times the density of S."""
    points, weights = _legendre()
    largest = math.sqrt(float(special.chdtri(df, 1e-17)) / df)
    smallest = math.sqrt(2 * float(special.gammaincinv(df / 2, 1e-17)) / df)
    half = (largest - smallest) / 2
    s = smallest + half * (points + 1)
    log_density = math.log(2) + df / 2 * math.log(df / 2) - math.lgamma(df / 2) + (df - 1) * np.log(s) - df * s * s / 2
    return s, half * weights * np.exp(log_density)


@lru_cache(maxsize=1)
def _legendre() -> tuple[Array, Array]:
    points, weights = np.polynomial.legendre.leggauss(160)
    return points.astype(np.float64), weights.astype(np.float64)
