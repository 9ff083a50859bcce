"""Random-slope mixed models of a dose series: value = dose effects + seed's own level + seed's own slope + error.

Where every seed has every dose, restricted maximum likelihood has a closed form (Laird & Ware 1982); else
statsmodels fits it. A fit at the edge of what is possible (a variance of zero, a correlation of ±1) is called singular.
"""

import math
import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from analysis.stats.results import Array

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
    seeds, points = table.shape
    if seeds < 3 or points < 3:
        return _none("not enough data", BALANCED)
    design = np.column_stack([np.ones(points), doses])
    inverse = np.linalg.inv(design.T @ design)
    apart = table - table.mean(axis=0)
    lines = apart @ design @ inverse
    rest = apart - lines @ design.T
    error = float((rest**2).sum()) / ((seeds - 1) * (points - 2))
    if error <= 1e-24 * float(np.abs(table).max()) ** 2:
        return _none("degenerate", BALANCED)
    between = lines.T @ lines / (seeds - 1) - error * inverse
    return _described(between, error, float(np.ptp(doses)), BALANCED)


def mixed_slopes(doses: Array, values: Array, seeds: npt.NDArray[np.int64]) -> MixedSlopes:
    """REML of one value a row, seeds and doses in any number; slow (some 0.1 s), and it loads statsmodels."""
    names, codes = np.unique(seeds, return_inverse=True)
    levels = np.unique(doses)
    if len(names) < 3 or len(levels) < 3 or len(values) <= len(levels) + 3:
        return _none("not enough data", UNBALANCED)
    from statsmodels.regression.mixed_linear_model import MixedLM
    from statsmodels.tools.sm_exceptions import ModelWarning

    scale = float(values.std())
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
    found = _described(np.asarray(fit.cov_re) * scale**2, float(fit.scale) * scale**2, float(np.ptp(doses)), UNBALANCED)
    if not fit.converged:
        return MixedSlopes(**{**vars(found), "status": "not converged"})
    return found


def _described(between: Array, error: float, reach: float, method: str) -> MixedSlopes:
    """Singular: a correlation of ±1, or levels or slopes (over the doses' range) that differ by 1 % of the error."""
    spread = np.sqrt(np.clip(np.diag(between), 0.0, None))
    product = float(spread[0] * spread[1])
    correlation = float(between[0, 1]) / product if product > 0 else None
    least = min(float(spread[0]), float(spread[1]) * reach)
    inside = correlation is not None and abs(correlation) < 1 - 1e-4 and least > 0.01 * math.sqrt(error)
    return MixedSlopes(
        slope_sd=float(spread[1]), level_sd=float(spread[0]), error_sd=math.sqrt(error), method=method,
        correlation=None if correlation is None else float(np.clip(correlation, -1, 1)),
        status="ok" if inside else "singular",
    )  # fmt: skip


def _none(status: Status, method: str) -> MixedSlopes:
    return MixedSlopes(slope_sd=None, level_sd=None, correlation=None, error_sd=None, status=status, method=method)
