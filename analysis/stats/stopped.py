"""Estimates of a mean after a sequential test has stopped: median-unbiased, with an interval that knows of the looks.

p(μ) is the probability, under a mean μ, of an outcome at least as far up as the one seen, in the stage-wise order
(Fairbanks & Madsen 1982; Tsiatis, Rosner & Mehta 1984): an earlier stop above an edge is further up than anything
later, an earlier stop below one further down; outcomes of one look are ordered by what they showed, then by t against
μ. The estimate solves p(μ) = 1/2, the interval p(μ) = (1 ∓ level) / 2. σ is unknown: it is taken as √(Σ(x - μ)² / n),
its likeliest value under that μ. (Taking p given Σ(x - μ)² instead is exact at one look but not over several, since
whether a study stops early depends on that sum: it covered 91 to 94 % where this covers 94 to 97 %.)
"""

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from analysis.stats.decisions import DOWN, OPEN, UP, WITHIN, Bounds
from analysis.stats.intervals import mean_interval, t_quantile
from analysis.stats.results import Array, Estimate, as_sample, is_constant

METHOD = "median-unbiased after stopping, stage-wise order (normal data)"
PATHS = 20_000
PATH_SEED = 20_261_202
STEPS = 25
"""Halvings of the range in which a limit is looked for: far below the error of the paths."""


@lru_cache(maxsize=64)
def _paths(looks: tuple[int, ...], count: int) -> tuple[Array, Array]:
    """Sums and sums of squares at each look of standard normal values; both signs of each path."""
    rng = np.random.default_rng([PATH_SEED, *looks])
    more = np.diff(looks, prepend=0)
    z = rng.standard_normal((count // 2, len(looks)))
    squares = z * z
    for k, m in enumerate(more):
        if m > 1:
            squares[:, k] += rng.chisquare(m - 1, count // 2)
    total, squares = np.cumsum(z * np.sqrt(more), axis=1), np.cumsum(squares, axis=1)
    return np.concatenate([total, -total]), np.concatenate([squares, squares])


def share_above(mean: float, sample: Array, bounds: Bounds, looks: tuple[int, ...], *, paths: int = PATHS) -> float:
    """p(μ) for μ = `mean`: the sample stopped, or ended, at the last of `looks`."""
    totals, squares = _paths(looks, paths)
    sigma = math.sqrt(float(((sample - mean) ** 2).mean()))
    seen, se = float(sample.mean()), float(sample.std(ddof=1)) / math.sqrt(sample.size)
    above, going = 0, np.ones(paths, dtype=bool)
    for k, n in enumerate(looks):
        means = mean + sigma * totals[:, k] / n
        spread = np.maximum(squares[:, k] - totals[:, k] ** 2 / n, 0.0)
        errors = sigma * np.sqrt(spread / (n * (n - 1)))
        shown = bounds.outcome(k, means, errors)
        if k < len(looks) - 1:
            above += int((going & ((shown == UP) | ((shown == WITHIN) & (means >= seen)))).sum())
            going &= shown == OPEN
    last = len(looks) - 1
    own, places = _height(bounds.outcome(last, seen, se)), _height(shown)
    further = (places > own) | ((places == own) & ((means - mean) * se >= (seen - mean) * errors))
    return (above + int((going & further).sum())) / paths


def _height(shown: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
    """What a look showed, from below to above; inside the margins is neither."""
    return np.where(shown == WITHIN, OPEN, np.where(shown == UP, 1, np.where(shown == DOWN, -1, 0))).astype(np.int8)


def stopped_estimate(values: npt.ArrayLike, bounds: Bounds, looks: tuple[int, ...], *, level: float = 0.95) -> Estimate:
    """Median-unbiased mean with interval; `looks` are those that were made, the last one after all the values.

    Raises ValueError where the last look is not after all values.
    """
    sample = as_sample(values)
    if sample.size != looks[-1]:
        raise ValueError("the last look is the one after all values")
    plain = mean_interval(sample, level=level)
    if plain.status != "ok" or is_constant(sample):
        return plain
    centre, se = float(sample.mean()), float(sample.std(ddof=1)) / math.sqrt(sample.size)
    reach = 3 * t_quantile(looks[0] - 1, max(level, 0.95)) * se

    def solve(wanted: float) -> float:
        low, high = centre - reach, centre + reach
        for _ in range(STEPS):
            middle = (low + high) / 2
            below = share_above(middle, sample, bounds, looks) < wanted
            low, high = (middle, high) if below else (low, middle)
        return (low + high) / 2

    tail = (1 - level) / 2
    value, low, high = solve(0.5), solve(tail), solve(1 - tail)
    return Estimate(value=value, low=low, high=high, n=sample.size, method=METHOD, level=level)
