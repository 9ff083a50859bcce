"""Noise from the choice of probes, and what it does to γ*.

A correlation over N probes has SD (1 - ρ²) / sqrt(N - 1) (the notes; it is not the SD of a mean gap). Δ is a
difference of two scores of the same probes: with correlation r between a probe's scores before and after, the
noise of Δ is sqrt(2 (1 - r)) σ, and two arms share half of it (they share the score before).
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special

from analysis.gamma.critical import Scenario, critical_margin, shifted
from analysis.stats.ratios import fieller
from analysis.stats.results import Array, RatioSet

Kind = Literal["seeds only", "unpaired", "paired"]


def correlation_sd(rho: float, n: int) -> float:
    """(1 - ρ²) / sqrt(N - 1): large-sample SD of a correlation coefficient of normal data."""
    return (1 - rho**2) / math.sqrt(n - 1)


@dataclass(frozen=True, kw_only=True)
class ProbeNoise:
    """Covariance of Δ in the two arms from the choice of one probe; divided by N - 1 it is that of N probes."""

    kind: Kind
    matrix: Array
    """2 x 2."""
    correlation: float | None = None
    """r between a probe's scores before and after, for `paired`."""

    def at(self, n: int) -> Array:
        """The covariance matrix for N probes."""
        return np.asarray(self.matrix / (n - 1), dtype=np.float64)


NO_NOISE = ProbeNoise(kind="seeds only", matrix=np.zeros((2, 2)))


def unpaired(sigma: float) -> ProbeNoise:
    """The notes: each Δ gets noise of its own, with the SD of one score (per probe)."""
    return ProbeNoise(kind="unpaired", matrix=sigma**2 * np.eye(2))


def paired(sigma: float, correlation: float) -> ProbeNoise:
    """The same probes before and after, in both arms; any two scores of a probe correlate alike."""
    shared = sigma**2 * (1 - correlation)
    return ProbeNoise(kind="paired", matrix=shared * np.array([[2.0, 1.0], [1.0, 2.0]]), correlation=correlation)


@dataclass(frozen=True, kw_only=True)
class Effect:
    """γ* under the seeds' errors plus the noise of N probes."""

    noise: ProbeNoise
    n: int
    kept: float
    """Share of samples inside the notes' window with a rising line."""
    falling: float
    """P(slope <= 0), closed form."""
    filtered: tuple[float, float]
    """2.5 and 97.5 per cent of the kept samples."""
    untruncated: tuple[float, float]
    """The same of all samples."""
    width_error: float
    """Monte Carlo standard error of the filtered width."""
    fieller: RatioSet

    @property
    def width(self) -> float:
        return self.filtered[1] - self.filtered[0]


def effect_on_margin(
    case: Scenario,
    noise: ProbeNoise,
    n: int,
    rng: np.random.Generator,
    *,
    samples: int,
    window: tuple[float, float],
) -> Effect:
    """Sample both arms with the summed covariance; Fieller's set with it in closed form."""
    covariance = np.diag(np.square(case.errors)) + noise.at(n)
    draws = rng.standard_normal((samples, 2)) @ np.linalg.cholesky(covariance).T + case.means
    stars = critical_margin(draws[:, 0], draws[:, 1], case.gammas)
    keep = (stars > window[0]) & (stars < window[1]) & (draws[:, 1] > draws[:, 0])
    kept = stars[keep]
    filtered = np.quantile(kept, (0.025, 0.975)) if kept.size > 1 else np.array([np.nan, np.nan])
    everything = np.quantile(stars, (0.025, 0.975))
    span = case.gammas[1] - case.gammas[0]
    rise = case.means[1] - case.means[0]
    (v0, c), (_, v1) = covariance.tolist()
    spread = v0 + v1 - 2 * c
    found = fieller(
        -span * case.means[0], rise, var_numerator=span**2 * v0, var_denominator=spread, covariance=span * (v0 - c)
    )
    return Effect(
        noise=noise,
        n=n,
        kept=kept.size / samples,
        falling=float(special.ndtr(-rise / math.sqrt(spread))),
        filtered=(float(filtered[0]), float(filtered[1])),
        untruncated=(float(everything[0]), float(everything[1])),
        width_error=_width_error(kept),
        fieller=shifted(found, case.gammas[0]),
    )


def _width_error(kept: Array) -> float:
    """Standard error of the 95 % width from twenty batches."""
    if kept.size < 400:
        return float("nan")
    batches = kept[: kept.size // 20 * 20].reshape(20, -1)
    low, high = np.quantile(batches, (0.025, 0.975), axis=1)
    return float(np.std(high - low, ddof=1) / math.sqrt(20))
