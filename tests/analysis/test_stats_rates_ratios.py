"""Rates, ratios, corrections, spread, trend and outliers: against SciPy, statsmodels and reference numbers."""

import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from analysis.stats.multiplicity import Correction, adjust
from analysis.stats.outliers import grubbs, largest_z
from analysis.stats.rates import mcnemar, newcombe, wilson
from analysis.stats.ratios import fieller, fieller_welch
from analysis.stats.results import RatioSet
from analysis.stats.spread import brown_forsythe
from analysis.stats.trend import jonckheere_terpstra


@given(st.integers(0, 60), st.integers(1, 60))
@settings(max_examples=60, deadline=None)
def test_wilson_agrees_with_statsmodels(k: int, n: int) -> None:
    k = min(k, n)
    ours = wilson(k, n)
    assert ours.low is not None and ours.high is not None
    assert (ours.low, ours.high) == pytest.approx(proportion_confint(k, n, method="wilson"), abs=1e-12)
    assert 0 <= ours.low <= k / n <= ours.high <= 1


def test_rates_equal_the_reference() -> None:
    assert wilson(17, 25).low == pytest.approx(0.4841026927310224)
    assert wilson(0, 15).high == pytest.approx(0.20388330103584867)
    contrast = newcombe(20, 25, 17, 25)
    assert contrast.value == pytest.approx(0.12)
    assert (contrast.low, contrast.high) == pytest.approx((-0.12184285308783172, 0.3453539712257718))
    assert (contrast.low, contrast.high) == pytest.approx(confint_proportions_2indep(20, 25, 17, 25, method="newcomb"))
    assert mcnemar(0, 3).p == pytest.approx(0.25)
    assert mcnemar(1, 4).p == pytest.approx(0.375)
    assert mcnemar(2, 4).p == pytest.approx(0.6875)
    assert mcnemar(0, 3).floor == pytest.approx(0.25)
    assert mcnemar(0, 0).status == "not enough data"
    assert wilson(0, 0).status == "not enough data"
    assert newcombe(1, 2, 0, 0).status == "not enough data"
    with pytest.raises(ValueError, match="got 3 of 2"):
        wilson(3, 2)


def test_mcnemar_agrees_with_the_binomial_test() -> None:
    for only_a, only_b in [(3, 9), (7, 7), (1, 12), (25, 40)]:
        expected = stats.binomtest(only_a, only_a + only_b).pvalue
        assert mcnemar(only_a, only_b).p == pytest.approx(expected)


def gamma_star(d0: float, se0: float, d1: float, se1: float, level: float = 0.95) -> RatioSet:
    """-b0/b1 of a line through scores d0 at margin 0 and d1 at margin 0.1."""
    return fieller(
        -0.1 * d0, d1 - d0, var_numerator=0.01 * se0**2, var_denominator=se0**2 + se1**2,
        covariance=0.1 * se0**2, level=level,
    )  # fmt: skip


def test_fieller_equals_the_reference() -> None:
    origin = gamma_star(-0.011, 0.003, 0.034, 0.004)
    assert origin.kind == "bounded"
    assert (origin.value, origin.low, origin.high) == pytest.approx(
        (0.024444444444444446, 0.012837937471899333, 0.03490032855298923), rel=1e-9
    )
    narrower = gamma_star(-0.011, 0.003, 0.034, 0.004, level=0.68)
    assert (narrower.low, narrower.high) == pytest.approx((0.018810843937343353, 0.029792388770164425), rel=1e-9)
    with_probe_noise = gamma_star(
        -0.011, math.hypot(0.003, 0.0577565435814412), 0.034, math.hypot(0.004, 0.0577565435814412)
    )
    assert (with_probe_noise.kind, with_probe_noise.low) == ("whole line", None)


def test_fieller_welch_equals_the_reference() -> None:
    ours = fieller_welch(
        [-0.01072, 0.0359], [0.00034117444218463957, 0.00115], [5, 5], numerator=[-0.1, 0], denominator=[-1, 1]
    )
    assert ours.kind == "bounded"
    assert (ours.low, ours.high) == pytest.approx((0.02119635186320379, 0.02489908888137407), rel=1e-9)


def test_fieller_welch_tends_to_fieller_with_many_values() -> None:
    for means in ([0.5, 0.01], [0.5, 0.4], [0.01, 0.01], [-0.3, 0.2]):
        closed = fieller(means[0], means[1], var_numerator=0.0025, var_denominator=0.0036)
        walked = fieller_welch(means, [0.05, 0.06], [10**7, 10**7], numerator=[1, 0], denominator=[0, 1])
        assert walked.kind == closed.kind
        if closed.low is not None:
            assert (walked.low, walked.high) == pytest.approx((closed.low, closed.high), rel=1e-4)


@given(st.floats(-3, 3), st.floats(-3, 3), st.floats(0.01, 1), st.floats(0.01, 1), st.floats(-100, 100))
@settings(max_examples=100, deadline=None)
def test_fieller_keeps_exactly_what_its_test_does_not_reject(
    a: float, b: float, va: float, vb: float, ratio: float
) -> None:
    ours = fieller(a, b, var_numerator=va, var_denominator=vb)
    z = abs(a - ratio * b) / math.sqrt(va + ratio**2 * vb)
    if ours.status != "ok" or abs(z - 1.959963984540054) < 1e-6:
        return
    low = -math.inf if ours.low is None else ours.low
    high = math.inf if ours.high is None else ours.high
    inside = {
        "bounded": low <= ratio <= high,
        "unbounded": ratio <= low or ratio >= high,
        "whole line": True,
    }[ours.kind]
    assert inside == (z <= 1.959963984540054)


def test_fieller_covers_at_its_nominal_rate() -> None:
    rng = np.random.default_rng(3)
    hits, trials = 0, 2000
    for a, b in zip(rng.normal(1, 0.3, trials), rng.normal(0.8, 0.3, trials), strict=True):
        ours = fieller(a, b, var_numerator=0.09, var_denominator=0.09)
        if ours.kind == "whole line":
            hits += 1
            continue
        assert ours.low is not None and ours.high is not None
        inside = ours.low <= 1.25 <= ours.high
        hits += inside if ours.kind == "bounded" else not inside
    assert abs(hits / trials - 0.95) < 0.015


def test_a_ratio_without_a_denominator_is_degenerate() -> None:
    assert fieller(1, 0, var_numerator=1, var_denominator=1).status == "degenerate"
    assert fieller(1, 2, var_numerator=0, var_denominator=0).status == "degenerate"
    one = fieller_welch([1, 2], [0.1, 0.1], [1, 5], numerator=[1, 0], denominator=[0, 1])
    assert one.status == "not enough data"


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
@settings(max_examples=60, deadline=None)
def test_corrections_agree_with_statsmodels(p: list[float]) -> None:
    names: list[tuple[Correction, str]] = [("holm", "holm"), ("bh", "fdr_bh")]
    for correction, theirs in names:
        expected = multipletests(p, method=theirs)[1]
        assert adjust(p, correction) == pytest.approx(expected)
    assert adjust(p, "none") == pytest.approx(p)


def test_corrections_worked_by_hand() -> None:
    assert adjust([0.01, 0.04, 0.03], "holm") == pytest.approx([0.03, 0.06, 0.06])
    assert adjust([0.01, 0.04, 0.03], "bh") == pytest.approx([0.03, 0.04, 0.04])
    assert adjust([], "holm").size == 0
    with pytest.raises(ValueError, match="lie in"):
        adjust([1.2], "holm")


def test_brown_forsythe_agrees_with_scipy() -> None:
    groups = [[-0.008, 0.205, 0.026, 0.178, -0.008], [0.155, 0.181, 0.16, 0.173, 0.136], [0.3, 0.1, 0.2]]
    expected = stats.levene(*groups, center="median")
    ours = brown_forsythe(groups)
    assert (ours.statistic, ours.p) == pytest.approx((expected.statistic, expected.pvalue))
    assert brown_forsythe([[1.0, 1.0, 1.0], [2.0, 2.0, 2.0]]).status == "degenerate"


def test_two_values_a_group_have_no_spread_to_test() -> None:
    # Their deviations are equal but for rounding, and a ratio of roundings once gave p = 7e-46.
    found = brown_forsythe([[-0.2019, -0.1794], [0.6411, 0.6443], [0.7841, 0.9567]])
    assert found.status == "not enough data"
    assert brown_forsythe([[0.1, 0.3, 0.2, 0.5], [0.7, 0.9]]).status == "not enough data"
    still = [x + 0.6411 for x in (-0.1, 0.0, 0.1)]
    assert brown_forsythe([still, [x + 1 / 3 for x in (-0.1, -0.1, 0.1, 0.1)]]).p is not None
    equal = [x + 0.6411 for x in (-0.1, -0.1, 0.1, 0.1)]
    assert brown_forsythe([equal, [3 * x for x in equal]]).status == "degenerate"


def test_grubbs_knows_its_ceiling() -> None:
    assert largest_z(5) == pytest.approx(1.789, abs=5e-4)
    assert grubbs([0.0, 0, 0, 0, 1]).statistic == pytest.approx(largest_z(5))
    assert grubbs([0.0, 0, 0, 0, 1]).p == 0.0
    assert grubbs([2.0, 2.0, 2.0]).status == "degenerate"
    assert grubbs([2.0, 3.0]).status == "not enough data"


def test_grubbs_p_is_at_alpha_at_the_tabled_critical_value() -> None:
    # two-sided 5 % critical value for n = 10 is 2.290 (Grubbs & Beck 1972)
    base = np.array([-0.9, -0.6, -0.4, -0.2, 0.0, 0.1, 0.3, 0.5, 0.7])

    def g_of(outlier: float) -> float:
        statistic = grubbs([*base, outlier]).statistic
        assert statistic is not None
        return statistic

    outlier = next(x for x in np.arange(1, 4, 0.001) if g_of(float(x)) >= 2.290)
    assert grubbs([*base, outlier]).p == pytest.approx(0.05, abs=5e-4)


def test_jonckheere_equals_brute_force() -> None:
    groups = [[0.1, 0.9], [0.4, 1.2, 0.7], [0.8, 1.5]]
    ours = jonckheere_terpstra(groups)
    pooled = [x for group in groups for x in group]

    def statistic(x: tuple[float, ...]) -> int:
        parts = (x[:2], x[2:5], x[5:])
        return sum(u < v for i in range(3) for j in range(i + 1, 3) for u in parts[i] for v in parts[j])

    null = np.array([statistic(order) for order in permutations(pooled)])
    observed = statistic(tuple(pooled))
    assert ours.statistic == observed
    assert ours.p == pytest.approx(min(1, 2 * min(np.mean(null >= observed), np.mean(null <= observed))))
    assert ours.floor == pytest.approx(2 * np.mean(null == 0))


def test_jonckheere_of_two_groups_is_mann_whitney() -> None:
    a, b = [1.0, 4.0, 2.5, 8.0], [3.0, 9.0, 7.0, 10.0, 2.0]
    ours = jonckheere_terpstra([a, b])
    assert ours.p == pytest.approx(stats.mannwhitneyu(a, b, method="exact").pvalue)
    ties_a, ties_b = [1.0, 1, 2, 3, 3, 4, 5, 6], [2.0, 3, 4, 4, 5, 6, 7, 7]
    tied = jonckheere_terpstra([ties_a, ties_b])
    expected = stats.mannwhitneyu(ties_a, ties_b, method="asymptotic", use_continuity=False)
    assert tied.p == pytest.approx(expected.pvalue)
    assert "ties" in tied.method


def test_jonckheere_without_data_or_variation() -> None:
    assert jonckheere_terpstra([[1.0, 2.0, 3.0]]).status == "not enough data"
    assert jonckheere_terpstra([[1.0, 1.0], [1.0, 1.0]]).status == "degenerate"
