"""Group-sequential t tests of a mean whose variance is unknown: boundaries that hold at three values.

Under a mean of 0 the direction of the data vector is uniform on the sphere whatever the variance, so the joint law of
the t statistics at successive looks has no parameter. Boundaries are quantiles of that law, over a fixed set of random
directions (2^20, the seed is `PATH_SEED`): the normal approximation, and the normal boundaries' significance levels
looked up in t tables, are not used. At the first look, and where a look's share of the level is too small for the
directions, the boundary is the exact t quantile of that share, which can only be too wide.

Spending functions: Lan & DeMets 1983 (Biometrika 70, 659-663).
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import special

from analysis.stats.results import Array

Spending = Literal["obrien-fleming", "pocock"]
SPENDINGS: tuple[Spending, ...] = ("obrien-fleming", "pocock")
PATHS = 1 << 19
"""Random directions; each is used with its opposite."""
PATH_SEED = 20_261_201
FEWEST = 200
"""Paths that a look's share must amount to, or the exact quantile of the share alone is taken."""
LEAST_LEVEL = 1e-9
"""Sequential p values are not followed below this."""


def spent(spending: Spending, fraction: npt.ArrayLike, level: float) -> Array:
    """Share of a one-sided `level` that may be spent when this fraction of the values is there (Lan & DeMets 1983).

    `obrien-fleming`: 2 - 2 Φ(z(level / 2) / √t); `pocock`: level ln(1 + (e - 1) t).
    """
    t = np.asarray(fraction, dtype=np.float64)
    if spending == "pocock":
        return np.asarray(level * np.log1p((math.e - 1) * t))
    return np.asarray(2 * special.ndtr(special.ndtri(level / 2) / np.sqrt(t)))


@dataclass(frozen=True, kw_only=True)
class GroupSequential:
    """Planned looks after so many values, and how the level is spent over them."""

    looks: tuple[int, ...]
    """Numbers of values, rising; the last is the most that there will be."""
    spending: Spending = "pocock"

    def __post_init__(self) -> None:
        if len(self.looks) < 2:
            raise ValueError("a spending rule needs at least two looks")
        if self.looks[0] < 2 or any(b <= a for a, b in zip(self.looks, self.looks[1:], strict=False)):
            raise ValueError("looks must rise and start at two values or more")

    def critical(self, level: float) -> Array:
        """Boundaries of t, one a look: crossed at any look with probability `level` where the mean is 0 (one-sided)."""
        return _boundaries(self.looks, self.spending, float(level), math.inf)

    def critical_binding(self, level: float) -> Array:
        """As `critical`, for those who do stop at the second look or later once t is at most 0: a little lower."""
        return _boundaries(self.looks, self.spending, float(level), 0.0)

    def at(self, n: int) -> int:
        """Place of the look after n values; ValueError where none is planned."""
        return self.looks.index(n)


@lru_cache(maxsize=3)
def null_paths(looks: tuple[int, ...]) -> Array:
    """t statistics at the looks of data without an effect: paths x looks, both signs of each direction."""
    rng = np.random.default_rng([PATH_SEED, *looks])
    total, squares = np.zeros(PATHS), np.zeros(PATHS)
    t = np.empty((2 * PATHS, len(looks)), order="F")
    before = 0
    for k, n in enumerate(looks):
        more = n - before
        z = rng.standard_normal(PATHS)
        total += math.sqrt(more) * z
        squares += z * z
        if more > 1:
            squares += rng.chisquare(more - 1, PATHS)
        t[:PATHS, k] = total / np.sqrt(n * (squares - total * total / n) / (n - 1))
        before = n
    t[PATHS:] = -t[:PATHS]
    return t


def crossing(looks: tuple[int, ...], bounds: npt.ArrayLike) -> float:
    """Probability that t reaches its bound at one of the looks, where the mean is 0."""
    return float((null_paths(looks) >= np.asarray(bounds, dtype=np.float64)).any(axis=1).mean())


@lru_cache(maxsize=512)
def _boundaries(looks: tuple[int, ...], spending: Spending, level: float, futile: float) -> Array:
    shares = np.diff(spent(spending, np.array(looks) / looks[-1], level), prepend=0.0)
    bounds = -special.stdtrit(np.array(looks) - 1, shares)
    if 2 * PATHS * shares.max(initial=0.0, where=np.arange(len(looks)) > 0) < FEWEST:
        return np.asarray(bounds)
    paths = null_paths(looks)
    going = paths[:, 0] < bounds[0]
    for k in range(1, len(looks)):
        wanted = round(2 * PATHS * shares[k])
        here = paths[going, k]
        if FEWEST <= wanted < here.size:
            bounds[k] = np.partition(here, here.size - wanted)[here.size - wanted]
        going &= paths[:, k] < bounds[k]
        if math.isfinite(futile):
            going &= paths[:, k] > futile
    return np.asarray(bounds)


def sequential_p(rule: GroupSequential, t: npt.ArrayLike) -> float:
    """Smallest one-sided level whose boundaries these t statistics, of the looks so far, have reached; 1 if none.

    Valid at every look: of data without an effect it ever falls to p with probability at most p. A look whose t is
    NaN (data without variation) counts for nothing.
    """
    seen = np.asarray(t, dtype=np.float64)

    def reached(level: float) -> bool:
        return bool((seen >= rule.critical(level)[: seen.size]).any())

    high, low = 1.0 - 1e-9, LEAST_LEVEL
    for level in (0.2, 0.05, 0.01, 1e-3, 1e-5, LEAST_LEVEL):
        if not reached(level):
            low = level
            break
        high = level
    else:
        return LEAST_LEVEL
    if high > 0.5 and not reached(0.5):
        return 1.0
    for _ in range(12):
        middle = math.sqrt(high * low)
        high, low = (middle, low) if reached(middle) else (high, middle)
    return high
