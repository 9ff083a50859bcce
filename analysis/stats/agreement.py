"""Do seeds carry an effect of their own, so that values of one seed belong together across strata?"""

from scipy import special

from analysis.stats.results import Array, Estimate, Test, is_constant, no_test
from analysis.stats.twoway import additive

METHOD = "F test of the seeds after stratum effects; intraclass correlation ICC(3,1), Shrout & Fleiss 1979"


def seed_icc(table: Array, *, level: float = 0.95) -> Test:
    """Intraclass correlation of the seeds (columns) over strata (rows) of one value a cell, as the effect of an F test.

    The statistic is F(seeds - 1, (seeds - 1)(strata - 1)); the test is one-sided. A negative ICC: values of one seed
    are less alike than chance. At least two strata and three seeds.
    """
    strata, seeds = table.shape
    if strata < 2 or seeds < 3:
        return no_test("not enough data", METHOD, table.size)
    fit = additive(table)
    # Without variation the two mean squares have nothing to divide by.
    if is_constant(table.ravel()) or fit.ss <= 1e-24 * float((table**2).sum()):
        return no_test("degenerate", METHOD, table.size)
    ms_rest = fit.ss / fit.df
    f = strata * float((fit.columns**2).sum()) / (seeds - 1) / ms_rest
    tail = (1 - level) / 2
    ends = (f / special.fdtri(seeds - 1, fit.df, 1 - tail), f * special.fdtri(fit.df, seeds - 1, 1 - tail))
    value, low, high = ((x - 1) / (x + strata - 1) for x in (f, *map(float, ends)))
    return Test(
        statistic=f, p=float(special.fdtrc(seeds - 1, fit.df, f)), n=table.size, method=METHOD,
        effect=Estimate(value=value, low=low, high=high, n=table.size, method="ICC(3,1)", level=level),
    )  # fmt: skip
