"""What the U-shape study looks at and computes, typed: reported as quantities, drawn as a figure."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from analysis.arms import Arm
from analysis.stats.results import Array, Test
from analysis.ushape.compare import Comparison, Uncertainty
from analysis.ushape.model import Fits


@dataclass(frozen=True, kw_only=True)
class Series:
    """SDs over seeds at several doses, from one source."""

    name: str
    behavior: str
    arms: tuple[Arm, ...]
    """By λ, all with an SD."""
    claimed: bool = False
    """Whether these are the SDs behind the published fit."""

    @property
    def weights(self) -> Array:
        return np.array([arm.weight for arm in self.arms])

    @property
    def sds(self) -> Array:
        return np.array([arm.sd for arm in self.arms], dtype=np.float64)

    @property
    def sizes(self) -> Array:
        return np.array([float(arm.n) for arm in self.arms])

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(key for arm in self.arms for key in arm.inputs)


@dataclass(frozen=True, kw_only=True)
class SeriesResult:
    """All that was computed for one series."""

    series: Series
    fit: Fits
    """Least squares inside the notes' bounds, one row."""
    comparison: Comparison
    uncertainties: tuple[Uncertainty, ...]
    left_out: Mapping[int, float]
    """Seed -> λ* of the fit without it; empty unless all doses share their seeds."""
    bartlett: Test
    levene: Test | None
    assumed: Array | None
    """Draws of λ* under the noise that the notes assumed for the parameters; None where not claimed."""
    rise: Test | None
    """F test of the last dose against the one with the smallest SD."""
    lowest: Arm

    @property
    def optimum(self) -> float:
        return float(self.fit.optimum()[0])


@dataclass(frozen=True, kw_only=True)
class UshapeResult:
    """The study: one result a series; default λ marked in the figure."""

    model: str
    results: tuple[SeriesResult, ...]
    operating: float | None
