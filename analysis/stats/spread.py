"""Do groups spread alike? Brown-Forsythe test of equal variances."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import special

from analysis.stats.results import Test, as_sample, is_constant, no_test

METHOD = "Brown-Forsythe test of equal variances (Levene's test on deviations from the median)"


def brown_forsythe(groups: Sequence[npt.ArrayLike]) -> Test:
    """F test on |x - median of its group| (Brown & Forsythe 1974); needs two groups of two or more values."""
    samples = [as_sample(group) for group in groups]
    n = sum(sample.size for sample in samples)
    if len(samples) < 2 or min(sample.size for sample in samples) < 2:
        return no_test("not enough data", METHOD, n)
    deviations = [np.abs(sample - np.median(sample)) for sample in samples]
    # Without variation of the deviations inside the groups, the F ratio has nothing to divide by.
    if all(is_constant(deviation) for deviation in deviations):
        return no_test("degenerate", METHOD, n)
    df_between, df_within = len(samples) - 1, n - len(samples)
    grand = np.concatenate(deviations).mean()
    between = sum(z.size * float(z.mean() - grand) ** 2 for z in deviations) / df_between
    within = sum(float(((z - z.mean()) ** 2).sum()) for z in deviations) / df_within
    f = between / within
    p = float(special.fdtrc(df_between, df_within, f))
    return Test(statistic=f, p=p, n=n, method=METHOD)
