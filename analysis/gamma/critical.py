"""The critical margin γ*: where Δ, as a function of the hinge margin, changes sign. Two margins.

With Δ(γ0) = d0 and Δ(γ1) = d1 a straight line crosses zero at γ* = γ0 - d0 (γ1 - γ0) / (d1 - d0): the ratio of two
contrasts of two independent means, whose confidence set Fieller's theorem gives exactly.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special

from analysis.arms import Arm
from analysis.stats.ratios import fieller, fieller_welch
from analysis.stats.results import Array, RatioSet

QUANTILES = (2.5, 5.0, 16.0, 50.0, 84.0, 95.0, 97.5)


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """Two arms, and what is taken for the standard error of each."""

    name: str
    behavior: str
    gammas: tuple[float, float]
    means: tuple[float, float]
    errors: tuple[float, float]
    """Taken for standard errors of the means, nats/token."""
    sizes: tuple[int, int] | None
    """Seeds per arm; None where `errors` are not standard errors of that many seeds (the notes' SDs)."""
    inputs: tuple[str, ...]

    @property
    def point(self) -> float:
        return float(critical_margin(*self.means, self.gammas))


def critical_margin(d0: Array | float, d1: Array | float, gammas: tuple[float, float]) -> Array:
    """γ* of straight lines through (γ0, d0) and (γ1, d1); infinite where the line is flat."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = -np.asarray(d0, dtype=np.float64) / (np.asarray(d1, dtype=np.float64) - d0)
    return np.asarray(gammas[0] + (gammas[1] - gammas[0]) * ratio, dtype=np.float64)


def scenario(arms: tuple[Arm, Arm], name: str, errors: Literal["sd", "se"]) -> Scenario | None:
    """Two arms with their SDs or their standard errors as errors; None where one has no spread."""
    low, high = arms
    if low.sd is None or high.sd is None or low.sd == 0 or high.sd == 0:
        return None
    divisors = (1.0, 1.0) if errors == "sd" else (low.n**0.5, high.n**0.5)
    return Scenario(
        name=name,
        behavior=low.behavior,
        gammas=(low.gamma, high.gamma),
        means=(low.mean, high.mean),
        errors=(low.sd / divisors[0], high.sd / divisors[1]),
        sizes=(low.n, high.n) if errors == "se" else None,
        inputs=(*low.inputs, *high.inputs),
    )


def fieller_set(case: Scenario, *, level: float, welch: bool = False) -> RatioSet:
    """The set of γ* that the two arms do not reject: normal errors, or (`welch`) Student's with each arm's n."""
    span = case.gammas[1] - case.gammas[0]
    if welch and case.sizes is not None:
        found = fieller_welch(
            case.means, case.errors, case.sizes, numerator=(-span, 0.0), denominator=(-1.0, 1.0), level=level
        )
    else:
        v0, v1 = (error**2 for error in case.errors)
        found = fieller(
            -span * case.means[0],
            case.means[1] - case.means[0],
            var_numerator=span**2 * v0,
            var_denominator=v0 + v1,
            covariance=span * v0,
            level=level,
        )
    return shifted(found, case.gammas[0])


def shifted(found: RatioSet, by: float) -> RatioSet:
    """The set moved along the axis."""
    ends = [None if x is None else x + by for x in (found.value, found.low, found.high)]
    return RatioSet(
        value=ends[0], kind=found.kind, low=ends[1], high=ends[2], method=found.method, level=found.level,
        status=found.status,
    )  # fmt: skip


def probability_above(case: Scenario, gamma: float) -> float:
    """P(Δ(γ) < 0) with normal errors: where the line rises, the probability that γ* > γ. Closed form."""
    share = (gamma - case.gammas[0]) / (case.gammas[1] - case.gammas[0])
    mean = (1 - share) * case.means[0] + share * case.means[1]
    sd = np.hypot((1 - share) * case.errors[0], share * case.errors[1])
    return float(special.ndtr(-mean / sd))


def partials(case: Scenario) -> tuple[float, float]:
    """dγ*/dd0 and dγ*/dd1 of the straight line."""
    span, rise = case.gammas[1] - case.gammas[0], case.means[1] - case.means[0]
    return -span * case.means[1] / rise**2, span * case.means[0] / rise**2


def power_law(case: Scenario, exponent: float) -> float | None:
    """γ* if Δ grows from d0 to d1 as (share of the span)**exponent; None without a sign change between the arms."""
    share = -case.means[0] / (case.means[1] - case.means[0])
    if not 0 <= share <= 1:
        return None
    return float(case.gammas[0] + (case.gammas[1] - case.gammas[0]) * share ** (1 / exponent))


@dataclass(frozen=True, kw_only=True)
class Decorative:
    """Inputs that the notes draw but that γ* does not use: s∞ (log-normal) and an angle (normal, degrees)."""

    s_inf: tuple[float, float]
    """Median and SD of the logarithm."""
    theta: tuple[float, float]
    """Mean and SD."""


@dataclass(frozen=True, kw_only=True)
class MonteCarlo:
    """Samples of γ*, reduced to what is reported. Samples outside `window` are dropped, as in the notes."""

    case: Scenario
    samples: int
    kept: int
    window: tuple[float, float]
    mean: float
    sd: float
    quantiles: dict[float, float]
    """Per cent -> γ*."""
    shares_above: dict[float, float]
    """γ -> share of the kept samples above it."""
    histogram: tuple[Array, Array]
    """Counts and edges over the central 99.8 %."""
    decorative: tuple[float, float] | None
    """Correlations of γ* with the unused s∞ and θ: sampling noise."""

    @property
    def median(self) -> float:
        return self.quantiles[50.0]

    @property
    def mean_error(self) -> float:
        """Monte Carlo standard error of the mean."""
        return self.sd / float(np.sqrt(self.kept))

    def quantile_error(self, percent: float) -> float:
        """Monte Carlo standard error of a quantile: sqrt(p (1 - p) / N) / density, from the histogram."""
        counts, edges = self.histogram
        place = int(np.clip(np.searchsorted(edges, self.quantiles[percent]) - 1, 0, counts.size - 1))
        window = slice(max(0, place - 1), place + 2)
        width = float(edges[1] - edges[0]) * (min(counts.size, place + 2) - max(0, place - 1))
        density = max(float(counts[window].sum()), 1.0) / (self.kept * width)
        p = percent / 100
        return float(np.sqrt(p * (1 - p) / self.kept) / density)

    def share_error(self, gamma: float) -> float:
        """Monte Carlo standard error of a share."""
        p = self.shares_above[gamma]
        return float(np.sqrt(p * (1 - p) / self.kept))


def monte_carlo(
    case: Scenario,
    rng: np.random.Generator,
    *,
    samples: int,
    window: tuple[float, float],
    decorative: Decorative | None = None,
    thresholds: tuple[float, ...] = (0.02, 0.03, 0.05),
) -> MonteCarlo | None:
    """Normal draws of both arms through `critical_margin`. None where no sample falls inside the window.

    Kept are samples inside the window whose line rises.

    The draws come in the order of the notes' script (s∞, θ, d0, d1), so that its numbers come out again.
    """
    extra = None
    if decorative is not None:
        median, log_sd = decorative.s_inf
        extra = (rng.lognormal(np.log(median), log_sd, samples), rng.normal(*decorative.theta, samples))
    d0 = rng.normal(case.means[0], case.errors[0], samples)
    d1 = rng.normal(case.means[1], case.errors[1], samples)
    gamma = critical_margin(d0, d1, case.gammas)
    keep = (gamma > window[0]) & (gamma < window[1]) & (d1 > d0)
    kept = gamma[keep]
    if kept.size < 2:
        return None
    below, *cuts, above = np.percentile(kept, (0.1, *QUANTILES, 99.9))
    counts, edges = np.histogram(kept, bins=60, range=(below, above))
    return MonteCarlo(
        case=case,
        samples=samples,
        kept=int(kept.size),
        window=window,
        mean=float(kept.mean()),
        sd=float(kept.std()),
        quantiles=dict(zip(QUANTILES, map(float, cuts), strict=True)),
        shares_above={t: float(np.count_nonzero(kept > t)) / kept.size for t in thresholds},
        histogram=(counts.astype(np.float64), edges),
        decorative=None if extra is None else (_correlation(extra[0][keep], kept), _correlation(extra[1][keep], kept)),
    )


def _correlation(a: Array, b: Array) -> float:
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale else 0.0
