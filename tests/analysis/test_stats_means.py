"""Intervals, differences and standardised effects: against SciPy, published recomputations and known truth."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from analysis.stats.effect_size import (
    hedges_correction,
    hedges_g,
    hedges_g_from_d,
    noncentral_t_cdf,
    noncentrality_interval,
)
from analysis.stats.intervals import (
    mean_interval,
    sd_interval,
    sd_ratio_interval,
    welch_difference,
    welch_leaving_out,
    welch_test,
    welch_tests,
)
from analysis.stats.results import is_constant

FACTUAL_0 = [-0.008, 0.205, 0.026, 0.178, -0.008]
FACTUAL_02 = [0.155, 0.181, 0.16, 0.173, 0.136]
samples = st.lists(st.floats(-100, 100).map(lambda x: round(x, 3)), min_size=2, max_size=8)


def test_welch_agrees_with_scipy() -> None:
    ours = welch_test(FACTUAL_0, FACTUAL_02)
    theirs = stats.ttest_ind(FACTUAL_0, FACTUAL_02, equal_var=False)
    interval = theirs.confidence_interval(0.95)
    assert ours.statistic == pytest.approx(theirs.statistic)
    assert ours.p == pytest.approx(theirs.pvalue)
    assert ours.effect is not None
    assert (ours.effect.low, ours.effect.high) == pytest.approx((interval.low, interval.high))


def test_mean_and_sd_intervals_equal_their_formulas() -> None:
    mean = mean_interval(FACTUAL_0)
    low, high = stats.t.interval(0.95, 4, loc=np.mean(FACTUAL_0), scale=stats.sem(FACTUAL_0))
    assert (mean.low, mean.high) == pytest.approx((low, high))
    sd = sd_interval(FACTUAL_0)
    assert sd.value == pytest.approx(0.10443083835725919)
    # factors of an SD from five values, reference_numbers.json "sd_ci95_n5_factor"
    assert sd.low == pytest.approx(0.5991331391341409 * 0.10443083835725919)
    assert sd.high == pytest.approx(2.873555634078219 * 0.10443083835725919)


def test_sd_ratio_equals_the_reference() -> None:
    ratio = sd_ratio_interval(FACTUAL_0, FACTUAL_02)
    assert ratio.value == pytest.approx(1 - 0.833729618306963)
    assert (ratio.low, ratio.high) == pytest.approx((0.053650878499548624, 0.51529146589055))


def test_welch_on_the_bias_arms_equals_the_reference() -> None:
    no_margin = [-0.0111, -0.01, -0.0109, -0.0099, -0.0117]
    sft = np.array([-1.5, -0.5, 0.0, 0.5, 1.5])
    sft = sft / sft.std(ddof=1) * 0.0014534441853748634 - 0.0095
    test = welch_test(no_margin, sft)
    assert test.statistic == pytest.approx(-1.661903256687639)
    assert test.p == pytest.approx(0.14719802681236208)


@pytest.mark.parametrize(
    ("d", "n", "g", "low", "high"),
    [
        (10.82, 5, 9.767250070378756, 4.947198261458078, 14.577763845733887),
        (13.68, 5, 12.348981604693288, 6.325560752999342, 18.375731183598955),
        (-8.43, 3, -6.726166847568155, -11.378537454948782, -2.118127870678578),
        (1.7354436625492495, 3, 1.3846837044912241, -0.24364762730977904, 2.9101664937677585),
    ],
)
def test_hedges_g_equals_the_reference(d: float, n: int, g: float, low: float, high: float) -> None:
    # 5e-7: the reference was solved to 3e-7 in the last case; the next test holds our own equations to 1e-9.
    ours = hedges_g_from_d(d, n, n)
    assert (ours.value, ours.low, ours.high) == pytest.approx((g, low, high), abs=5e-7)


def test_hedges_correction_is_the_exact_one() -> None:
    assert hedges_correction(4) == pytest.approx(0.7978845608028654, rel=1e-14)
    assert hedges_correction(8) == pytest.approx(0.90270333367641, rel=1e-13)
    assert hedges_correction(8) != pytest.approx(1 - 3 / (4 * 8 - 1), rel=1e-4)


@pytest.mark.parametrize(
    ("t", "df", "delta"),
    [(0.5, 4, 0.2), (3, 1, 2), (2, 1000, 1), (1.2, 2, -1), (-3, 5, -2), (30, 3, 25), (100, 8, 90), (0, 4, 1)],
)
def test_noncentral_t_agrees_with_scipy_where_scipy_works(t: float, df: float, delta: float) -> None:
    assert noncentral_t_cdf(t, df, delta) == pytest.approx(float(stats.nct.cdf(t, df, delta)), abs=1e-11)


@pytest.mark.parametrize("d", [0.0, 1e-6, 0.8, 30.0, 100.0, 1000.0, -250.0])
@pytest.mark.parametrize("n", [2, 5, 300])
def test_the_noncentral_interval_solves_its_equations_for_any_effect(d: float, n: int) -> None:
    t, df = d / math.sqrt(2 / n), 2 * n - 2
    low, high = noncentrality_interval(t, df)
    assert noncentral_t_cdf(t, df, low) == pytest.approx(0.975, abs=1e-9)
    assert noncentral_t_cdf(t, df, high) == pytest.approx(0.025, abs=1e-9)
    assert low < high


def test_g_interval_covers_a_known_effect_at_its_nominal_rate() -> None:
    rng = np.random.default_rng(1)
    true_d, hits, trials = 2.0, 0, 400
    for _ in range(trials):
        a, b = rng.normal(true_d, 1, 5), rng.normal(0, 1, 5)
        g = hedges_g(a, b)
        correction = hedges_correction(8)
        assert g.low is not None and g.high is not None
        hits += g.low <= correction * true_d <= g.high
    assert 0.92 <= hits / trials <= 0.98  # 2.75 standard errors around .95


def test_intervals_cover_known_truth_with_five_values() -> None:
    rng = np.random.default_rng(2)
    trials = 600
    covered = np.zeros(3)
    for _ in range(trials):
        a, b = rng.normal(1, 2, 5), rng.normal(0, 0.5, 5)
        for i, (estimate, truth) in enumerate(
            [(mean_interval(a), 1.0), (sd_interval(a), 2.0), (welch_difference(a, b), 1.0)]
        ):
            assert estimate.low is not None and estimate.high is not None
            covered[i] += estimate.low <= truth <= estimate.high
    assert (np.abs(covered / trials - 0.95) < 0.03).all()


@given(samples, samples, st.floats(0.01, 50), st.floats(-50, 50))
@settings(max_examples=60, deadline=None)
def test_a_difference_is_equivariant_and_antisymmetric(
    a: list[float], b: list[float], scale: float, shift: float
) -> None:
    plain = welch_difference(a, b)
    swapped = welch_difference(b, a)
    moved = welch_difference(np.array(a) * scale + shift, np.array(b) * scale + shift)
    if plain.status != "ok" or moved.status != "ok":
        return
    assert plain.value is not None and plain.low is not None and plain.high is not None
    assert (swapped.low, swapped.high) == pytest.approx((-plain.high, -plain.low), rel=1e-9, abs=1e-9)
    expected = (plain.value * scale, plain.low * scale, plain.high * scale)
    assert (moved.value, moved.low, moved.high) == pytest.approx(expected, rel=1e-6, abs=1e-9)
    assert plain.low <= plain.value <= plain.high


@given(samples, samples)
@settings(max_examples=60, deadline=None)
def test_g_has_the_sign_of_the_difference_and_lies_in_its_interval(a: list[float], b: list[float]) -> None:
    g, difference = hedges_g(a, b), welch_difference(a, b)
    if g.status != "ok" or difference.value is None:
        return
    assert g.value is not None and g.low is not None and g.high is not None
    assert g.low <= g.value <= g.high
    assert math.copysign(1, g.value) == math.copysign(1, difference.value) or abs(g.value) < 1e-9


@given(samples, samples)
@settings(max_examples=60, deadline=None)
def test_leaving_values_out_equals_testing_what_is_left(a: list[float], b: list[float]) -> None:
    kept = ~np.eye(len(a), dtype=bool)
    first, second = np.array([a, a[::-1]], dtype=float), np.array([b, b], dtype=float)
    differences, p = welch_leaving_out(first, second, kept, np.ones((len(a), len(b)), dtype=bool))
    for row in range(2):
        for i in range(len(a)):
            alone = welch_test(np.delete(first[row], i), b)
            if alone.status == "ok":
                assert p[row, i] == pytest.approx(alone.p, rel=1e-9)
                assert differences[row, i] == pytest.approx(alone.effect and alone.effect.value)
            else:
                assert np.isnan(p[row, i])


@given(st.lists(st.tuples(st.lists(st.integers(-3, 3), max_size=4), st.lists(st.integers(-3, 3), max_size=3))))
@settings(max_examples=60, deadline=None)
def test_many_pairs_at_once_equal_one_after_another(pairs: list[tuple[list[int], list[int]]]) -> None:
    for test, (a, b) in zip(welch_tests(pairs, level=0.9), pairs, strict=True):
        alone = welch_test(a, b, level=0.9)
        if alone.p is None or test.effect is None or alone.effect is None:
            assert test == alone
            continue
        numbers = [(t.statistic, t.p, t.effect.value, t.effect.low, t.effect.high) for t in (test, alone) if t.effect]
        assert numbers[0] == pytest.approx(numbers[1], rel=1e-12, abs=1e-12)
        assert (test.status, test.n, test.method) == (alone.status, alone.n, alone.method)


@pytest.mark.parametrize(
    ("a", "b", "status"),
    [
        ([], [1.0, 2.0], "not enough data"),
        ([1.0], [1.0, 2.0], "not enough data"),
        ([0.1] * 3, [0.3] * 3, "degenerate"),
        ([0.1 + 0.2, 0.3], [0.5, 0.5], "degenerate"),  # equal up to rounding
    ],
)
def test_data_that_cannot_answer_are_a_status_not_a_number(a: list[float], b: list[float], status: str) -> None:
    test = welch_test(a, b)
    assert (test.status, test.p, test.statistic) == (status, None, None)
    assert test.effect is not None
    assert (test.effect.low, test.effect.high) == (None, None)


def test_one_constant_group_still_has_a_welch_interval() -> None:
    difference = welch_difference([1.0, 2.0, 3.0], [0.5, 0.5, 0.5])
    low, high = stats.t.interval(0.95, 2, loc=1.5, scale=stats.sem([1.0, 2.0, 3.0]))
    assert (difference.low, difference.high) == pytest.approx((low, high))


def test_single_and_constant_samples() -> None:
    assert mean_interval([2.0]).status == "not enough data"
    assert mean_interval([2.0]).value == 2.0
    assert mean_interval([2.0, 2.0]).status == "degenerate"
    assert sd_interval([2.0]).value is None
    assert sd_ratio_interval([1.0, 1.0], [1.0, 2.0]).status == "degenerate"
    assert hedges_g([1.0], [2.0]).status == "not enough data"
    assert hedges_g([1.0, 1.0], [2.0, 2.0]).status == "degenerate"


def test_missing_values_must_be_left_out() -> None:
    with pytest.raises(ValueError, match="leave missing values out"):
        mean_interval([1.0, math.nan])


def test_constant_means_equal_up_to_rounding_only() -> None:
    assert is_constant(np.array([0.1 + 0.2, 0.3]))
    assert not is_constant(np.array([0.3, 0.3 + 1e-12]))
    assert is_constant(np.array([0.0, 0.0]))


@pytest.mark.parametrize("n", [2, 5])
@pytest.mark.parametrize("apart", [0.0, 0.7, 8.0, 60.0])
def test_the_interval_of_g_at_a_very_high_level_solves_the_noncentral_t(n: int, apart: float) -> None:
    level = 0.999
    rng = np.random.default_rng(n)
    a, b = rng.normal(size=n) + apart, rng.normal(size=n)
    found = hedges_g(a, b, level=level)
    assert found.value is not None and found.low is not None and found.high is not None
    assert found.low < found.value < found.high
    df, scale = 2 * n - 2, math.sqrt(n / 2)
    t = float(stats.ttest_ind(a, b).statistic)
    for end, tail in ((found.low, 1 - level), (found.high, 1 + level)):
        # The end is the noncentrality at which t cuts off the tail. Checked by an integral over the chi density,
        # which stays exact where scipy's nct.cdf gives up.
        shift = end / hedges_correction(df) * scale
        chance, _ = integrate.quad(
            lambda s, nc=shift: stats.norm.cdf(t * s / math.sqrt(df) - nc) * stats.chi.pdf(s, df), 0, math.inf,
            epsabs=1e-13, limit=400,
        )  # fmt: skip
        assert chance == pytest.approx(1 - tail / 2, abs=2e-7)
