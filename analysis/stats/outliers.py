"""Is the most extreme of n values an outlier? Grubbs' test, and leave-one-out t over several samples (max-T)."""

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import special

from analysis.stats.results import Array, Test, as_sample, is_constant, no_test

METHOD = "Grubbs test for one outlier (two-sided, normal data)"
LEFT_OUT = "largest leave-one-out t, max-T over values and samples, normal data"
DRAWS = 99_999


def largest_z(n: int) -> float:
    """What |x - mean| / SD cannot exceed among n values: (n - 1) / sqrt(n), 1.789 for five."""
    return (n - 1) / math.sqrt(n)


def grubbs(values: npt.ArrayLike) -> Test:
    """Grubbs 1950; the statistic is the largest |x - mean| / SD. p is Bonferroni over the n values."""
    sample = as_sample(values)
    n = sample.size
    if n < 3:
        return no_test("not enough data", METHOD, n)
    if is_constant(sample):
        return no_test("degenerate", METHOD, n)
    g = float(np.abs(sample - sample.mean()).max() / sample.std(ddof=1))
    room = (n - 1) ** 2 - n * g * g
    # At the largest possible z the others are all equal, and the t statistic is infinite.
    t = math.sqrt(n * (n - 2) * g * g / room) if room > 1e-12 * n * g * g else math.inf
    p = 0.0 if math.isinf(t) else min(1.0, 2 * n * float(special.stdtr(n - 2, -t)))
    return Test(statistic=g, p=p, n=n, method=METHOD)


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
    sample = as_sample(values)
    n = sample.size
    if n < 4:
        return no_test("not enough data", LEFT_OUT, n)
    if is_constant(sample):
        return no_test("degenerate", LEFT_OUT, n)
    seen = float(np.abs(left_out_t(sample)).max())
    null = _null(n)
    one = (1 + len(null) - int(np.searchsorted(null, seen * (1 - 1e-12)))) / (1 + len(null))
    p = -math.expm1(samples * math.log1p(-one)) if one < 1 else 1.0
    error = samples * (1 - one) ** (samples - 1) * math.sqrt(one * (1 - one) / DRAWS)
    # At the largest t the others are all equal: infinite, which is no number for a result.
    return Test(
        statistic=min(seen, 1e12), p=p, n=n, p_error=error,
        method=f"{LEFT_OUT} ({n} values, {samples} samples, {DRAWS} Monte Carlo draws)",
    )  # fmt: skip


@lru_cache(maxsize=32)
def _null(n: int) -> Array:
    """Sorted largest |leave-one-out t| of n normal values; the generator is fixed, so that p repeats."""
    rng = np.random.default_rng(n)
    return np.sort(np.abs(left_out_t(rng.standard_normal((DRAWS, n)))).max(axis=1))
