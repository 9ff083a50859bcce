"""A value that is not finite is refused at the door of every statistic: no library's silent answer gets through.

What libraries do with one NaN, seen on the versions here: SciPy 1.17.1's `permutation_test` gives p = 0, statsmodels
0.15.0's `multipletests` (fdr_bh) NaN with a rejection, its holm counts the NaN as a test, SALib 1.6.0's Sobol indices
are all 0 with a confidence of 0.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from analysis.gamma.sensitivity import sobol
from analysis.stats import (
    agreement,
    clouds,
    clusters,
    conventional,
    couplings,
    effect_size,
    intervals,
    mixed,
    multiplicity,
    outliers,
    permutation,
    slopes,
    spread,
    trend,
    twoway,
)
from analysis.stats.results import NotFiniteError

RNG = np.random.default_rng(0)
A, B = RNG.normal(0, 1, 6), RNG.normal(0.5, 1, 6)
TABLE = RNG.normal(0, 1, (5, 4))
DOSES = np.array([0.0, 0.1, 0.2, 0.5])


def rng() -> np.random.Generator:
    return np.random.default_rng(1)


STATISTICS: dict[str, tuple[Callable[[np.ndarray], Any], np.ndarray]] = {
    "seed_icc": (agreement.seed_icc, TABLE),
    "principal": (clouds.principal, TABLE),
    "pseudo_fs": (lambda x: clouds.pseudo_fs([clouds.Grouped(points=x, codes=(0, 0, 1, 1, 1))], rng()), TABLE),
    "clustered_error": (lambda x: clusters.clustered_error(x, [0, 0, 1, 1, 2, 2]), A),
    "clustered_mean": (lambda x: clusters.clustered_mean(x, [0, 0, 1, 1, 2, 2]), A),
    "resampled_means": (lambda x: clusters.resampled_means(x, [0, 0, 1, 1], rng(), draws=99), TABLE),
    "conventional": (lambda x: conventional.conventional(dict(enumerate(x)), dict(enumerate(B))), A),
    "coupling_change": (lambda x: couplings.coupling_change(x, TABLE, rng()), TABLE),
    "hedges_g": (lambda x: effect_size.hedges_g(x, B), A),
    "mean_interval": (intervals.mean_interval, A),
    "sd_interval": (intervals.sd_interval, A),
    "sd_ratio_interval": (lambda x: intervals.sd_ratio_interval(x, B), A),
    "paired_sd_ratio_interval": (lambda x: intervals.paired_sd_ratio_interval(x, B), A),
    "welch_difference": (lambda x: intervals.welch_difference(x, B), A),
    "welch_test": (lambda x: intervals.welch_test(x, B), A),
    "balanced_slopes": (lambda x: mixed.balanced_slopes(DOSES, x), TABLE),
    "mixed_slopes": (lambda x: mixed.mixed_slopes(np.tile(DOSES, 5), x.ravel(), np.repeat(np.arange(5), 4)), TABLE),
    "holm": (lambda x: multiplicity.adjust(x, "holm"), np.array([0.01, 0.2, 0.03])),
    "bh": (lambda x: multiplicity.adjust(x, "bh"), np.array([0.01, 0.2, 0.03])),
    "grubbs": (outliers.grubbs, A),
    "left_out_test": (lambda x: outliers.left_out_test(x, 1), A),
    "two_sample_test": (lambda x: permutation.two_sample_test(x, B, rng()), A),
    "sign_flip_test": (lambda x: permutation.sign_flip_test(x, rng()), A),
    "paired_test": (lambda x: permutation.paired_test(x, B, rng()), A),
    "spearman_test": (lambda x: permutation.spearman_test(x, B, rng()), A),
    "fit_line": (lambda x: slopes.fit_line(DOSES, x), np.array([0.1, 0.2, 0.35, 0.7])),
    "seed_slopes": (lambda x: slopes.seed_slopes(DOSES, x), TABLE),
    "slopes_vary": (lambda x: slopes.slopes_vary(DOSES, x), TABLE),
    "slopes_permuted": (lambda x: slopes.slopes_permuted(DOSES, x, rng()), TABLE),
    "slope_test": (lambda x: slopes.slope_test(np.arange(6.0), x, rng()), A),
    "brown_forsythe": (lambda x: spread.brown_forsythe([x, B]), A),
    "each_against_rest": (spread.each_against_rest, TABLE),
    "jonckheere_terpstra": (lambda x: trend.jonckheere_terpstra([x, B, B + 1]), A),
    "tukey_one_df": (twoway.tukey_one_df, TABLE),
    "largest_residual": (twoway.largest_residual, TABLE),
    "largest_of_rows": (twoway.largest_of_rows, TABLE),
    "permuted_columns": (lambda x: twoway.permuted_columns(x[None], rng()), TABLE),
    "sobol": (lambda x: sobol("a model", lambda rows: np.resize(x, len(rows)), {"a": ("norm", 0, 1)}, n=64), A),
}  # fmt: skip


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", STATISTICS)
def test_a_statistic_refuses_what_is_not_finite(name: str, bad: float) -> None:
    statistic, sample = STATISTICS[name]
    statistic(sample.copy())
    spoiled = sample.copy()
    spoiled.flat[spoiled.size // 2] = bad
    with pytest.raises(NotFiniteError, match="NaN or infinity"):
        statistic(spoiled)


def test_a_gap_is_missing_for_correlations_and_infinity_is_refused() -> None:
    gap, rest = TABLE.copy(), np.delete(TABLE, 2, axis=0)
    gap[2, 1] = np.nan
    found, alone = couplings.spearman_pairs(gap, rng()), couplings.spearman_pairs(rest, rng())
    assert (found[0, 1].n, found[0, 1].p) == (4, alone[0, 1].p) and found[0, 2].n == 5
    gap[2, 1] = np.inf
    with pytest.raises(NotFiniteError):
        couplings.spearman_pairs(gap, rng())
