"""Is the most extreme of n values an outlier? Grubbs' test."""

import math

import numpy as np
import numpy.typing as npt
from scipy import special

from analysis.stats.results import Test, as_sample, is_constant, no_test

METHOD = "Grubbs test for one outlier (two-sided, normal data)"


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
