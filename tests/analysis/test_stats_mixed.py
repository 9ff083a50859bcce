"""Random slopes and leave-one-out t: against statsmodels, brute force and known truth."""

import math
import warnings

import numpy as np
import pytest
from scipy import stats

from analysis.stats.mixed import balanced_slopes, mixed_slopes
from analysis.stats.outliers import grubbs, left_out_t, left_out_test
from analysis.stats.slopes import slopes_permuted, slopes_vary

DOSES = np.array([0.0, 0.1, 0.2, 0.5])


def series(rng: np.random.Generator, seeds: int, *, level: float, slope: float, error: float) -> np.ndarray:
    """Seeds x doses with random levels and slopes around 1 + 2 λ."""
    own = rng.normal(size=(seeds, 2)) * [level, slope]
    return (1 + own[:, :1]) + (2 + own[:, 1:]) * DOSES + rng.normal(0, error, size=(seeds, len(DOSES)))


def test_the_closed_form_is_the_fit_of_statsmodels(rng: np.random.Generator) -> None:
    table = series(rng, 12, level=1.0, slope=3.0, error=0.2)
    ours = balanced_slopes(DOSES, table)
    seeds = np.repeat(np.arange(12), len(DOSES))
    fitted = mixed_slopes(np.tile(DOSES, 12), table.ravel(), seeds)
    assert ours.status == fitted.status == "ok"
    for name in ("slope_sd", "level_sd", "error_sd", "correlation"):
        assert getattr(ours, name) == pytest.approx(getattr(fitted, name), rel=2e-3, abs=2e-3)


def test_a_series_with_gaps_is_fitted_and_finds_the_planted_spread(rng: np.random.Generator) -> None:
    table = series(rng, 40, level=1.0, slope=3.0, error=0.2)
    keep = rng.random(table.size) < 0.85
    found = mixed_slopes(np.tile(DOSES, 40)[keep], table.ravel()[keep], np.repeat(np.arange(40), 4)[keep])
    assert found.status == "ok"
    assert found.slope_sd == pytest.approx(3.0, rel=0.35)
    assert found.error_sd == pytest.approx(0.2, rel=0.35)


def test_seeds_without_slopes_of_their_own_are_a_singular_fit_and_said_to_be(rng: np.random.Generator) -> None:
    # Errors that cancel within each seed's line leave less spread of the lines than the error alone would.
    table = 2 * DOSES + rng.normal(0, 0.1, size=(6, 4))
    lines = np.array([np.polyval(np.polyfit(DOSES, row, 1), DOSES) for row in table])
    flat = table - lines + lines.mean(axis=0)
    ours = balanced_slopes(DOSES, flat)
    assert ours.status == "singular"
    assert ours.slope_sd == 0.0
    assert "singular" in str(ours)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted = mixed_slopes(np.tile(DOSES, 6), flat.ravel(), np.repeat(np.arange(6), 4))
    assert fitted.status in ("singular", "not converged")


def test_mixed_models_that_cannot_answer() -> None:
    assert balanced_slopes(DOSES[:2], np.ones((5, 2))).status == "not enough data"
    assert balanced_slopes(DOSES, np.outer(np.arange(1, 5), DOSES)).status == "degenerate"
    few = mixed_slopes(DOSES, DOSES, np.arange(4))
    assert few.status == "not enough data"
    assert few.slope_sd is None


def test_leave_one_out_t_equals_its_definition(rng: np.random.Generator) -> None:
    values = rng.normal(size=7)
    for i, t in enumerate(left_out_t(values)):
        rest = np.delete(values, i)
        assert t == pytest.approx((values[i] - rest.mean()) / (rest.std(ddof=1) * math.sqrt(1 + 1 / 6)))


def test_one_sample_of_leave_one_out_t_is_grubbs_test(rng: np.random.Generator) -> None:
    # Grubbs' G and the largest leave-one-out t are the same ordering; Bonferroni is nearly exact in the tail.
    for shift in (2.5, 4.0):
        values = rng.normal(size=10)
        values[0] += shift
        ours = left_out_test(values, 1)
        assert ours.p is not None and ours.p_error is not None
        assert ours.p == pytest.approx(grubbs(values).p, abs=5 * ours.p_error + 0.02)
    t = left_out_test(values, 1).statistic
    assert t == pytest.approx(np.abs(left_out_t(values)).max())
    assert 2 * 10 * stats.t.sf(t, 8) == pytest.approx(grubbs(values).p)


def test_the_largest_of_several_samples_is_held_to_the_maximum(rng: np.random.Generator) -> None:
    draws = rng.normal(size=(4_000, 4, 5))
    largest = np.abs(left_out_t(draws)).max(axis=(1, 2))
    threshold = float(np.quantile(largest, 0.95))
    worst = np.array([0.0, 1.0, 2.0, 3.0, 30.0])
    at_threshold = next(
        w for w in np.linspace(1, 200, 20_000) if np.abs(left_out_t(np.array([0, 1, 2, 3, w]))).max() >= threshold
    )
    found = left_out_test([0, 1, 2, 3, at_threshold], 4)
    assert found.p == pytest.approx(0.05, abs=0.012)
    assert left_out_test(worst, 8).p > left_out_test(worst, 1).p  # type: ignore[operator]


def test_leave_one_out_without_data_or_variation() -> None:
    assert left_out_test([1, 2, 3], 2).status == "not enough data"
    assert left_out_test([1, 1, 1, 1], 2).status == "degenerate"
    assert left_out_test([1, 1, 1, 1, 5], 2).p == pytest.approx(2e-5, rel=0.1)


def test_slopes_that_all_differ_are_found_whatever_the_law(rng: np.random.Generator) -> None:
    table = rng.standard_t(3, size=(5, 4)) + np.linspace(-50, 50, 5)[:, None] * DOSES
    found = slopes_permuted(DOSES, table, rng)
    assert found.p is not None and found.p <= 0.01
    assert found.statistic == slopes_vary(DOSES, table).statistic


def test_more_spread_at_the_highest_dose_is_no_difference_of_slopes(rng: np.random.Generator) -> None:
    tables = rng.normal(size=(200, 5, 4)) * [1, 1, 1, 3]
    permuted = np.array([slopes_permuted(DOSES, table, rng).p for table in tables])
    normal = np.array([slopes_vary(DOSES, table).p for table in tables])
    # 21 of 200 are exceeded once in 2,000 times at a true rate of 5 %.
    assert np.count_nonzero(permuted <= 0.05) <= 21
    assert np.count_nonzero(normal <= 0.05) > 60


def test_permuted_slopes_pass_on_what_cannot_be_tested(rng: np.random.Generator) -> None:
    assert slopes_permuted(np.arange(3.0), np.ones((2, 3)), rng).status == "not enough data"
    assert slopes_permuted(np.arange(3.0), np.ones((4, 3)), rng).status == "degenerate"
