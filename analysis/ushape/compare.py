"""Is there a U at all? Likelihood ratios, AICc, tests of equal variances, and λ* under resampling."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import special

from analysis.arms import Arm
from analysis.stats.results import Array, Test, no_test
from analysis.stats.spread import brown_forsythe
from analysis.ushape.model import PARAMETERS, Bounds, Fits, Shape, least_squares, likelihoods, optimal_weight

BARTLETT = "Bartlett's test of equal variances (normal data)"
SHAPES: tuple[Shape, ...] = ("constant", "decay", "ushape")


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Maximum-likelihood fits of the three shapes to one set of SDs."""

    fits: Mapping[Shape, Fits]
    aicc: Mapping[Shape, float]
    """AICc with the degrees of freedom of the SDs as the number of observations."""
    ratio: Mapping[Shape, float]
    """-2 ln of the likelihood ratio of each simpler shape to the U."""
    p: Mapping[Shape, float]
    """Share of data simulated under the simpler shape whose ratio is at least as large (parametric bootstrap)."""

    @property
    def preferred(self) -> Shape:
        return min(SHAPES, key=lambda shape: self.aicc[shape])


@dataclass(frozen=True, kw_only=True)
class Uncertainty:
    """λ* of refits to resampled SDs, with the notes' bounds."""

    method: str
    draws: int
    median: float
    ci90: tuple[float, float]
    beyond_last_dose: float
    """Share of refits with λ* above the largest dose measured."""
    without_minimum: float
    """Share with σ growing from λ = 0 on."""
    at_bound: float
    """Share with a parameter at its bound."""
    preferred: Mapping[Shape, float]
    """Share of the resamples in which each shape has the smallest AICc."""


def aicc_of(fits: Fits, sizes: Array) -> Array:
    """-2 ln L + 2k + 2k(k+1)/(N-k-1), N the degrees of freedom of all SDs together."""
    k, n = PARAMETERS[fits.shape], float((sizes - 1).sum())
    penalty = 2 * k + (2 * k * (k + 1) / (n - k - 1) if n > k + 1 else math.inf)
    return np.asarray(fits.objective + penalty, dtype=np.float64)


def assumed_noise(
    parameters: tuple[float, float, float], relative: tuple[float, float, float], rng: np.random.Generator, draws: int
) -> Array:
    """λ* as each fitted parameter gets a normal relative error that somebody assumed (the notes' Monte Carlo)."""
    factors = np.abs(1 + np.array(relative) * rng.standard_normal((draws, 3)))
    return optimal_weight(*(np.array(parameters) * factors).T)


def compare(sds: Array, sizes: Array, weights: Array, rng: np.random.Generator, *, draws: int) -> Comparison:
    """Fits, AICc and simulated likelihood-ratio tests. The χ² approximation would not hold: n is tiny, and the
    simpler shapes lie on the edge of the U (σp = 0, τ infinite)."""
    fits = likelihoods(sds[None], sizes, weights)
    ratio = {shape: _ratio(fits[shape], fits["ushape"])[0] for shape in SHAPES[:2]}
    p = {}
    for shape in SHAPES[:2]:
        simulated = simulated_sds(fits[shape].sigma(weights)[0], sizes, rng, draws)
        refits = likelihoods(simulated, sizes, weights)
        null = _ratio(refits[shape], refits["ushape"])
        p[shape] = float((1 + np.count_nonzero(null >= ratio[shape] - 1e-9)) / (1 + draws))
    return Comparison(
        fits=fits,
        aicc={shape: float(aicc_of(fits[shape], sizes)[0]) for shape in SHAPES},
        ratio={shape: float(value) for shape, value in ratio.items()},
        p=p,
    )


def _ratio(simple: Fits, full: Fits) -> Array:
    return np.maximum(simple.objective - full.objective, 0.0)


def simulated_sds(sigma: Array, sizes: Array, rng: np.random.Generator, draws: int) -> Array:
    """SDs of normal samples with the given true SDs (draws x doses)."""
    return np.asarray(sigma * np.sqrt(rng.chisquare(sizes - 1, (draws, sizes.size)) / (sizes - 1)), dtype=np.float64)


def plausible_sds(sds: Array, sizes: Array, rng: np.random.Generator, draws: int) -> Array:
    """True SDs that the sample SDs leave plausible: s sqrt((n-1) / χ²(n-1)) (fiducial, normal data)."""
    return np.asarray(sds * np.sqrt((sizes - 1) / rng.chisquare(sizes - 1, (draws, sizes.size))), dtype=np.float64)


def resampled_sds(arms: list[Arm], rng: np.random.Generator, draws: int) -> Array | None:
    """SDs of seeds drawn with replacement. The same seeds at every dose where all doses share them; None without
    values. Draws in which a dose has no spread are left out."""
    values = [arm.values for arm in arms if arm.values is not None]
    if len(values) < len(arms) or min(len(v) for v in values) < 2:
        return None
    seeds = sorted(values[0])
    if all(sorted(v) == seeds for v in values):
        table = np.array([[v[seed] for v in values] for seed in seeds])
        sds = table[rng.integers(0, len(seeds), (draws, len(seeds)))].std(axis=1, ddof=1)
    else:
        columns = [np.array(list(v.values())) for v in values]
        sds = np.column_stack([c[rng.integers(0, c.size, (draws, c.size))].std(axis=1, ddof=1) for c in columns])
    return np.asarray(sds[(sds > 1e-12).all(axis=1)], dtype=np.float64)


def uncertainty(method: str, sds: Array, sizes: Array, weights: Array, bounds: Bounds) -> Uncertainty:
    """Refit every row of SDs with the notes' bounds, and by likelihood for the choice of shape."""
    fits = least_squares(sds, weights, bounds)
    stars = fits.optimum()
    low, median, high = np.quantile(stars, (0.05, 0.5, 0.95))
    scores = np.column_stack([aicc_of(fit, sizes) for fit in likelihoods(sds, sizes, weights).values()])
    chosen = scores.argmin(axis=1)
    return Uncertainty(
        method=method, draws=len(sds), median=float(median), ci90=(float(low), float(high)),
        beyond_last_dose=float((stars > weights.max()).mean()), without_minimum=float((stars == 0).mean()),
        at_bound=float(fits.at_bound.mean()),
        preferred={shape: float((chosen == i).mean()) for i, shape in enumerate(SHAPES)},
    )  # fmt: skip


def bartlett(sds: Array, sizes: Array) -> Test:
    """Bartlett 1937 from SDs and sizes; χ² with k - 1 degrees of freedom."""
    df = sizes - 1.0
    n = int(sizes.sum())
    if sds.size < 2 or (df < 1).any():
        return no_test("not enough data", BARTLETT, n)
    if (sds <= 0).any():
        return no_test("degenerate", BARTLETT, n)
    total = float(df.sum())
    pooled = float((df * sds**2).sum()) / total
    statistic = total * math.log(pooled) - float((df * np.log(sds**2)).sum())
    statistic /= 1 + (float((1 / df).sum()) - 1 / total) / (3 * (sds.size - 1))
    statistic = max(statistic, 0.0)  # equal variances, up to rounding
    return Test(statistic=statistic, p=float(special.chdtrc(sds.size - 1, statistic)), n=n, method=BARTLETT)


def variance_ratio(low: Arm, high: Arm) -> Test:
    """F test of equal variances of two doses, two-sided (normal data)."""
    method = "F test of equal variances, two-sided (normal data)"
    if not low.sd or not high.sd:
        return no_test("degenerate", method, low.n + high.n)
    f = (high.sd / low.sd) ** 2
    upper = float(special.fdtrc(high.n - 1, low.n - 1, f))
    return Test(statistic=f, p=2 * min(upper, 1 - upper), n=low.n + high.n, method=method)


def levene(arms: list[Arm]) -> Test | None:
    """Brown-Forsythe across doses; None unless every dose has its seeds' values."""
    values = [list(arm.values.values()) for arm in arms if arm.values is not None]
    return brown_forsythe(values) if len(values) == len(arms) else None
