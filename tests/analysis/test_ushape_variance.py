"""The U-shape of the variance: closed forms, fits, their rivals, resampling."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analysis.arms import Arm, sample_sd
from analysis.ushape.compare import (
    bartlett,
    compare,
    levene,
    plausible_sds,
    resampled_sds,
    simulated_sds,
    uncertainty,
    variance_ratio,
)
from analysis.ushape.model import least_squares, likelihoods, optimal_weight

WEIGHTS = np.array([0.0, 0.1, 0.2, 0.5])
SDS = np.array([0.10453617794811518, 0.08854829190899169, 0.01721772342674838, 0.04136725758374611])
SIZES = np.full(4, 5.0)
BOUNDS = ((0.001, 0.5), (0.01, 1.0), (0.001, 0.3))
TABLE = {
    42: (-0.008, 0.096, 0.155, 0.313), 123: (0.205, 0.087, 0.181, 0.344), 456: (0.026, 0.273, 0.16, 0.257),
    789: (0.178, 0.058, 0.173, 0.356), 1337: (-0.008, 0.07, 0.136, 0.283),
}  # fmt: skip

parameters = st.tuples(st.floats(0.01, 0.4), st.floats(0.02, 0.9), st.floats(0.005, 0.2))


def pattern3() -> list[Arm]:
    """The notes' per-seed table."""
    return [
        Arm(
            behavior="factual", gamma=0.1, weight=float(w), mean=0.0, n=5, inputs=(),
            values={seed: row[i] for seed, row in TABLE.items()}, sd=sample_sd([row[i] for row in TABLE.values()]),
        )
        for i, w in enumerate(WEIGHTS)
    ]  # fmt: skip


@given(parameters)
def test_the_optimum_solves_its_first_order_condition(values: tuple[float, float, float]) -> None:
    s0, tau, sp = values
    star = float(optimal_weight(s0, tau, sp))
    slope = -2 * s0**2 / tau * np.exp(-2 * star / tau) + sp**2
    if star > 0:
        assert slope == pytest.approx(0, abs=1e-9)
    else:
        assert slope >= 0  # the variance rises from the start


@given(parameters)
def test_no_other_dose_has_less_variance(values: tuple[float, float, float]) -> None:
    s0, tau, sp = values
    doses = np.linspace(0, 3, 400)
    variances = s0**2 * np.exp(-2 * doses / tau) + sp**2 * doses
    star = float(optimal_weight(*values))
    assert s0**2 * np.exp(-2 * star / tau) + sp**2 * star <= variances.min() + 1e-12


# Expected values: an independent recomputation of the notes' fit (`variance_ushape`, global least squares).
def test_the_notes_fit_comes_out_again() -> None:
    fit = least_squares(SDS[None], WEIGHTS, BOUNDS)
    assert fit.parameters[0] == pytest.approx((0.1109875541803332, 0.17554918812583514, 0.04952599658973117), abs=1e-6)
    assert fit.objective[0] == pytest.approx(0.001250242076223651, abs=1e-9)
    assert float(fit.optimum()[0]) == pytest.approx(0.3552083243682203, abs=1e-6)
    assert not fit.at_bound[0]


@pytest.mark.parametrize(
    ("left_out", "expected"),
    [(42, 0.3660136), (123, 0.4038548), (456, 0.1126269), (789, 0.4044026), (1337, 0.3558398)],
)
def test_leaving_a_seed_out(left_out: int, expected: float) -> None:
    rows = np.array([row for seed, row in TABLE.items() if seed != left_out])
    fit = least_squares(rows.std(axis=0, ddof=1)[None], WEIGHTS, BOUNDS)
    assert float(fit.optimum()[0]) == pytest.approx(expected, abs=1e-5)


@given(parameters)
def test_exact_data_give_their_parameters_back(values: tuple[float, float, float]) -> None:
    s0, tau, sp = values
    doses = np.linspace(0, 1, 9)
    sds = np.sqrt(s0**2 * np.exp(-2 * doses / tau) + sp**2 * doses)
    fit = least_squares(sds[None], doses, BOUNDS)
    assert fit.sigma(doses)[0] == pytest.approx(sds, abs=1e-5)


def test_a_batch_of_fits_equals_fits_one_by_one() -> None:
    sds = plausible_sds(SDS, SIZES, np.random.default_rng(0), 20)
    batch = least_squares(sds, WEIGHTS, BOUNDS)
    alone = [least_squares(row[None], WEIGHTS, BOUNDS) for row in sds]
    assert batch.objective == pytest.approx([float(fit.objective[0]) for fit in alone], rel=1e-6, abs=1e-12)


def test_the_likelihood_never_falls_as_parameters_are_added() -> None:
    sds = simulated_sds(SDS, SIZES, np.random.default_rng(1), 200)
    constant, decay, ushape = (fit.objective for fit in likelihoods(sds, SIZES, WEIGHTS).values())
    assert (decay <= constant + 1e-6).all()
    assert (ushape <= decay + 1e-6).all()


def test_the_constant_fit_is_the_pooled_variance() -> None:
    sizes = np.array([5.0, 3.0, 5.0, 9.0])
    fit = likelihoods(SDS[None], sizes, WEIGHTS)["constant"]
    pooled = ((sizes - 1) * SDS**2).sum() / (sizes - 1).sum()
    assert fit.parameters[0, 0] ** 2 == pytest.approx(pooled, rel=1e-6)


# Expected intervals: the same recomputation, 3,000 resamples; 15 % allows for both Monte Carlo errors.
def test_honest_intervals_of_the_optimum_are_wide() -> None:
    rng = np.random.default_rng(2)
    chi2 = uncertainty("chi2", plausible_sds(SDS, SIZES, rng, 2000), SIZES, WEIGHTS, BOUNDS)
    assert chi2.ci90 == pytest.approx((0.177, 2.35), rel=0.15)
    assert chi2.beyond_last_dose == pytest.approx(0.23, abs=0.04)
    seeds = resampled_sds(pattern3(), rng, 2000)
    assert seeds is not None
    clusters = uncertainty("seeds", seeds, SIZES, WEIGHTS, BOUNDS)
    assert clusters.median == pytest.approx(0.356, abs=0.02)
    assert clusters.ci90[0] == pytest.approx(0.035, rel=0.15)
    assert sum(clusters.preferred.values()) == pytest.approx(1)


def test_a_strong_u_is_found_and_a_constant_is_not_called_one() -> None:
    rng = np.random.default_rng(3)
    doses, many = np.linspace(0, 1, 6), np.full(6, 60.0)
    truth = np.sqrt(0.1**2 * np.exp(-2 * doses / 0.15) + 0.1**2 * doses)
    found = compare(simulated_sds(truth, many, rng, 1)[0], many, doses, rng, draws=300)
    assert found.preferred == "ushape"
    assert found.p["constant"] < 0.01 and found.p["decay"] < 0.01
    flat = compare(simulated_sds(np.full(6, 0.1), many, rng, 1)[0], many, doses, rng, draws=300)
    assert flat.p["constant"] > 0.01


@pytest.mark.slow
def test_p_of_a_true_constant_is_uniform_enough() -> None:
    rng = np.random.default_rng(4)
    p = [
        compare(simulated_sds(np.full(4, 0.1), SIZES, rng, 1)[0], SIZES, WEIGHTS, rng, draws=99).p["constant"]
        for _ in range(25)
    ]
    assert 0.25 < np.mean(p) < 0.75
    assert np.mean(np.array(p) <= 0.05) <= 0.25


@given(st.lists(st.lists(st.floats(-10, 10), min_size=3, max_size=6), min_size=2, max_size=4))
def test_bartlett_agrees_with_scipy(groups: list[list[float]]) -> None:
    samples = [np.array(group) for group in groups]
    sds = np.array([x.std(ddof=1) for x in samples])
    if (sds < 1e-3).any():
        return  # scipy's own rounding decides there
    mine = bartlett(sds, np.array([float(x.size) for x in samples]))
    theirs = stats.bartlett(*samples)
    # For equal variances scipy's statistic may round below zero, and its p is then NaN.
    expected = (0.0, 1.0) if np.isnan(theirs.pvalue) else (theirs.statistic, theirs.pvalue)
    assert (mine.statistic, mine.p) == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_equal_variances_are_tested_by_levene_only_with_the_values() -> None:
    arms = pattern3()
    found = levene(arms)
    expected = stats.levene(*([row[i] for row in TABLE.values()] for i in range(4)), center="median")
    assert found is not None and found.p == pytest.approx(expected.pvalue)
    without = [Arm(**{**arm.__dict__, "values": None}) for arm in arms]
    assert levene(without) is None


def test_the_rise_from_the_lowest_dose_is_tested_two_sided() -> None:
    arms = pattern3()
    found = variance_ratio(arms[2], arms[3])
    assert (found.statistic, found.p) == pytest.approx((5.652736318407963, 0.12198097060089001), rel=1e-6)
    assert bartlett(np.array([0.1, 0.0]), np.array([5.0, 5.0])).status == "degenerate"
