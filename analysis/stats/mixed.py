"""Random-slope mixed models of a dose series: value = dose effects + seed's own level + seed's own slope + error.

Where every seed has every dose, restricted maximum likelihood has a closed form (Laird & Ware 1982); else
statsmodels fits it. A fit at the edge of what is possible (a variance of zero, a correlation of ±1) is called singular.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from analysis.stats.batches import by_shape
from analysis.stats.results import Array, finite

Status = Literal["ok", "singular", "not converged", "not enough data", "degenerate"]


@dataclass(frozen=True, kw_only=True)
class MixedSlopes:
    """Standard deviations of the seeds' levels (at dose 0) and slopes, and of the error; None where there is no fit."""

    slope_sd: float | None
    level_sd: float | None
    correlation: float | None
    """Of level and slope over seeds; None where one of them has no variance."""
    error_sd: float | None
    status: Status
    method: str

    def __str__(self) -> str:
        if self.slope_sd is None or self.error_sd is None:
            return f"{self.method}: {self.status}"
        found = f"SD of the seeds' slopes {self.slope_sd:.3g}, of the error {self.error_sd:.3g}"
        return f"{self.method}: {found}" + ("" if self.status == "ok" else f" ({_WHY[self.status]})")


_WHY = {
    "singular": "singular fit: seeds cannot be told apart in slope or in level, the SDs are not to be relied on",
    "not converged": "the fit did not converge, the SDs are not to be relied on",
}
BALANCED = "random-slope mixed model, REML in closed form (every seed at every dose)"
UNBALANCED = "random-slope mixed model, REML (statsmodels MixedLM)"


def balanced_slopes(doses: Array, table: Array) -> MixedSlopes:
    """REML of a complete seeds x doses table with dose effects: covariance of the seeds' lines less that of the error.

    The residual mean square estimates the error; the covariance of least-squares lines over seeds exceeds that of
    the random effects by error * (X'X)^-1. Where the difference is no covariance matrix, the maximum lies on the edge.
    """
    return balanced_slopes_each([doses], [table])[0]


def balanced_slopes_each(doses: Sequence[Array], tables: Sequence[Array]) -> list[MixedSlopes]:
    """`balanced_slopes` of each table, at its own doses."""
    found: dict[int, MixedSlopes] = {}
    for places, stack in by_shape(tables):
        seeds, points = stack.shape[1:]
        if seeds < 3 or points < 3:
            found |= dict.fromkeys(places, _none("not enough data", BALANCED))
            continue
        at = np.array([doses[place] for place in places])
        design = np.stack([np.ones_like(at), at], axis=2)
        inverse = np.linalg.inv(design.transpose(0, 2, 1) @ design)
        apart = stack - stack.mean(axis=1, keepdims=True)
        lines = apart @ (design @ inverse)
        rest = apart - lines @ design.transpose(0, 2, 1)
        errors = (rest**2).sum(axis=(1, 2)) / ((seeds - 1) * (points - 2))
        nothing = errors <= 1e-24 * np.abs(stack).max(axis=(1, 2)) ** 2
        between = lines.transpose(0, 2, 1) @ lines / (seeds - 1) - errors[:, None, None] * inverse
        reach = np.ptp(at, axis=1)
        rows = zip(*(column.tolist() for column in (nothing, between, errors, reach)), strict=True)
        for place, (flat, covariance, error, width) in zip(places, rows, strict=True):
            found[place] = _none("degenerate", BALANCED) if flat else _described(covariance, error, width, BALANCED)
    return [found[place] for place in range(len(tables))]


def mixed_slopes(doses: Array, values: Array, seeds: npt.NDArray[np.int64]) -> MixedSlopes:
    """REML of one value a row, seeds and doses in any number; slow (some 0.1 s), and it loads statsmodels."""
    names, codes = np.unique(seeds, return_inverse=True)
    levels = np.unique(doses)
    if len(names) < 3 or len(levels) < 3 or len(values) <= len(levels) + 3:
        return _none("not enough data", UNBALANCED)
    from statsmodels.regression.mixed_linear_model import MixedLM
    from statsmodels.tools.sm_exceptions import ModelWarning

    scale = float(finite(values).std())
    if scale == 0:
        return _none("degenerate", UNBALANCED)
    fixed = (doses[:, None] == levels).astype(float)
    random = np.column_stack([np.ones_like(doses), doses])
    with warnings.catch_warnings():
        # What they warn of (no convergence, a singular covariance) becomes the status.
        warnings.simplefilter("ignore", ModelWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        try:
            # Values of unit spread: the optimiser's tolerances are absolute.
            fit = MixedLM(values / scale, fixed, groups=codes, exog_re=random).fit(reml=True)
        except np.linalg.LinAlgError:
            return _none("singular", UNBALANCED)
    found = _described(
        (np.asarray(fit.cov_re) * scale**2).tolist(), float(fit.scale) * scale**2, float(np.ptp(doses)), UNBALANCED
    )
    if not fit.converged:
        return MixedSlopes(**{**vars(found), "status": "not converged"})
    return found


def _described(between: Sequence[Sequence[float]], error: float, reach: float, method: str) -> MixedSlopes:
    """Singular: a correlation of ±1, or levels or slopes (over the doses' range) that differ by 1 % of the error."""
    level, slope = (math.sqrt(max(between[k][k], 0.0)) for k in (0, 1))
    correlation = between[0][1] / (level * slope) if level * slope > 0 else None
    inside = correlation is not None and abs(correlation) < 1 - 1e-4
    apart = min(level, slope * reach) > 0.01 * math.sqrt(error)
    return MixedSlopes(
        slope_sd=slope, level_sd=level, error_sd=math.sqrt(error), method=method,
        correlation=None if correlation is None else min(1.0, max(-1.0, correlation)),
        status="ok" if inside and apart else "singular",
    )  # fmt: skip


def _none(status: Status, method: str) -> MixedSlopes:
    return MixedSlopes(slope_sd=None, level_sd=None, correlation=None, error_sd=None, status=status, method=method)
