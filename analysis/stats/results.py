"""What a statistical function returns: an `Estimate`, a `Test` or a `RatioSet`; never a bare NaN.

Data that cannot answer are a value with a status, not an exception:

- "ok": all fields that the method defines are set;
- "degenerate": there is no variation to work with (zero variance, a denominator that is exactly zero);
- "not enough data": too few values for the method.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Status = Literal["ok", "degenerate", "not enough data"]
_EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """A number with its interval. `low` and `high` are None where the data give no interval."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    """Values that went in, over all groups."""
    method: str
    level: float = 0.95
    """Nominal coverage of the interval."""
    status: Status = "ok"


@dataclass(frozen=True, kw_only=True, slots=True)
class Test:
    """A two-sided test unless the method says otherwise. `p` is None unless the status is "ok"."""

    __test__ = False  # not a test case, whatever its name says to pytest

    statistic: float | None
    p: float | None
    n: int
    method: str
    p_adjusted: float | None = None
    effect: Estimate | None = None
    floor: float | None = None
    """Smallest p that this test could have reached with this many values (and these ties)."""
    p_error: float | None = None
    """Standard error of a Monte Carlo p; None where the p is exact or from a formula."""
    status: Status = "ok"


@dataclass(frozen=True, kw_only=True, slots=True)
class RatioSet:
    """The values of a ratio that the data do not reject: not always an interval.

    bounded: [low, high]; unbounded: everything outside (low, high), where None means that this side is
    empty; whole line: nothing is rejected, low and high are None.
    """

    value: float | None
    kind: Literal["bounded", "unbounded", "whole line"]
    low: float | None
    high: float | None
    method: str
    level: float = 0.95
    status: Status = "ok"


def as_sample(values: npt.ArrayLike) -> Array:
    """A one-dimensional float64 array; NotFiniteError if a value is NaN or infinite (absent data have no row)."""
    return finite(np.asarray(values, dtype=np.float64).reshape(-1))


class NotFiniteError(ValueError):
    """Values that no statistic can be made of."""


def finite(values: Array, what: str = "a sample") -> Array:
    """The values, all of which are numbers; NotFiniteError otherwise. The door to every statistic, ours or a library's.

    One NaN makes SciPy's permutation p 0, statsmodels' corrections reject, and SALib's indices all 0.
    """
    if not np.isfinite(values).all():
        raise NotFiniteError(f"{what} holds NaN or infinity; leave missing values out")
    return values


def is_constant(sample: Array) -> bool:
    """True where all values are equal up to rounding (64 units in the last place of the largest)."""
    return sample.size == 0 or bool(still(sample.ravel()))


def still(samples: Array) -> npt.NDArray[np.bool_]:
    """`is_constant` of each sample along the last axis, which has values."""
    return np.asarray(np.ptp(samples, axis=-1) <= 64 * _EPS * np.abs(samples).max(axis=-1))


def average_ranks(sample: Array) -> Array:
    """Ranks from 1; equal values share the mean of their ranks."""
    _, inverse, counts = np.unique(sample, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[inverse], dtype=np.float64)


def no_estimate(status: Status, method: str, n: int, *, value: float | None = None, level: float = 0.95) -> Estimate:
    """An estimate without an interval, and with the reason as its status."""
    return Estimate(value=value, low=None, high=None, n=n, method=method, level=level, status=status)


def no_test(status: Status, method: str, n: int, **known: Any) -> Test:
    """A test that could not be carried out, with the reason as its status."""
    return Test(statistic=None, p=None, n=n, method=method, status=status, **known)
