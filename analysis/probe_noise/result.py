"""What the probe-noise study computes, typed: reported as quantities, drawn as a figure."""

from dataclasses import dataclass

from analysis.answers import Source
from analysis.gamma.critical import Scenario
from analysis.probe_noise.measured import Measured
from analysis.probe_noise.noise import Effect

PROBE_COUNTS = (50, 100, 150, 200, 300, 500, 1000)
"""Sizes of a probe set that the power analysis looks at."""
CORRELATIONS = (0.0, 0.5, 0.9, 0.95, 0.99, 0.995, 0.999, 1.0)
"""Correlations of a probe's scores before and after that are tried where none was measured."""


@dataclass(frozen=True, kw_only=True)
class Formula:
    """σ(ρ̂) of one behavior from its number of probes and its score before training."""

    behavior: str
    n: int
    rho: float
    assumed_zero: bool
    """No score is known: zero is filled in, which gives the largest σ."""
    sigma: float
    inputs: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class NoiseResult:
    """The study."""

    source: Source
    model: str
    formulas: tuple[Formula, ...]
    measured: tuple[Measured, ...]
    case: Scenario | None
    """γ* of the behavior studied, with the seeds' errors."""
    n: int
    """Its probes."""
    seeds_only: Effect | None
    unpaired: Effect | None
    paired: tuple[Effect, ...]
    """Published: over assumed correlations; db: the measured one."""
    resampled: tuple[float, float] | None
    """95 % interval of γ* as probes are resampled (db)."""
    power: tuple[tuple[Effect, Effect], ...]
    """Unpaired and paired, by number of probes."""
    power_correlation: float | None
    """The correlation behind the paired power analysis."""
