"""Phase diagram: Δ(γ, λ) = a + b λ + m (γ - γ_ref) λ / λ_ref, fitted to cells of a grid; where Δ changes sign.

The three coefficients are fixed linear combinations of the cells' means, so γ*(λ) = γ_ref - (a + b λ) λ_ref / (m λ)
is a ratio of two contrasts of independent means: Fieller's set with Satterthwaite degrees of freedom holds at each λ.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special

from analysis.arms import Arm
from analysis.gamma.critical import shifted
from analysis.stats.ratios import fieller_welch
from analysis.stats.results import Array, RatioSet, Test


@dataclass(frozen=True, kw_only=True)
class Operating:
    """The point (γ, λ) that the model is centred on: the default setting."""

    gamma: float
    weight: float


@dataclass(frozen=True, kw_only=True)
class Surface:
    """A fitted surface. `weights` (3 x cells) turns the cells' means into (a, b, m)."""

    behavior: str
    construction: Literal["stepwise", "least squares"]
    """stepwise: a, b by least squares over the doses at γ_ref, m from the two margins at λ_ref (the notes)."""
    centre: Operating
    cells: tuple[Arm, ...]
    weights: Array
    lack_of_fit: Test | None

    @property
    def means(self) -> Array:
        return np.array([cell.mean for cell in self.cells])

    @property
    def coefficients(self) -> tuple[float, float, float]:
        """a, b (per unit λ), m (per nat/token of γ at λ_ref)."""
        a, b, m = (float(x) for x in self.weights @ self.means)
        return a, b, m

    def at(self, gamma: Array | float, weight: Array | float) -> Array:
        """The surface's Δ."""
        a, b, m = self.coefficients
        lean = (np.asarray(gamma) - self.centre.gamma) * np.asarray(weight) / self.centre.weight
        return np.asarray(a + b * np.asarray(weight) + m * lean, dtype=np.float64)

    def residuals(self) -> Array:
        """Measured minus fitted, cell by cell."""
        return np.array([cell.mean - float(self.at(cell.gamma, cell.weight)) for cell in self.cells])

    def critical_point(self, weight: float) -> float:
        """γ*(λ) of the surface."""
        a, b, m = self.coefficients
        return self.centre.gamma - (a + b * weight) * self.centre.weight / (m * weight)

    def critical(self, weight: float, *, level: float) -> RatioSet:
        """γ*(λ) with Fieller's set; without an interval where a cell has no spread."""
        numerator = -(self.weights[0] + weight * self.weights[1]) * self.centre.weight / weight
        known = all(cell.se for cell in self.cells)
        errors = [cell.se or 0.0 for cell in self.cells]
        sizes = [cell.n if known else 1 for cell in self.cells]
        found = fieller_welch(self.means, errors, sizes, numerator=numerator, denominator=self.weights[2], level=level)
        return shifted(found, self.centre.gamma)


@dataclass(frozen=True, kw_only=True)
class Region:
    """Where over a rectangle the surface is negative."""

    share_negative: float
    lowest: float
    lowest_at: tuple[float, float]
    """γ, λ."""


def stepwise(doses: Sequence[Arm], no_margin: Arm, centre: Operating) -> Surface | None:
    """The notes' construction. None without the arm at the operating point or with fewer than two doses."""
    anchor = next((i for i, arm in enumerate(doses) if arm.weight == centre.weight), None)
    if anchor is None or len({arm.weight for arm in doses}) < 2 or no_margin.gamma == centre.gamma:
        return None
    design = np.column_stack([np.ones(len(doses)), [arm.weight for arm in doses]])
    line = np.linalg.pinv(design)
    margin = np.zeros(len(doses) + 1)
    margin[anchor], margin[-1] = 1.0, -1.0
    weights = np.vstack([np.column_stack([line, np.zeros(2)]), margin / (centre.gamma - no_margin.gamma)])
    return Surface(
        behavior=no_margin.behavior, construction="stepwise", centre=centre, cells=(*doses, no_margin),
        weights=weights, lack_of_fit=None,
    )  # fmt: skip


def least_squares(cells: Sequence[Arm], centre: Operating) -> Surface | None:
    """All cells at once, weighted by seeds. None where the grid does not determine the three coefficients."""
    weight = np.array([cell.weight for cell in cells])
    gamma = np.array([cell.gamma for cell in cells])
    design = np.column_stack([np.ones(len(cells)), weight, (gamma - centre.gamma) * weight / centre.weight])
    if len(cells) < 3 or np.linalg.matrix_rank(design) < 3:
        return None
    n = np.array([float(cell.n) for cell in cells])
    weights = np.linalg.solve(design.T @ (n[:, None] * design), design.T * n)
    fit = Surface(
        behavior=cells[0].behavior, construction="least squares", centre=centre, cells=tuple(cells), weights=weights,
        lack_of_fit=None,
    )  # fmt: skip
    return Surface(**{**fit.__dict__, "lack_of_fit": _lack_of_fit(fit, n)})


def _lack_of_fit(fit: Surface, n: Array) -> Test | None:
    """F test of the residuals against the spread inside cells; None without spread or spare cells."""
    spread = [(cell.n - 1, cell.sd) for cell in fit.cells]
    df, spare = sum(count for count, sd in spread if sd), len(fit.cells) - 3
    if spare < 1 or df < 1 or not all(sd for _, sd in spread):
        return None
    inside = sum(count * (sd or 0.0) ** 2 for count, sd in spread) / df
    f = float((n * fit.residuals() ** 2).sum()) / spare / inside
    method = "F test of lack of fit, spread inside cells as pure error"
    return Test(statistic=f, p=float(special.fdtrc(spare, df, f)), n=int(n.sum()), method=method)


def region(surface: Surface, *, gamma_high: float, weight_high: float, points: int) -> Region:
    """Sign of the surface over [0, gamma_high] x [0, weight_high] on an even grid."""
    gammas, weights = np.meshgrid(np.linspace(0, gamma_high, points), np.linspace(0, weight_high, points))
    values = surface.at(gammas, weights)
    place = np.unravel_index(int(values.argmin()), values.shape)
    return Region(
        share_negative=float((values < 0).mean()), lowest=float(values[place]),
        lowest_at=(float(gammas[place]), float(weights[place])),
    )  # fmt: skip
