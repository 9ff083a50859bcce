"""More than two margins: γ* from a straight line and from a saturating curve, with intervals; seeds resampled.

Line Δ = b0 + b1 γ, weighted least squares over runs (common variance); γ* = -b0/b1 by Fieller with Student's t.
Curve Δ = c0 + c1 (1 - exp(-γ/k)): for each k on a grid the model is linear, so the profile over k gives the fit;
γ* = -k ln(1 + c0/c1). Its interval comes from resampling seeds inside each arm.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import special

from analysis.arms import Arm
from analysis.stats.ratios import fieller
from analysis.stats.results import Array, Estimate, RatioSet, Test

CURVE_METHOD = "saturating curve c0 + c1 (1 - exp(-γ/k)), profile over k; percentiles of resampled seeds"
BOOTSTRAP_METHOD = "percentiles of seeds resampled inside each arm (too narrow for five seeds)"
SCALES = 80


@dataclass(frozen=True, kw_only=True)
class Line:
    """A weighted straight line through the arms' means."""

    intercept: float
    slope: float
    gamma_star: RatioSet
    lack_of_fit: Test
    """F test of the arms' means against the line, with the spread inside arms as pure error."""
    aicc: float | None


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A saturating curve through the arms' means."""

    start: float
    rise: float
    scale: float
    """k, nats/token; at the end of the grid the curve is a straight line."""
    gamma_star: Estimate
    aicc: float | None


def resampled_means(arms: Sequence[Arm], rng: np.random.Generator, draws: int) -> Array | None:
    """Means of seeds drawn with replacement, draws x arms; None unless every arm has its values and two seeds."""
    columns = []
    for arm in arms:
        if arm.values is None or arm.n < 2:
            return None
        values = np.array(list(arm.values.values()))
        columns.append(values[rng.integers(0, values.size, (draws, values.size))].mean(axis=1))
    return np.column_stack(columns)


def resampled_margin(arms: tuple[Arm, Arm], rng: np.random.Generator, *, draws: int, level: float) -> Estimate | None:
    """γ* of two arms under resampled seeds: value of the data, percentile interval. None without seeds' values."""
    from analysis.gamma.critical import critical_margin

    means = resampled_means(arms, rng, draws)
    if means is None:
        return None
    gammas = (arms[0].gamma, arms[1].gamma)
    stars = critical_margin(means[:, 0], means[:, 1], gammas)
    value = float(critical_margin(arms[0].mean, arms[1].mean, gammas))
    return _percentiles(value, stars, n=arms[0].n + arms[1].n, method=BOOTSTRAP_METHOD, level=level)


def fit_line(arms: Sequence[Arm], *, level: float) -> Line | None:
    """The line with pooled variance of runs; None for fewer than three arms or no degrees of freedom."""
    pooled = _pooled(arms)
    if len(arms) < 3 or pooled is None:
        return None
    inside, df = pooled
    x, y, w = _columns(arms)
    design = np.column_stack([np.ones_like(x), x])
    covariance = np.linalg.inv(design.T @ (w[:, None] * design))
    b0, b1 = map(float, covariance @ (design.T @ (w * y)))
    misfit = float((w * (y - b0 - b1 * x) ** 2).sum())
    variance = (misfit + inside * df) / (len(arms) - 2 + df)
    covariance = covariance * variance
    star = fieller(
        -b0, b1, var_numerator=float(covariance[0, 0]), var_denominator=float(covariance[1, 1]),
        covariance=-float(covariance[0, 1]),
        level=level, df=len(arms) - 2 + df,
    )  # fmt: skip
    return Line(
        intercept=b0, slope=b1, gamma_star=star, lack_of_fit=_lack_of_fit(misfit, len(arms) - 2, inside, df),
        aicc=aicc(misfit + inside * df, int(w.sum()), 3),
    )  # fmt: skip


def fit_curve(arms: Sequence[Arm], rng: np.random.Generator, *, draws: int, level: float) -> Curve | None:
    """The saturating curve; None for fewer than four arms (three parameters) or without spread inside arms."""
    pooled = _pooled(arms)
    means = resampled_means(arms, rng, draws)
    if len(arms) < 4 or pooled is None or means is None:
        return None
    x, y, w = _columns(arms)
    scales = np.geomspace(np.diff(x).min() / 10, 20 * np.ptp(x), SCALES)
    c0, c1, k, misfit = (column[0] for column in _profile(x, y[None, :], w, scales))
    stars = _crossing(*_profile(x, means, w, scales)[:3])
    inside, df = pooled
    return Curve(
        start=float(c0), rise=float(c1), scale=float(k),
        gamma_star=_percentiles(float(_crossing(c0, c1, k)), stars, n=int(w.sum()), method=CURVE_METHOD, level=level),
        aicc=aicc(float(misfit) + inside * df, int(w.sum()), 4),
    )  # fmt: skip


def aicc(squares: float, n: int, parameters: int) -> float | None:
    """Corrected AIC of a least-squares fit; `parameters` counts the variance. None where it is not defined."""
    if n - parameters - 1 <= 0 or squares <= 0:
        return None
    return n * float(np.log(squares / n)) + 2 * parameters * n / (n - parameters - 1)


def sign_change(arms: Sequence[Arm]) -> tuple[float, float] | None:
    """Neighbouring margins between which the mean Δ goes from negative to positive: no model at all."""
    for low, high in pairwise(arms):
        if low.mean < 0 <= high.mean:
            return low.gamma, high.gamma
    return None


def _columns(arms: Sequence[Arm]) -> tuple[Array, Array, Array]:
    """Margins, means and seeds of the arms."""
    table = np.array([(arm.gamma, arm.mean, float(arm.n)) for arm in arms])
    return table[:, 0], table[:, 1], table[:, 2]


def _pooled(arms: Sequence[Arm]) -> tuple[float, int] | None:
    """Variance inside arms and its degrees of freedom."""
    spread = [(arm.n - 1, arm.sd**2) for arm in arms if arm.sd is not None and arm.n > 1]
    df = sum(count for count, _ in spread)
    squares = sum(count * variance for count, variance in spread)
    return (squares / df, df) if df and squares > 0 else None


def _lack_of_fit(misfit: float, df_fit: int, inside: float, df: int) -> Test:
    f = misfit / df_fit / inside
    return Test(
        statistic=f, p=float(special.fdtrc(df_fit, df, f)), n=df + df_fit + 2,
        method="F test of lack of fit, spread inside arms as pure error",
    )  # fmt: skip


def _profile(x: Array, means: Array, weights: Array, scales: Array) -> tuple[Array, Array, Array, Array]:
    """Best c0, c1, k and weighted squares for every row of `means` (rows x arms)."""
    curves = 1 - np.exp(-x[None, :] / scales[:, None])
    total = weights.sum()
    centred = curves - (curves @ weights / total)[:, None]
    y = means - (means @ weights / total)[:, None]
    sxy = y @ (centred * weights).T
    sxx = (centred**2 * weights).sum(axis=1)
    gain = sxy**2 / sxx
    best = gain.argmax(axis=1)
    rows = np.arange(len(means))
    c1 = sxy[rows, best] / sxx[best]
    c0 = means @ weights / total - c1 * (curves @ weights / total)[best]
    return c0, c1, scales[best], (y**2 * weights).sum(axis=1) - gain[rows, best]


def _crossing(c0: Array, c1: Array, k: Array) -> Array:
    """γ* = -k ln(1 + c0/c1); NaN where the curve never reaches zero."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(-k * np.log1p(c0 / c1), dtype=np.float64)


def _percentiles(value: float, draws: Array, *, n: int, method: str, level: float) -> Estimate:
    """Percentile interval; draws without a crossing count as beyond the upper end."""
    ordered = np.where(np.isfinite(draws), draws, np.inf)
    low, high = np.quantile(ordered, ((1 - level) / 2, (1 + level) / 2), method="inverted_cdf")
    return Estimate(
        value=value if np.isfinite(value) else None,
        low=float(low) if np.isfinite(low) else None,
        high=float(high) if np.isfinite(high) else None,
        n=n, method=method, level=level,
    )  # fmt: skip
