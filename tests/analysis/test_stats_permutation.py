"""Permutation tests: exact by comparison with brute force, honest about their floor, right under the null."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis.stats import permutation
from analysis.stats.permutation import (
    paired_test,
    sign_flip_test,
    spearman_test,
    two_sample_floor,
    two_sample_test,
    two_sample_tests,
)

values = st.integers(-20, 20).map(float)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_floors_are_the_ones_of_the_design() -> None:
    five_up, five_low = [6.0, 7, 8, 9, 10.5], [1.0, 2, 3, 4, 5.25]
    assert two_sample_test(five_up, five_low, rng()).p == pytest.approx(2 / 252)
    assert two_sample_test(five_up, five_low, rng()).floor == pytest.approx(0.007936507936507936)
    assert two_sample_test([4.0, 5, 7], [1.0, 2, 3], rng()).floor == pytest.approx(0.1)
    assert sign_flip_test([1.0, 2, 3, 4, 5], rng()).p == pytest.approx(0.0625)
    assert spearman_test([1.0, 2, 3, 4, 5], [2.0, 3, 5, 8, 9], rng()).p == pytest.approx(0.016666666666666666)
    assert two_sample_floor(5, 5) == pytest.approx(2 / 252)
    assert two_sample_floor(2, 2) == pytest.approx(1 / 3)
    assert two_sample_floor(3, 5) == pytest.approx(1 / 56)


def test_spearman_of_the_no_margin_seeds_equals_the_reference() -> None:
    factual = [0.1387, 0.1467, 0.1655, 0.1187, 0.1092]
    toxicity = [0.5543, 0.5613, 0.6874, 0.4751, 0.522]
    bias = [-0.0111, -0.01, -0.0109, -0.0099, -0.0117]
    sycophancy = [0.0397, 0.0399, 0.039, 0.0396, 0.0392]
    for x, y, rho, p in [
        (factual, toxicity, 0.9, 0.08333333333333333),
        (factual, bias, 0.3, 0.6833333333333333),
        (factual, sycophancy, 0.0, 1.0),
        (toxicity, bias, -0.1, 0.95),
    ]:
        test = spearman_test(x, y, rng())
        assert test.statistic == pytest.approx(rho)
        assert test.p == pytest.approx(p)


@given(st.lists(values, min_size=1, max_size=4), st.lists(values, min_size=2, max_size=4))
@settings(max_examples=50, deadline=None)
def test_two_sample_equals_brute_force_with_ties(a: list[float], b: list[float]) -> None:
    test = two_sample_test(a, b, rng())
    if test.status != "ok":
        assert len(set(a + b)) == 1
        return
    orders = np.array(list(permutations(a + b)))
    null = np.abs(orders[:, : len(a)].mean(1) - orders[:, len(a) :].mean(1))
    observed = abs(np.mean(a) - np.mean(b))
    assert test.p == pytest.approx(np.mean(null >= observed - 1e-9))
    assert test.floor is not None and test.p is not None
    assert test.floor <= test.p <= 1
    swapped = two_sample_test(b, a, rng())
    assert swapped.p == pytest.approx(test.p)


@given(st.lists(st.tuples(st.lists(values, max_size=4), st.lists(values, max_size=3)), max_size=6))
@settings(max_examples=40, deadline=None)
def test_many_pairs_at_once_equal_one_after_another(pairs: list[tuple[list[float], list[float]]]) -> None:
    rng = np.random.default_rng(0)
    assert two_sample_tests(pairs, rng) == [two_sample_test(a, b, rng) for a, b in pairs]


def test_pairs_too_large_for_all_rearrangements_draw_in_their_order() -> None:
    large = [(np.arange(12.0), np.arange(12.0) + shift) for shift in (1.0, 2.0)]
    pairs = [large[0], ([1.0, 2.0], [3.0, 4.5]), large[1]]
    rng, again = np.random.default_rng(1), np.random.default_rng(1)
    assert two_sample_tests(pairs, rng) == [two_sample_test(a, b, again) for a, b in pairs]


@given(st.lists(st.tuples(values, values), min_size=3, max_size=5))
@settings(max_examples=50, deadline=None)
def test_spearman_equals_brute_force_with_ties(pairs: list[tuple[float, float]]) -> None:
    x, y = (np.array(side) for side in zip(*pairs, strict=True))
    test = spearman_test(x, y, rng())
    if test.status != "ok":
        assert np.ptp(x) == 0 or np.ptp(y) == 0
        return
    assert test.statistic == pytest.approx(stats.spearmanr(x, y).statistic)
    null = [abs(stats.pearsonr(stats.rankdata(x), stats.rankdata(p)).statistic) for p in permutations(y)]
    assert test.statistic is not None
    assert test.p == pytest.approx(np.mean(np.array(null) >= abs(test.statistic) - 1e-9))


def test_paired_equals_scipy_exact_sign_flips() -> None:
    a, b = np.array([1.2, 0.4, 3.3, 2.2, 0.1, 5.0]), np.array([0.2, 0.9, 1.3, 2.0, 0.0, 3.0])
    theirs = stats.permutation_test((a, b), lambda x, y: np.mean(x - y), permutation_type="samples", n_resamples=np.inf)
    assert paired_test(a, b, rng()).p == pytest.approx(theirs.pvalue)


def test_monte_carlo_states_its_error_and_repeats_from_its_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = rng().normal(0.9, 1, 6), rng().normal(0, 1, 6) + 0.05
    exact = two_sample_test(a, b, rng())
    spearman = spearman_test(a, b[::-1], rng())
    flips = sign_flip_test(a, rng())
    monkeypatch.setattr(permutation, "MAX_EXACT", 10)
    for known, sampled in [
        (exact, [two_sample_test(a, b, rng()) for _ in range(2)]),
        (spearman, [spearman_test(a, b[::-1], rng()) for _ in range(2)]),
        (flips, [sign_flip_test(a, rng()) for _ in range(2)]),
    ]:
        assert sampled[0] == sampled[1]
        assert "Monte Carlo" in sampled[0].method
        assert sampled[0].p is not None and sampled[0].p_error is not None and known.p is not None
        assert abs(sampled[0].p - known.p) < 5 * sampled[0].p_error


def test_large_groups_are_sampled_not_enumerated() -> None:
    test = two_sample_test(rng().normal(size=30), rng().normal(2, 1, size=40), rng())
    assert test.p == pytest.approx(1e-5)
    assert test.floor == pytest.approx(1e-5)


def test_under_the_null_small_p_values_are_as_rare_as_they_say() -> None:
    draw = np.random.default_rng(7)
    p = np.array([two_sample_test(draw.normal(size=4), draw.normal(size=4), rng()).p for _ in range(1000)])
    for level in (2 / 70, 0.1, 0.5):
        assert np.mean(p <= level + 1e-12) <= level + 3 * np.sqrt(level * (1 - level) / p.size)


def test_degenerate_data_have_no_p() -> None:
    assert two_sample_test([1.0, 1.0], [1.0, 1.0], rng()).status == "degenerate"
    assert two_sample_test([1.0], [2.0], rng()).status == "not enough data"
    assert sign_flip_test([0.0, 0.0, 0.0], rng()).status == "degenerate"
    assert sign_flip_test([1.0], rng()).status == "not enough data"
    assert spearman_test([1.0, 1, 1], [1.0, 2, 3], rng()).status == "degenerate"
    assert spearman_test([1.0, 2], [1.0, 2], rng()).status == "not enough data"
    with pytest.raises(ValueError, match="equal lengths, got 2 and 1"):
        paired_test([1.0, 2.0], [1.0], rng())
