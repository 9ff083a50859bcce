"""The variance over seeds as a function of λ: σ²(λ) = σ0² exp(-2λ/τ) + σp² λ, fitted to many sets of SDs at once.

Two ways to fit: least squares on σ inside bounds (the notes), and maximum likelihood for variances of normal
samples, (n - 1) s² / σ² ~ χ²(n - 1). Both are damped Gauss-Newton iterations in the logarithms of the parameters,
started from a grid of τ, vectorised over sets of SDs: thousands of refits take a second. Inside the iterations the sets
are the last axis (parameters x sets, doses x sets), so that every operation runs over thousands of numbers at once.
"""

import math
from collections.abc import Callable, Sequence
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
        return np.sqrt(variance(self.shape, np.log(self.parameters.T), weights)[0].T)

    def optimum(self) -> Array:
        """λ* of every row (U-shape only); 0 where σ grows from λ = 0 on."""
        s0, tau, sp = self.parameters.T
        return optimal_weight(s0, tau, sp)


def optimal_weight(s0: Array | float, tau: Array | float, sp: Array | float) -> Array:
    """λ* = τ/2 ln(2 σ0² / (τ σp²)), where dσ²/dλ = 0; 0 where the minimum lies at λ = 0."""
    with np.errstate(divide="ignore", over="ignore"):
        star = np.asarray(tau) / 2 * np.log(2 * np.asarray(s0) ** 2 / (np.asarray(tau) * np.asarray(sp) ** 2))
    return np.asarray(np.maximum(star, 0.0), dtype=np.float64)


def variance(shape: Shape, logs: Array, weights: Array) -> tuple[Array, list[Array]]:
    """σ² (doses x sets) and its derivative by the logarithm of each parameter, from logarithms (parameters x sets)."""
    start, doses = np.exp(2 * logs[0]), weights[:, None]
    if shape == "constant":
        value = np.broadcast_to(start, (weights.size, start.size)).copy()
        return value, [2 * value]
    tau = np.exp(logs[1])
    decay = start * np.exp(-2 * doses / tau)
    slopes = [2 * decay, decay * 2 * doses / tau]
    if shape == "decay":
        return decay, slopes
    growth = np.exp(2 * logs[2]) * doses
    return decay + growth, [*slopes, 2 * growth]


def least_squares(sds: Array, weights: Array, bounds: Bounds) -> Fits:
    """U-shapes through rows of SDs by least squares on σ inside the bounds of σ0, τ, σp."""

    def residuals(logs: Array, data: Array) -> Residuals:
        value, slopes = variance("ushape", logs, weights)
        sigma = np.sqrt(value)
        miss, twice = data - sigma, 2 * sigma
        return miss, [slope / twice for slope in slopes], (miss**2).sum(axis=0)

    return _fit("ushape", sds, weights, bounds, residuals)


def likelihoods(sds: Array, sizes: Array, weights: Array) -> dict[Shape, Fits]:
    """Maximum likelihood of each shape for SDs of `sizes` normal values each; objective is -2 ln L.

    A shape is never worse than the one nested in it: where the search ends above that, its edge is taken.
    """
    df = sizes - 1.0
    pooled = np.sqrt(sds**2 @ df / df.sum())
    found: dict[Shape, Fits] = {
        "constant": Fits(
            shape="constant", parameters=pooled[:, None], objective=df.sum() * (2 * np.log(pooled) + 1),
            at_bound=np.zeros(len(sds), dtype=np.bool_),
        )
    }  # fmt: skip
    for shape, (nested, edge) in NESTED.items():
        on_edge = np.column_stack([found[nested].parameters, np.full(len(sds), edge)])
        found[shape] = _likelihood(shape, sds, df, weights, on_edge, found[nested].objective)
    return found


def _likelihood(shape: Shape, sds: Array, df: Array, weights: Array, on_edge: Array, simple: Array) -> Fits:
    """One shape; `on_edge` and `simple` are parameters and objective where it becomes the one nested in it."""
    df, root = df[:, None], np.sqrt(df / 2)[:, None]

    def residuals(logs: Array, data: Array) -> Residuals:
        value, slopes = variance(shape, logs, weights)
        value = np.maximum(value, 1e-300)
        square = data**2
        objective = (df * (np.log(value) + square / value)).sum(axis=0)
        return root * (square - value) / value, [root * slope / value for slope in slopes], objective

    fit = _fit(shape, sds, weights, FREE[: PARAMETERS[shape]], residuals)
    worse = fit.objective > simple
    return Fits(
        shape=shape,
        parameters=np.where(worse[:, None], on_edge, fit.parameters),
        objective=np.minimum(fit.objective, simple),
        at_bound=fit.at_bound | worse,
    )


Residuals = tuple[Array, list[Array], Array]
"""Residuals (doses x sets), minus their derivatives by each parameter (doses x sets), objective (sets)."""


def _fit(
    shape: Shape, sds: Array, weights: Array, bounds: Bounds, residuals: Callable[[Array, Array], Residuals]
) -> Fits:
    """The best of several starts for every row of SDs. `residuals` takes logarithms and data, sets last."""
    low, high = np.log(np.array(bounds))[:, :, None].transpose(1, 0, 2)
    data = np.ascontiguousarray(np.atleast_2d(sds).T)
    sets = data.shape[1]
    starts = _starts(shape, data, weights)
    # All starts at once: the last sets to settle would otherwise be waited for once a start.
    given = np.clip(np.concatenate(starts, axis=1), low, high)
    logs, values = _descend(given, np.tile(data, len(starts)), (low, high), residuals)
    each = values.reshape(len(starts), sets)
    first, column = each.argmin(axis=0), np.arange(sets)
    best, objective = logs.reshape(-1, len(starts), sets)[:, first, column], each[first, column]
    at_bound = ((best - low < 1e-6) | (high - best < 1e-6)).any(axis=0)
    return Fits(shape=shape, parameters=np.exp(best).T, objective=objective, at_bound=at_bound)


def _starts(shape: Shape, data: Array, weights: Array) -> list[Array]:
    """Starting logarithms: σ0 from the first dose, σp from the last, τ over a grid."""
    first, last = np.maximum(data[0], 1e-6), np.maximum(data[-1], 1e-6)
    largest = float(weights.max())
    starts = []
    for tau in largest * np.array([0.05, 0.2, 0.4, 0.8, 3.0]):
        rows = [np.log(first), np.full(len(first), math.log(tau))]
        if shape == "ushape":
            rows.append(np.log(last / math.sqrt(largest)))
        starts.append(np.stack(rows))
    return starts


Box = tuple[Array, Array]
"""Lowest and highest logarithm of each parameter: parameters x 1."""


def _descend(logs: Array, data: Array, box: Box, residuals: Callable[[Array, Array], Residuals]) -> tuple[Array, Array]:
    """Damped Gauss-Newton, sets at once; those that have settled drop out. Returns the logarithms and objectives."""
    ended, objective = logs.copy(), np.empty(data.shape[1])
    which, damping = np.arange(data.shape[1]), np.full(data.shape[1], 1e-2)
    miss, slopes, best = residuals(logs, data)
    for _ in range(STEPS):
        trial = np.clip(logs + _step(logs, (miss, slopes), damping, box), *box)
        new_miss, new_slopes, found = residuals(trial, data)
        better = found < best
        gain = best - found
        damping = np.where(better, damping / 5, damping * 6)
        settled = np.where(better, gain < 1e-13 * (1e-6 + np.abs(found)), damping > 1e6)
        # What was computed at an accepted trial is where its set stands next.
        logs, best = np.where(better, trial, logs), np.where(better, found, best)
        miss = np.where(better, new_miss, miss)
        slopes = [np.where(better, new, old) for new, old in zip(new_slopes, slopes, strict=True)]
        if settled.any():
            ended[:, which[settled]], objective[which[settled]] = logs[:, settled], best[settled]
            on = ~settled
            which, logs, best, damping = which[on], logs[:, on], best[on], damping[on]
            data, miss, slopes = data[:, on], miss[:, on], [slope[:, on] for slope in slopes]
        if which.size == 0:
            break
    ended[:, which], objective[which] = logs, best
    return ended, objective


def _step(logs: Array, system: tuple[Array, Sequence[Array]], damping: Array, box: Box) -> Array:
    """One step for each set. A parameter at its bound that wants to leave the box is held, so that others can move."""
    (miss, slopes), (low, high) = system, box
    count = len(slopes)
    gradient = np.stack([(slope * miss).sum(axis=0) for slope in slopes])
    free = ~(((logs <= low) & (gradient < 0)) | ((logs >= high) & (gradient > 0)))
    normal = np.empty((miss.shape[1], count, count))
    for p in range(count):
        for q in range(p + 1):
            normal[:, p, q] = normal[:, q, p] = (slopes[p] * slopes[q]).sum(axis=0) * (free[p] & free[q])
    scale = normal.diagonal(axis1=1, axis2=2).T.copy()
    ridge = damping * scale + 1e-12 * scale.max(axis=0) + 1e-300
    normal[:, range(count), range(count)] += np.where(free, ridge, 1.0).T
    return np.clip(np.linalg.solve(normal, (gradient * free).T[:, :, None])[:, :, 0].T, -2, 2)
