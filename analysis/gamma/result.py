"""What the γ* study computes, typed: reported as quantities, drawn as figures."""

from collections.abc import Mapping
from dataclasses import dataclass

from analysis.gamma.amplification import Angular, Baselines, Rounded, Swings
from analysis.gamma.critical import MonteCarlo
from analysis.gamma.curves import Curve, Line
from analysis.gamma.inputs import AmplificationInputs, GammaInputs
from analysis.gamma.phase import Surface
from analysis.gamma.sensitivity import Bar, Sobol
from analysis.stats.results import Estimate

EXPONENTS = (0.5, 2 / 3, 1.0, 1.5, 2.0, 3.0)
"""Shapes of Δ(γ) between the two margins that two margins cannot tell apart."""
EXPONENT_RANGE = (0.5, 2.0)
"""Over which the exponent is drawn for the Sobol indices."""


@dataclass(frozen=True, kw_only=True)
class AmplificationResult:
    """All that can be said about the ratio of two swings."""

    given: AmplificationInputs
    angular: Angular | None
    rounded: Rounded | None
    baselines: Baselines | None
    swings: Swings | None


@dataclass(frozen=True, kw_only=True)
class GammaResult:
    """Everything the study computed."""

    inputs: GammaInputs
    level: float
    monte_carlo: tuple[MonteCarlo, ...]
    """Of the first scenario of the target, and of the sound one."""
    resampled: Mapping[str, Estimate]
    """Behavior -> γ* with seeds resampled, where seeds' values are known in both arms."""
    lines: Mapping[str, Line]
    curves: Mapping[str, Curve]
    amplification: AmplificationResult | None
    tornado: tuple[Bar, ...]
    two_arms: tuple[Bar, ...]
    sobol: tuple[Sobol, ...]
    refused: tuple[str, ...]
    """Why there are no Sobol indices of a model that could have had them."""
    surfaces: tuple[Surface, ...]
