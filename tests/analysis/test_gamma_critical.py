"""γ* of two margins: closed forms, Fieller's coverage, the notes' Monte Carlo, power laws."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.arms import Arm
from analysis.gamma.critical import (
    Decorative,
    Scenario,
    critical_margin,
    fieller_set,
    monte_carlo,
    partials,
    power_law,
    probability_above,
    scenario,
)

NOTES = Scenario(
    name="notes",
    behavior="bias",
    gammas=(0.0, 0.1),
    means=(-0.011, 0.034),
    errors=(0.003, 0.004),
    sizes=None,
    inputs=(),
)
SEEDS = Scenario(
    name="seeds", behavior="bias", gammas=(0.0, 0.1), means=(-0.01072, 0.0359),
    errors=(0.00034117444218463957, 0.00115), sizes=(5, 5), inputs=(),
)  # fmt: skip
NOTES_DRAWS = Decorative(s_inf=(2.35, 0.35), theta=(82.0, 3.0))
WINDOW = (0.0, 0.5)

means = st.tuples(st.floats(-1, -0.01), st.floats(0.01, 1))
errors = st.tuples(st.floats(0.001, 0.1), st.floats(0.001, 0.1))


# Expected values: an independent recomputation of the notes' figures (NumPy and SciPy), `gamma_star`.
def test_closed_forms_agree_with_an_independent_recomputation() -> None:
    assert NOTES.point == pytest.approx(0.024444444444444446, abs=1e-9)
    found = fieller_set(NOTES, level=0.95)
    assert (found.kind, found.low, found.high) == (
        "bounded", pytest.approx(0.012837937471899333, abs=1e-6), pytest.approx(0.03490032855298923, abs=1e-6),
    )  # fmt: skip
    assert probability_above(NOTES, 0.02) == pytest.approx(0.7854023497798255, abs=1e-6)
    assert probability_above(NOTES, 0.03) == pytest.approx(0.15065627087664657, abs=1e-6)
    assert probability_above(NOTES, 0.05) == pytest.approx(2.112454702502842e-06, abs=1e-6)
    assert partials(NOTES) == pytest.approx((-1.6790123456790125, -0.54320987654321), abs=1e-6)


def test_students_t_with_each_arms_seeds_agrees_with_an_independent_recomputation() -> None:
    found = fieller_set(SEEDS, level=0.95, welch=True)
    assert (found.low, found.high) == pytest.approx((0.02119635186320379, 0.02489908888137407), abs=1e-6)
    normal = fieller_set(SEEDS, level=0.95)
    assert (normal.low, normal.high) == pytest.approx((0.02146283964309255, 0.024602012283909), abs=1e-6)


def test_the_notes_monte_carlo_comes_out_again_with_their_seed() -> None:
    found = monte_carlo(NOTES, np.random.default_rng(42), samples=10_000, window=WINDOW, decorative=NOTES_DRAWS)
    assert found is not None
    assert found.kept == 9999
    assert found.median == pytest.approx(0.024357449739335218, abs=1e-12)
    assert found.mean == pytest.approx(0.024238383517371162, abs=1e-12)
    assert (found.quantiles[16.0], found.quantiles[84.0]) == pytest.approx((0.018695660976500314, 0.029809559212356482))
    assert (found.quantiles[2.5], found.quantiles[97.5]) == pytest.approx((0.012713219373955054, 0.03496668471084277))
    assert found.shares_above[0.02] == pytest.approx(0.7813781378137814)
    assert 1 - found.shares_above[0.03] == pytest.approx(0.8492849284928493)


def test_monte_carlo_lies_within_three_of_its_own_errors() -> None:
    found = monte_carlo(NOTES, np.random.default_rng(7), samples=40_000, window=WINDOW)
    assert found is not None
    # Quantiles of two million samples.
    for percent, value in ((2.5, 0.012857347430526585), (50.0, 0.024437229591855292), (97.5, 0.034908247012055464)):
        assert abs(found.quantiles[percent] - value) < 3 * found.quantile_error(percent)
    assert abs(found.shares_above[0.02] - probability_above(NOTES, 0.02)) < 3 * found.share_error(0.02)
    assert found.quantile_error(50.0) == pytest.approx(0.0055 * 1.2533 / 200, rel=0.3)


def test_inputs_that_are_not_in_the_formula_do_not_correlate_with_it() -> None:
    found = monte_carlo(NOTES, np.random.default_rng(1), samples=20_000, window=WINDOW, decorative=NOTES_DRAWS)
    assert found is not None and found.decorative is not None
    assert max(map(abs, found.decorative)) < 4 / 20_000**0.5


def test_no_sample_in_the_window_gives_no_monte_carlo() -> None:
    away = replace(NOTES, means=(0.5, 0.6))
    assert monte_carlo(away, np.random.default_rng(0), samples=1000, window=WINDOW) is None


@given(means, errors, st.floats(0.01, 100))
def test_scaling_gamma_scales_gamma_star_and_its_interval(
    values: tuple[float, float], spread: tuple[float, float], scale: float
) -> None:
    case = replace(NOTES, means=values, errors=spread)
    wide = replace(case, gammas=(0.0, 0.1 * scale))
    assert wide.point == pytest.approx(scale * case.point, rel=1e-9)
    one, other = fieller_set(case, level=0.95), fieller_set(wide, level=0.95)
    assert one.kind == other.kind
    for a, b in ((one.low, other.low), (one.high, other.high)):
        assert (a is None) == (b is None)
        if a is not None and b is not None:
            assert b == pytest.approx(scale * a, rel=1e-7, abs=1e-12 * scale)


@given(means, st.floats(0.01, 100))
def test_scaling_the_scores_leaves_gamma_star_alone(values: tuple[float, float], scale: float) -> None:
    scaled = critical_margin(scale * values[0], scale * values[1], (0.0, 0.1))
    assert float(scaled) == pytest.approx(float(critical_margin(*values, (0.0, 0.1))), rel=1e-9)


@given(means, st.floats(-1, 1), st.floats(0.01, 2))
def test_gamma_star_is_where_the_line_crosses_zero(values: tuple[float, float], start: float, span: float) -> None:
    star = float(critical_margin(*values, (start, start + span)))
    assert values[0] + (values[1] - values[0]) * (star - start) / span == pytest.approx(0, abs=1e-9)
    assert start <= star <= start + span


@pytest.mark.parametrize("level", [0.68, 0.95])
def test_fieller_covers_at_its_nominal_rate(level: float) -> None:
    """A true γ* is covered iff the set contains it; 20,000 data sets leave ±0.4 % (two standard errors)."""
    rng, truth, draws = np.random.default_rng(5), SEEDS.point, 20_000
    data = rng.normal(SEEDS.means, (0.008, 0.01), (draws, 2))
    covered = 0
    for d0, d1 in data:
        found = fieller_set(replace(SEEDS, means=(d0, d1), errors=(0.008, 0.01), sizes=None), level=level)
        low = -np.inf if found.low is None else found.low
        high = np.inf if found.high is None else found.high
        inside = low <= truth <= high
        covered += found.kind == "whole line" or (inside if found.kind == "bounded" else not low < truth < high)
    assert covered / draws == pytest.approx(level, abs=0.01)


@pytest.mark.parametrize(
    ("exponent", "expected"),
    [(0.5, 0.005975308641975308), (1.0, 0.024444444444444446), (2.0, 0.04944132324730442), (3.0, 0.06252591517889679)],
)
def test_other_shapes_move_gamma_star(exponent: float, expected: float) -> None:
    assert power_law(NOTES, exponent) == pytest.approx(expected, abs=1e-6)


def test_without_a_sign_change_no_shape_gives_gamma_star() -> None:
    assert power_law(replace(NOTES, means=(0.1, 0.2)), 1.0) is None


def test_standard_errors_are_sds_over_the_root_of_n() -> None:
    low, high = (
        Arm(behavior="bias", gamma=g, weight=0.2, mean=m, sd=0.01, n=4, values=None, inputs=(k,))
        for g, m, k in ((0.0, -0.01, "a"), (0.1, 0.03, "b"))
    )
    case, loose = scenario((low, high), "x", "se"), scenario((low, high), "x", "sd")
    assert case is not None and loose is not None
    assert (case.errors, case.sizes) == ((0.005, 0.005), (4, 4))
    assert (loose.errors, loose.sizes) == ((0.01, 0.01), None)
    assert scenario((replace(low, sd=None), high), "x", "se") is None
