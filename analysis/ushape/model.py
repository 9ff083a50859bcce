"""The variance over seeds as a function of λ: σ²(λ) = σ0² exp(-2λ/τ) + σp² λ, fitted to many sets of SDs at once.

Two ways to fit: least squares on σ inside bounds (the notes), and maximum likelihood for variances of normal
samples, (n - 1) s² / σ² ~ χ²(n - 1). Both are damped Gauss-Newton iterations in the logarithms of the parameters,
started from a grid of τ, vectorised over sets of SDs: thousands of refits take a second.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from analysis.stats.results import Array

Bounds = tuple[tuple[float, float], ...]

Shape = Literal["constant", "decay", "ushape"]
"""constant: σ0² (1 parameter); decay: σ0² exp(-2λ/τ) (2); ushape: + σp² λ (3)."""
PARAMETERS: dict[Shape, int] = {"constant": 1, "decay": 2, "ushape": 3}
FREE: Bounds = ((1e-8, 1e3), (1e-4, 1e3), (1e-8, 1e3))
"""Bounds that only keep the arithmetic finite."""
NESTED: dict[Shape, tuple[Shape, float]] = {"decay": ("constant", 1e6), "ushape": ("decay", 1e-8)}
"""The shape inside each, and the value of the parameter more that leads there: τ large, σp small."""
STEPS = 60


@dataclass(frozen=True, kw_only=True)
class Fits:
    """Fits of one shape to rows of SDs. `parameters` (rows x 1..3): σ0, τ, σp as far as the shape has them."""

    shape: Shape
    parameters: Array
    objective: Array
    """Rows: sum of squares of σ (least squares), or minus twice the log-likelihood up to a constant."""
    at_bound: np.typing.NDArray[np.bool_]
    """Rows: whether any parameter stopped at a bound."""

    def sigma(self, weights: Array) -> Array:
        """Fitted SDs, rows x doses."""
        return np.sqrt(variance(self.shape, np.log(self.parameters), weights)[0])

    def optimum(self) -> Array:
        """λ* of every row (U-shape only); 0 where σ grows from λ = 0 on."""
        s0, tau, sp = self.parameters.T
        return optimal_weight(s0, tau, sp)


def optimal_weight(s0: Array | float, tau: Array | float, sp: Array | float) -> Array:
    """λ* = τ/2 ln(2 σ0² / (τ σp²)), where dσ²/dλ = 0; 0 where the minimum lies at λ = 0."""
    with np.errstate(divide="ignore", over="ignore"):
        star = np.asarray(tau) / 2 * np.log(2 * np.asarray(s0) ** 2 / (np.asarray(tau) * np.asarray(sp) ** 2))
    return np.asarray(np.maximum(star, 0.0), dtype=np.float64)


def variance(shape: Shape, logs: Array, weights: Array) -> tuple[Array, Array]:
    """σ² (rows x doses) and its derivatives by the logarithms of the parameters (rows x doses x parameters)."""
    start = np.exp(2 * logs[:, :1])
    if shape == "constant":
        value = np.broadcast_to(start, (len(logs), weights.size)).copy()
        return value, 2 * value[:, :, None]
    tau = np.exp(logs[:, 1:2])
    decay = start * np.exp(-2 * weights / tau)
    slopes = [2 * decay, decay * 2 * weights / tau]
    if shape == "decay":
        return decay, np.stack(slopes, axis=2)
    growth = np.exp(2 * logs[:, 2:3]) * weights
    return decay + growth, np.stack([*slopes, 2 * growth], axis=2)


def least_squares(sds: Array, weights: Array, bounds: Bounds) -> Fits:
    """U-shapes through rows of SDs by least squares on σ inside the bounds of σ0, τ, σp."""

    def residuals(logs: Array, data: Array) -> tuple[Array, Array, Array]:
        value, slopes = variance("ushape", logs, weights)
        sigma = np.sqrt(value)
        miss = data - sigma
        return miss, slopes / (2 * sigma)[:, :, None], (miss**2).sum(axis=1)

    return _fit("ushape", sds, weights, bounds, residuals)


def likelihood(shape: Shape, sds: Array, sizes: Array, weights: Array) -> Fits:
    """Maximum likelihood of the shape for SDs of `sizes` normal values each; objective is -2 ln L.

    A shape is never worse than the one nested in it: where the search ends above that, its edge is taken.
    """
    df = sizes - 1.0
    if shape == "constant":
        pooled = np.sqrt(sds**2 @ df / df.sum())
        objective = df.sum() * (2 * np.log(pooled) + 1)
        never = np.zeros(len(sds), dtype=np.bool_)
        return Fits(shape=shape, parameters=pooled[:, None], objective=objective, at_bound=never)

    def residuals(logs: Array, data: Array) -> tuple[Array, Array, Array]:
        value, slopes = variance(shape, logs, weights)
        value = np.maximum(value, 1e-300)
        square = data**2
        root = np.sqrt(df / 2)
        objective = (df * (np.log(value) + square / value)).sum(axis=1)
        return root * (square - value) / value, root[:, None] * slopes / value[:, :, None], objective

    fit = _fit(shape, sds, weights, FREE[: PARAMETERS[shape]], residuals)
    nested, edge = NESTED[shape]
    simple = likelihood(nested, sds, sizes, weights)
    on_edge = np.column_stack([simple.parameters, np.full(len(sds), edge)])
    worse = fit.objective > simple.objective
    return Fits(
        shape=shape,
        parameters=np.where(worse[:, None], on_edge, fit.parameters),
        objective=np.minimum(fit.objective, simple.objective),
        at_bound=fit.at_bound | worse,
    )


Residuals = Callable[[Array, Array], tuple[Array, Array, Array]]
"""(logs, data) -> residuals (rows x doses), minus their derivatives (rows x doses x parameters), objective (rows)."""


def _fit(shape: Shape, sds: Array, weights: Array, bounds: Bounds, residuals: Residuals) -> Fits:
    """The best of several starts for every row of SDs."""
    low, high = np.log(np.array(bounds)).T
    sds = np.atleast_2d(sds)
    starts = _starts(shape, sds, weights)
    # All starts at once: the last rows to settle would otherwise be waited for once a start.
    given = np.clip(np.concatenate(starts), low, high)
    logs, values = _descend(given, np.tile(sds, (len(starts), 1)), low, high, residuals)
    each = values.reshape(len(starts), len(sds))
    first, rows = each.argmin(axis=0), np.arange(len(sds))
    best, objective = logs.reshape(len(starts), len(sds), -1)[first, rows], each[first, rows]
    at_bound = ((best - low < 1e-6) | (high - best < 1e-6)).any(axis=1)
    return Fits(shape=shape, parameters=np.exp(best), objective=objective, at_bound=at_bound)


def _starts(shape: Shape, sds: Array, weights: Array) -> list[Array]:
    """Starting logarithms: σ0 from the first dose, σp from the last, τ over a grid."""
    first, last = np.maximum(sds[:, 0], 1e-6), np.maximum(sds[:, -1], 1e-6)
    largest = float(weights.max())
    starts = []
    for tau in largest * np.array([0.05, 0.2, 0.4, 0.8, 3.0]):
        columns = [np.log(first), np.full(len(sds), math.log(tau))]
        if shape == "ushape":
            columns.append(np.log(last / math.sqrt(largest)))
        starts.append(np.column_stack(columns))
    return starts


def _descend(logs: Array, data: Array, low: Array, high: Array, residuals: Residuals) -> tuple[Array, Array]:
    """Damped Gauss-Newton, rows at once; rows that have settled drop out. Returns the logarithms and objectives."""
    logs = logs.copy()
    objective = residuals(logs, data)[2]
    damping = np.full(len(data), 1e-2)
    rows = np.arange(len(data))
    for _ in range(STEPS):
        now = logs[rows]
        miss, slopes, _ = residuals(now, data[rows])
        trial = np.clip(now + _step(now, (miss, slopes), damping[rows], (low, high)), low, high)
        found = residuals(trial, data[rows])[2]
        better = found < objective[rows]
        gain = objective[rows] - found
        logs[rows[better]], objective[rows[better]] = trial[better], found[better]
        damping[rows] = np.where(better, damping[rows] / 5, damping[rows] * 6)
        settled = np.where(better, gain < 1e-13 * (1e-6 + np.abs(found)), damping[rows] > 1e6)
        rows = rows[~settled]
        if rows.size == 0:
            break
    return logs, objective


def _step(logs: Array, system: tuple[Array, Array], damping: Array, box: tuple[Array, Array]) -> Array:
    """One step for each row. A parameter at its bound that wants to leave the box is held, so that others can move."""
    (miss, slopes), (low, high) = system, box
    gradient = np.einsum("rdp,rd->rp", slopes, miss)
    free = ~(((logs <= low) & (gradient < 0)) | ((logs >= high) & (gradient > 0)))
    normal = np.einsum("rdp,rdq->rpq", slopes, slopes) * (free[:, :, None] & free[:, None, :])
    scale = np.einsum("rpp->rp", normal)
    ridge = damping[:, None] * scale + 1e-12 * scale.max(axis=1, keepdims=True) + 1e-300
    normal = normal + np.eye(logs.shape[1]) * np.where(free, ridge, 1.0)[:, :, None]
    return np.clip(np.linalg.solve(normal, (gradient * free)[:, :, None])[:, :, 0], -2, 2)
