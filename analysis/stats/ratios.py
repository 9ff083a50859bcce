"""Ratios of two uncertain numbers: Fieller's set in closed form, and with Welch's degrees of freedom.

The values r that a test of "numerator - r denominator = 0" does not reject form an interval, the outside
of one, or the whole line (when the denominator cannot be told from zero): see `RatioSet`.
"""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy import special

from analysis.stats.results import Array, RatioSet, as_sample

FIELLER_METHOD = "Fieller set"
FIELLER_WELCH_METHOD = "Fieller set, Satterthwaite degrees of freedom at every ratio"


def fieller(
    numerator: float,
    denominator: float,
    *,
    var_numerator: float,
    var_denominator: float,
    covariance: float = 0.0,
    level: float = 0.95,
    df: float | None = None,
) -> RatioSet:
    """Fieller 1954: {r: (a - r b)² <= q² (v_a - 2 r c + r² v_b)}; q is normal, or Student's t with `df`."""
    q = float(special.ndtri((1 + level) / 2) if df is None else special.stdtrit(df, (1 + level) / 2))
    square = denominator**2 - q * q * var_denominator
    half_linear = numerator * denominator - q * q * covariance
    constant = numerator**2 - q * q * var_numerator
    value = numerator / denominator if denominator else None
    whole = RatioSet(value=value, kind="whole line", low=None, high=None, method=FIELLER_METHOD, level=level)
    if value is None or (var_numerator == 0 and var_denominator == 0):
        return replace(whole, status="degenerate")
    discriminant = half_linear**2 - square * constant
    if square == 0:
        return _half_line(whole, half_linear, constant)
    if square < 0 and discriminant <= 0:
        return whole
    root = math.sqrt(max(discriminant, 0.0))
    low, high = sorted(((half_linear - root) / square, (half_linear + root) / square))
    return replace(whole, kind="bounded" if square > 0 else "unbounded", low=low, high=high)


def _half_line(whole: RatioSet, half_linear: float, constant: float) -> RatioSet:
    """The boundary case: the quadratic term vanishes and one side of a single root is not rejected."""
    if half_linear == 0:
        return whole
    root = constant / (2 * half_linear)
    low, high = (None, root) if half_linear > 0 else (root, None)
    return replace(whole, kind="unbounded", low=low, high=high)


def fieller_welch(
    means: npt.ArrayLike,
    standard_errors: npt.ArrayLike,
    sizes: npt.ArrayLike,
    *,
    numerator: npt.ArrayLike,
    denominator: npt.ArrayLike,
    level: float = 0.95,
) -> RatioSet:
    """Ratio of two contrasts of the same independent group means (weights `numerator` and `denominator`).

    At every r the contrast (numerator - r denominator) is tested with its own Satterthwaite degrees of
    freedom; the set is found by walking from the point estimate in both directions around the projective
    line (r = scale tan φ), where an unbounded set is an interval like any other.
    """
    m, se, n = as_sample(means), as_sample(standard_errors), as_sample(sizes)
    u, w = as_sample(numerator), as_sample(denominator)
    above, below = float(u @ m), float(w @ m)
    value = above / below if below else None
    whole = RatioSet(value=value, kind="whole line", low=None, high=None, method=FIELLER_WELCH_METHOD, level=level)
    spread = math.sqrt(float((u * u) @ (se * se))), math.sqrt(float((w * w) @ (se * se)))
    if (n < 2).any():
        return replace(whole, status="not enough data")
    if value is None or min(spread) == 0:
        return replace(whole, status="degenerate")
    scale = spread[0] / spread[1]

    def rejected(angle: npt.ArrayLike) -> Array:
        """Positive where the ratio scale tan(angle) is rejected."""
        phi = np.atleast_1d(np.asarray(angle, dtype=np.float64))[:, None]
        weights = u * np.cos(phi) - scale * w * np.sin(phi)
        parts = weights**2 * (se * se)
        total = parts.sum(axis=1)
        df = total**2 / (parts**2 / (n - 1)).sum(axis=1)
        critical = special.stdtrit(df, (1 + level) / 2)
        return np.asarray(np.abs(weights @ m) / np.sqrt(total) - critical, dtype=np.float64)

    centre = math.atan2(above, below * scale)
    left = _first_crossing(rejected, centre, -_STEPS)
    right = _first_crossing(rejected, centre, _STEPS)
    if left is None or right is None:
        return whole
    # tan grows between its poles at odd multiples of π/2: with one between the ends the set is unbounded.
    bounded = math.floor(left / math.pi + 0.5) == math.floor(right / math.pi + 0.5)
    low, high = sorted((scale * math.tan(left), scale * math.tan(right)))
    return replace(whole, kind="bounded" if bounded else "unbounded", low=low, high=high)


_STEPS = np.concatenate([np.geomspace(1e-12, 1e-3, 200), np.linspace(1e-3, math.pi, 4000)[1:]])
"""Angles to walk from the point estimate: fine near it, then once around the projective line."""


def _first_crossing(rejected: Callable[[npt.ArrayLike], Array], centre: float, steps: Array) -> float | None:
    """The first angle, walking along `steps` from `centre`, at which ratios begin to be rejected."""
    outside = np.flatnonzero(rejected(centre + steps) > 0)
    if outside.size == 0:
        return None
    from scipy import optimize  # a third of a second, that no other function here needs

    first = int(outside[0])
    start = centre + (float(steps[first - 1]) if first else 0.0)
    stop = centre + float(steps[first])
    return float(optimize.brentq(lambda angle: float(rejected(angle)[0]), start, stop, xtol=1e-15))
