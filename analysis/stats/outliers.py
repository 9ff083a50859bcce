"""Is the most extreme of n values an outlier? Grubbs' test, and leave-one-out t over several samples (max-T)."""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import special

from analysis.stats.batches import by_shape
from analysis.stats.results import Array, Test, as_sample, no_test, still

METHOD = "Grubbs test for one outlier (two-sided, normal data)"
LEFT_OUT = "largest leave-one-out t, max-T over values and samples, normal data"
DRAWS = 99_999


def largest_z(n: int) -> float:
    """What |x - mean| / SD cannot exceed among n values: (n - 1) / sqrt(n), 1.789 for five."""
    return (n - 1) / math.sqrt(n)


def grubbs(values: npt.ArrayLike) -> Test:
    """Grubbs 1950; the statistic is the largest |x - mean| / SD. p is Bonferroni over the n values."""
    return grubbs_each([values])[0]


def grubbs_each(samples: Sequence[npt.ArrayLike]) -> list[Test]:
    """`grubbs` of each sample."""
    found: dict[int, Test] = {}
    for places, stack in by_shape([as_sample(sample) for sample in samples]):
        n = stack.shape[1]
        if n < 3:
            found |= dict.fromkeys(places, no_test("not enough data", METHOD, n))
            continue
        flat = still(stack)
        spread = np.where(flat, 1.0, stack.std(axis=1, ddof=1))
        g = np.abs(stack - stack.mean(axis=1, keepdims=True)).max(axis=1) / spread
        room = (n - 1) ** 2 - n * g**2
        # At the largest possible z the others are all equal, and the t statistic is infinite.
        bounded = room > 1e-12 * n * g**2
        t = np.sqrt(n * (n - 2) * g**2 / np.where(bounded, room, 1.0))
        p = np.where(bounded, np.minimum(1.0, 2 * n * special.stdtr(n - 2, -t)), 0.0)
        for place, constant, statistic, small in zip(places, flat.tolist(), g.tolist(), p.tolist(), strict=True):
            found[place] = (
                no_test("degenerate", METHOD, n) if constant else Test(statistic=statistic, p=small, n=n, method=METHOD)
            )
    return [found[place] for place in range(len(samples))]


def left_out_t(values: Array) -> Array:
    """Each value against the others along the last axis: (x - their mean) / (their SD sqrt(1 + 1 / (n - 1))).

    Student's t with n - 2 degrees of freedom for normal data (the externally studentised residual); infinite where
    the others are all equal.
    """
    n = values.shape[-1]
    centred = values - values.mean(axis=-1, keepdims=True)
    squares = centred**2
    rest = squares.sum(axis=-1, keepdims=True) - squares * n / (n - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        # Differences to the others' mean are n / (n - 1) of those to the mean; tidied, one factor is left.
        t = centred * math.sqrt(n * (n - 2) / (n - 1)) / np.sqrt(np.clip(rest, 0.0, None))
    return np.asarray(np.where(centred == 0, 0.0, t), dtype=np.float64)


def left_out_test(values: npt.ArrayLike, samples: int) -> Test:
    """Is the most deviant of n values apart from the others, when the worst of `samples` such samples was looked for?

    p is the chance that the largest |leave-one-out t| of any value of any sample is as large (max-T; Westfall & Young
    1993), by Monte Carlo with independent normal samples: with correlated ones it is smaller (Sidak 1967).
    """
    return left_out_tests([values], [samples])[0]


def left_out_tests(values: Sequence[npt.ArrayLike], samples: Sequence[int]) -> list[Test]:
    """`left_out_test` of each sample, one of its own number of samples."""
    found: dict[int, Test] = {}
    for places, stack in by_shape([as_sample(sample) for sample in values]):
        n = stack.shape[1]
        if n < 4:
            found |= dict.fromkeys(places, no_test("not enough data", LEFT_OUT, n))
            continue
        null = _null(n)
        seen = np.abs(left_out_t(stack)).max(axis=1)
        below = np.searchsorted(null, seen * (1 - 1e-12)).tolist()
        for place, constant, largest, smaller in zip(places, still(stack).tolist(), seen.tolist(), below, strict=True):
            if constant:
                found[place] = no_test("degenerate", LEFT_OUT, n)
                continue
            among, one = samples[place], (1 + len(null) - smaller) / (1 + len(null))
            # At the largest t the others are all equal: infinite, which is no number for a result.
            found[place] = Test(
                statistic=min(largest, 1e12), n=n, p=-math.expm1(among * math.log1p(-one)) if one < 1 else 1.0,
                p_error=among * (1 - one) ** (among - 1) * math.sqrt(one * (1 - one) / DRAWS),
                method=f"{LEFT_OUT} ({n} values, {among} samples, {DRAWS} Monte Carlo draws)",
            )  # fmt: skip
    return [found[place] for place in range(len(values))]


@lru_cache(maxsize=32)
def _null(n: int) -> Array:
    """Sorted largest |leave-one-out t| of n normal values; the generator is fixed, so that p repeats."""
    rng = np.random.default_rng(n)
    return np.sort(np.abs(left_out_t(rng.standard_normal((DRAWS, n)))).max(axis=1))
