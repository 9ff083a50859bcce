"""Amplification: why bias moved more than sycophancy. Angular factor, observed ratio, what A(ρ) predicts.

The notes: swing(bias) / swing(sycophancy) = |cos θ_bias| / |cos θ_syco| x A(ρ_bias) / A(ρ_syco), with
A(ρ) proportional to 1 / sqrt(|ρ| + ε). The last factor was set to what was left over; here it is computed.
"""

import math
from dataclasses import dataclass

import numpy as np

from analysis.arms import Arm
from analysis.stats.intervals import welch_test
from analysis.stats.ratios import fieller, fieller_welch
from analysis.stats.results import Estimate, RatioSet, Test

OFFSETS = (0.0, 0.001, 0.005, 0.01)
"""Values of ε looked at."""
REFERENCE_OFFSET = 0.005


@dataclass(frozen=True, kw_only=True)
class Angular:
    """|cos| of two angles against a third subspace, and their ratio."""

    ratio: float
    interval: Estimate
    """Quantiles with both angles normal with the SD that the notes give for one of them."""


@dataclass(frozen=True, kw_only=True)
class Rounded:
    """A ratio of two printed figures, and what rounding alone leaves open."""

    ratio: float
    low: float
    high: float | None
    """None where the printed denominator may be zero."""
    residual: float | None
    """What is left after the angular factor."""


@dataclass(frozen=True, kw_only=True)
class Baselines:
    """A(ρ) at two baselines."""

    first: float
    second: float
    ratios: dict[float, float]
    """ε -> A(first) / A(second) with the exponent 1/2."""
    exponent_needed: float | None
    """Exponent of |ρ| that would give the residual (ε = 0); the claim is 0.5."""
    unexplained: float | None
    """Residual over A's ratio at ε = 0.005."""


@dataclass(frozen=True, kw_only=True)
class Swings:
    """Two behaviors' swings between the same two margins, over seeds."""

    first: tuple[float, float]
    """Swing and its standard error."""
    second: tuple[float, float]
    test_of_second: Test
    """Is the denominator different from zero at all?"""
    ratio: RatioSet
    """Fieller, Student's t with n0 + n1 - 2 degrees of freedom."""
    ratio_welch: RatioSet
    paired: bool
    """Whether the covariance of the two behaviors within runs was known and used."""


def angular(first: float, second: float, sd: float, rng: np.random.Generator, *, draws: int, level: float) -> Angular:
    """Ratio |cos first| / |cos second|, degrees."""
    ratio = abs(math.cos(math.radians(first))) / abs(math.cos(math.radians(second)))
    angles = np.radians(rng.normal((first, second), sd, (draws, 2)))
    cosines = np.abs(np.cos(angles))
    low, high = np.quantile(cosines[:, 0] / cosines[:, 1], ((1 - level) / 2, (1 + level) / 2))
    method = f"quantiles, both angles normal with SD {sd:g}°"
    return Angular(
        ratio=ratio,
        interval=Estimate(value=ratio, low=float(low), high=float(high), n=draws, method=method, level=level),
    )


def rounded(first: float, second: float, *, unit: float, angular_ratio: float | None) -> Rounded:
    """Ratio of two swings, each the difference of two figures printed with last digit `unit`.

    Each figure is within half a unit of what is printed, so that each swing is within a whole unit.
    """
    ratio = first / second
    return Rounded(
        ratio=ratio,
        low=(first - unit) / (second + unit),
        high=(first + unit) / (second - unit) if second > unit * (1 + 1e-9) else None,
        residual=ratio / angular_ratio if angular_ratio else None,
    )


def amplification_ratio(first: float, second: float, offset: float, exponent: float = 0.5) -> float:
    """A(first) / A(second) for A(ρ) = (|ρ| + offset)**-exponent."""
    return float(((abs(second) + offset) / (abs(first) + offset)) ** exponent)


def baselines(first: float, second: float, residual: float | None) -> Baselines:
    """What A(ρ) gives at two baselines, next to the factor that it was said to explain."""
    ratios = {offset: amplification_ratio(first, second, offset) for offset in OFFSETS}
    step = math.log(abs(second) / abs(first)) if first and second else 0.0
    return Baselines(
        first=first,
        second=second,
        ratios=ratios,
        exponent_needed=math.log(residual) / step if residual and residual > 0 and step else None,
        unexplained=residual / ratios[REFERENCE_OFFSET] if residual else None,
    )


def swings(first: tuple[Arm, Arm], second: tuple[Arm, Arm], *, level: float) -> Swings | None:
    """Swing of one behavior over that of another, from arms with a spread; None without."""
    arms = (*first, *second)
    if any(arm.se is None or arm.n < 2 for arm in arms):
        return None
    errors = [float(arm.se or 0.0) for arm in arms]
    above, below = first[1].mean - first[0].mean, second[1].mean - second[0].mean
    covariance = _covariance(first, second)
    found = fieller(
        above, below, var_numerator=errors[0] ** 2 + errors[1] ** 2, var_denominator=errors[2] ** 2 + errors[3] ** 2,
        covariance=covariance or 0.0, level=level, df=first[0].n + first[1].n - 2,
    )  # fmt: skip
    welch = fieller_welch(
        [arm.mean for arm in arms], errors, [arm.n for arm in arms],
        numerator=(-1.0, 1.0, 0.0, 0.0), denominator=(0.0, 0.0, -1.0, 1.0), level=level,
    )  # fmt: skip
    return Swings(
        first=(above, math.hypot(*errors[:2])),
        second=(below, math.hypot(*errors[2:])),
        test_of_second=welch_test(second[1].sample(), second[0].sample(), level=level),
        ratio=found,
        ratio_welch=welch,
        paired=covariance is not None,
    )


def _covariance(first: tuple[Arm, Arm], second: tuple[Arm, Arm]) -> float | None:
    """Covariance of the two swings: both behaviors are measured on the same runs. None without seeds' values."""
    total = 0.0
    for a, b in zip(first, second, strict=True):
        if a.values is None or b.values is None or set(a.values) != set(b.values):
            return None
        pairs = np.array([(a.values[seed], b.values[seed]) for seed in a.values])
        total += float(np.cov(pairs.T)[0, 1]) / len(pairs)
    return total
