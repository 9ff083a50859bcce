"""The same numbers as pingouin, statsmodels and SciPy, where these offer them."""

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.optimize import isotonic_regression
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

from analysis.anomalies.dose import isotonic, trend_test
from analysis.needed import seeds_for_trend
from analysis.stats.couplings import spearman_pairs
from analysis.stats.effect_size import hedges_correction, hedges_g
from analysis.stats.intervals import mean_interval, welch_test
from analysis.stats.multiplicity import adjust
from analysis.stats.outliers import grubbs
from analysis.stats.rates import mcnemar
from analysis.stats.slopes import equivalent_slopes, fit_line, slope_interval, slope_test
from analysis.stats.spread import brown_forsythe

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import pingouin

values = st.lists(st.floats(-50, 50).map(lambda x: round(x, 3)), min_size=3, max_size=9)


@given(values, values)
@settings(max_examples=30, deadline=None)
def test_effect_sizes_are_pingouins_up_to_its_approximate_correction(a: list[float], b: list[float]) -> None:
    if np.std(a) < 1e-3 or np.std(b) < 1e-3:
        return
    g = hedges_g(a, b).value
    df = len(a) + len(b) - 2
    assert g is not None
    cohen = pingouin.compute_effsize(a, b, eftype="cohen")
    assert g / hedges_correction(df) == pytest.approx(cohen, rel=1e-9, abs=1e-12)
    assert g == pytest.approx(pingouin.compute_effsize(a, b, eftype="hedges"), rel=0.02, abs=1e-12)


def test_welch_is_that_of_pingouin_and_of_statsmodels(rng: np.random.Generator) -> None:
    a, b = rng.normal(0.4, 1, 5), rng.normal(0, 3, 7)
    ours = welch_test(a, b)
    assert ours.effect is not None
    theirs = pingouin.ttest(a, b, correction=True)
    assert ours.statistic == pytest.approx(float(theirs["T"].iloc[0]))
    column = next(name for name in theirs.columns if name.replace("_", "-") == "p-val")
    assert ours.p == pytest.approx(float(theirs[column].iloc[0]))
    means = CompareMeans(DescrStatsW(a), DescrStatsW(b))
    assert (ours.effect.low, ours.effect.high) == pytest.approx(means.tconfint_diff(usevar="unequal"))
    frame = pd.DataFrame({"y": [*a, *b], "g": ["a"] * 5 + ["b"] * 7})
    anova = pingouin.welch_anova(frame, dv="y", between="g")
    assert (ours.statistic or 0) ** 2 == pytest.approx(float(anova["F"].iloc[0]))
    single = mean_interval(a)
    assert (single.low, single.high) == pytest.approx(DescrStatsW(a).tconfint_mean())


def test_all_pairs_corrected_together_are_pingouins(rng: np.random.Generator) -> None:
    groups = {name: rng.normal(shift, 1, 6) for name, shift in (("a", 0), ("b", 1), ("c", 2.5))}
    frame = pd.DataFrame([(name, x) for name, sample in groups.items() for x in sample], columns=["g", "y"])
    pairs = [("a", "b"), ("a", "c"), ("b", "c")]
    p = [welch_test(groups[a], groups[b]).p for a, b in pairs]
    for ours, theirs in (("holm", "holm"), ("bh", "fdr_bh")):
        found = pingouin.pairwise_tests(frame, dv="y", between="g", padjust=theirs, correction=True)
        column = next(name for name in found.columns if name.lower().replace("_", "-").startswith("p-corr"))
        assert adjust(p, ours) == pytest.approx(found[column].to_numpy(dtype=float))  # type: ignore[arg-type]
        assert adjust(p, ours) == pytest.approx(pingouin.multicomp(p, method=theirs)[1])  # type: ignore[arg-type]
        assert adjust(p, ours) == pytest.approx(multipletests(p, method=theirs)[1])  # type: ignore[arg-type]


def test_equal_variances_are_tested_as_pingouin_does(rng: np.random.Generator) -> None:
    frame = pd.DataFrame({"y": rng.normal(size=15) * np.repeat([1, 2, 4], 5), "g": np.repeat(["a", "b", "c"], 5)})
    theirs = pingouin.homoscedasticity(frame, dv="y", group="g", method="levene", center="median")
    ours = brown_forsythe([part["y"].to_numpy() for _, part in frame.groupby("g")])
    assert ours.statistic == pytest.approx(float(theirs["W"].iloc[0]))
    assert ours.p == pytest.approx(float(theirs["pval"].iloc[0]))


def test_mcnemar_is_that_of_statsmodels() -> None:
    for only_a, only_b in ((0, 6), (3, 4), (12, 2)):
        theirs = statsmodels_mcnemar([[5, only_a], [only_b, 9]], exact=True)
        assert mcnemar(only_a, only_b).p == pytest.approx(theirs.pvalue)


def test_correlations_are_pingouins_and_their_p_that_of_scipys_permutations(rng: np.random.Generator) -> None:
    table = rng.normal(size=(6, 3))
    for (i, j), test in spearman_pairs(table, rng).items():
        x, y = table[:, i], table[:, j]
        assert test.statistic == pytest.approx(float(pingouin.corr(x, y, method="spearman")["r"].iloc[0]))
        exact = stats.permutation_test(
            (x,), lambda a, y=y: stats.spearmanr(a, y).statistic, permutation_type="pairings", n_resamples=np.inf
        )
        assert test.p == pytest.approx(exact.pvalue)


def test_a_slope_and_its_permutation_p(rng: np.random.Generator) -> None:
    x, y = rng.normal(size=6), rng.normal(size=6)
    theirs = stats.linregress(x, y)
    ours = slope_interval(fit_line(x, y))
    assert ours.value == pytest.approx(theirs.slope)
    assert (ours.high or 0) - theirs.slope == pytest.approx(stats.t.ppf(0.975, 4) * theirs.stderr)
    exact = stats.permutation_test(
        (x,), lambda a: abs(float(np.cov(a, y)[0, 1])), permutation_type="pairings", n_resamples=np.inf,
        alternative="greater",
    )  # fmt: skip
    assert slope_test(x, y, rng).p == pytest.approx(exact.pvalue)


def test_monotone_fits_are_scipys(rng: np.random.Generator) -> None:
    means, weights = np.sort(rng.normal(size=7)) + rng.normal(0, 0.5, 7), rng.integers(1, 6, 7).astype(float)
    rising = isotonic_regression(means, weights=weights).x
    falling = isotonic_regression(means, weights=weights, increasing=False).x
    best = min((rising, falling), key=lambda fit: float((weights * (means - fit) ** 2).sum()))
    assert isotonic(means, weights) == pytest.approx(best)


def test_equivalence_of_slopes_holds_its_level_at_the_edge(rng: np.random.Generator) -> None:
    # True ratio exactly 1.15: at most 5 % may be called equivalent; true ratio 1: most are, with little noise.
    x = np.tile([0.0, 0.1, 0.2, 0.5], 5)
    called = {1.0: 0, 1.15: 0}
    for ratio in called:
        for _ in range(300):
            lines = [fit_line(x, s * x + rng.normal(0, 0.05, 20)) for s in (2 * ratio, 2.0)]
            assert lines[0] is not None and lines[1] is not None
            called[ratio] += (equivalent_slopes(*lines).p or 1.0) <= 0.05  # type: ignore[arg-type]
    assert called[1.15] <= 28  # binomial(300, .05): more than 28 has probability .0006
    assert called[1.0] >= 200


def test_grubbs_is_the_t_of_the_deviant_against_the_rest(rng: np.random.Generator) -> None:
    sample = np.append(rng.normal(size=7), 4.0)
    rest = sample[:-1]
    # The two-sample t test with pooled variance, one value on one side.
    t = stats.ttest_ind([4.0], rest).statistic
    assert grubbs(sample).p == pytest.approx(min(1.0, 2 * 8 * stats.t.sf(t, 6)))


@pytest.mark.parametrize(("doses", "level"), [(2, 0.05), (2, 0.001), (3, 0.01), (4, 0.05)])
def test_seeds_a_trend_needs_reach_the_level_and_one_fewer_does_not(doses: int, level: float) -> None:
    rng = np.random.default_rng(0)
    n = seeds_for_trend(doses, level)

    def best(seeds: int) -> float:
        rising = [np.arange(seeds) + 100.0 * k + 0.1 * k * np.arange(seeds) for k in range(doses)]
        return trend_test(rising, rng).p or 1.0

    assert best(n) <= level * (1 + 1e-9)
    if n > 2:
        assert best(n - 1) > level
