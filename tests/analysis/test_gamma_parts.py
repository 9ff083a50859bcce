"""Amplification, sensitivity, phase diagram and fits to several margins."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.arms import Arm, sample_sd
from analysis.gamma.amplification import angular, baselines, rounded, swings
from analysis.gamma.critical import Scenario
from analysis.gamma.curves import fit_curve, fit_line, resampled_margin, sign_change
from analysis.gamma.phase import Operating, least_squares, region, stepwise
from analysis.gamma.sensitivity import Ranges, sobol, sobol_of_arms, sobol_with_form, tornado, two_arm_bars
from analysis.stats.results import Array

NOTES = Scenario(
    name="notes",
    behavior="bias",
    gammas=(0.0, 0.1),
    means=(-0.011, 0.034),
    errors=(0.003, 0.004),
    sizes=None,
    inputs=(),
)
RANGES = Ranges(
    d0=0.010,
    d1=0.012,
    theta=(75.0, 89.0),
    baseline=(0.010, 0.080),
    points=200,
    percentiles=(5.0, 95.0),
    window=(0.0, 0.5),
)


def arm(gamma: float, weight: float, mean: float, sd: float | None = 0.002, *, behavior: str = "bias") -> Arm:
    return Arm(behavior=behavior, gamma=gamma, weight=weight, mean=mean, sd=sd, n=5, values=None, inputs=())


def seeds(gamma: float, values: list[float], weight: float = 0.2, behavior: str = "bias") -> Arm:
    return Arm(
        behavior=behavior, gamma=gamma, weight=weight, mean=float(np.mean(values)), sd=sample_sd(values), n=len(values),
        values=dict(enumerate(values)), inputs=(),
    )  # fmt: skip


# Expected values: an independent recomputation of the notes' figures, `sensitivity`.
@pytest.mark.parametrize(
    ("name", "low", "high", "discarded"),
    [
        ("d0", 0.005555520503653509, 0.0370370266947091, 0.0),
        ("d1", 0.019713266014468267, 0.03216376174927767, 0.0),
        ("theta", 0.005210596191126252, 0.04338304878009278, 0.0),
        ("baseline", 0.004249022892238962, 0.0781183696259073, 0.47),
        ("s_inf", 0.0244444444444, 0.0244444444444, 0.0),
    ],
)
def test_tornado_bars(name: str, low: float, high: float, discarded: float) -> None:
    bars = {bar.name: bar for bar in tornado(NOTES, RANGES, theta=82.0, baseline=0.036)}
    assert (bars[name].low, bars[name].high) == pytest.approx((low, high), abs=1e-6)
    assert bars[name].discarded == pytest.approx(discarded, abs=1e-9)


def test_the_largest_bar_comes_first() -> None:
    assert [bar.name for bar in tornado(NOTES, RANGES, theta=82.0, baseline=0.036)][0::4] == ["baseline", "s_inf"]
    d0, d1 = two_arm_bars(NOTES)
    assert (d0.name, d1.name) == ("d0", "d1")
    assert (d0.low, d0.high) == pytest.approx((0.013087934560327197, 0.03317610062893082), abs=1e-6)


def test_sobol_indices_of_a_linear_model_are_its_shares_of_variance() -> None:
    slopes, sds = np.array([1.0, 2.0, 0.0]), (1.0, 0.5, 3.0)
    inputs = {name: ("norm", 0.0, sd) for name, sd in zip("abc", sds, strict=True)}

    def model(rows: Array) -> Array:
        return np.asarray(rows @ slopes)

    found = sobol("linear", model, inputs, n=4096, seed=1)
    shares = (slopes * sds) ** 2 / ((slopes * sds) ** 2).sum()
    assert found.first == pytest.approx(shares, abs=0.03)
    assert found.total == pytest.approx(shares, abs=0.03)
    assert found.interactions == pytest.approx(0, abs=0.05)


def test_sobol_indices_of_a_product_are_all_interaction() -> None:
    found = sobol("product", lambda rows: rows[:, 0] * rows[:, 1], dict.fromkeys("ab", ("norm", 0.0, 1.0)), seed=1)
    assert found.first == pytest.approx((0, 0), abs=0.05)
    assert found.total == pytest.approx((1, 1), abs=0.06)


def test_sobol_of_gamma_star_agrees_with_an_independent_recomputation() -> None:
    found = sobol_of_arms(NOTES, name="x", baseline=(0.01, 0.08), seed=42)
    assert dict(zip(found.inputs, found.first, strict=True)) == pytest.approx(
        {"d0": 0.844, "d1": 0.153, "baseline": 0.0}, abs=0.03
    )
    shape = sobol_with_form(NOTES, exponents=(0.5, 2.0), seed=42)
    assert dict(zip(shape.inputs, shape.total, strict=True)) == pytest.approx(
        {"d0": 0.1406, "d1": 0.0247, "exponent": 0.8400}, abs=0.03
    )


# Expected values: `amplification` of the same recomputation.
def test_amplification_of_the_notes_figures() -> None:
    turn = angular(82.0, 86.0, 3.0, np.random.default_rng(0), draws=2000, level=0.95)
    assert turn.ratio == pytest.approx(1.9951281005196508, abs=1e-9)
    ratio = rounded(0.045, 0.002, unit=0.001, angular_ratio=turn.ratio)
    assert (ratio.ratio, ratio.residual) == pytest.approx((22.5, 11.277471353413173), abs=1e-6)
    assert (ratio.low, ratio.high) == pytest.approx((14.666666666666666, 46.0), abs=1e-6)
    start = baselines(0.036, -0.041, ratio.residual)
    assert start.ratios == pytest.approx(
        {0.0: 1.0671873729054748, 0.001: 1.0654272078068663, 0.005: 1.0592219878345592, 0.01: 1.0529461772445508},
        abs=1e-6,
    )
    assert start.exponent_needed == pytest.approx(18.629363882116003, abs=1e-6)
    assert start.unexplained == pytest.approx(10.646938491588989, abs=1e-6)


def test_a_ratio_over_seeds_may_be_anything_when_its_denominator_may_be_zero() -> None:
    bias = seeds(0.0, [-0.0111, -0.01, -0.0109, -0.0099, -0.0117]), arm(0.1, 0.2, 0.0359, 0.0023 * 1.25**0.5)
    syco = (
        seeds(0.0, [0.0397, 0.0399, 0.039, 0.0396, 0.0392], behavior="sycophancy"),
        arm(0.1, 0.2, 0.0398, 0.0005 * 1.25**0.5, behavior="sycophancy"),
    )
    found = swings(bias, syco, level=0.95)
    assert found is not None and not found.paired
    assert found.ratio.value == pytest.approx(145.6874999, abs=1e-3)
    assert (found.ratio.kind, found.ratio.low, found.ratio.high) == (
        "unbounded", pytest.approx(-125.40059202475518, abs=1e-6), pytest.approx(45.974986126614276, abs=1e-6),
    )  # fmt: skip
    assert found.test_of_second.p == pytest.approx(0.3215585476256034, abs=1e-6)


def test_swings_of_behaviors_that_move_together_use_their_covariance() -> None:
    base = [0.01, 0.02, 0.04, 0.03]
    first = seeds(0.0, [0.0] * 3 + [1e-9]), seeds(0.1, base)
    second = seeds(0.0, [0.0] * 3 + [1e-9]), seeds(0.1, [x / 2 for x in base])
    found = swings(first, second, level=0.95)
    assert found is not None and found.paired
    assert found.ratio.low == pytest.approx(2.0, rel=1e-3) and found.ratio.high == pytest.approx(2.0, rel=1e-3)


DOSES = [arm(0.1, w, m) for w, m in ((0.0, -0.0095), (0.1, 0.0233), (0.2, 0.0359), (0.5, 0.0467))]
CENTRE = Operating(gamma=0.1, weight=0.2)


# Expected values: `phase_diagram` of the same recomputation.
def test_phase_diagram_of_the_notes() -> None:
    surface = stepwise(DOSES, arm(0.0, 0.2, -0.01072), CENTRE)
    assert surface is not None
    assert surface.coefficients == pytest.approx((0.0047, 0.097, 0.4662), abs=1e-9)
    expected = {
        0.05: 0.018060918060917988,
        0.1: 0.03822393822393818,
        0.2: 0.048305448305448286,
        0.6: 0.05502645502645502,
    }
    assert {w: surface.critical_point(w) for w in expected} == pytest.approx(expected, abs=1e-6)
    area = region(surface, gamma_high=0.15, weight_high=0.6, points=100)
    assert area.share_negative == pytest.approx(0.3034)
    assert (area.lowest, *area.lowest_at) == pytest.approx((-0.07696, 0.0, 0.6), abs=1e-9)


@settings(max_examples=30)
@given(st.floats(-1, 1), st.floats(-1, 1), st.floats(0.1, 2))
def test_a_surface_that_is_exactly_planar_is_found_with_no_residual(a: float, b: float, m: float) -> None:
    cells = [
        arm(g, w, a + b * w + m * (g - 0.1) * w / 0.2) for w in (0.0, 0.1, 0.2, 0.5) for g in (0.0, 0.05, 0.1, 0.2)
    ]
    surface = least_squares(cells, CENTRE)
    assert surface is not None
    assert surface.coefficients == pytest.approx((a, b, m), abs=1e-8)
    assert surface.residuals() == pytest.approx(np.zeros(len(cells)), abs=1e-8)
    for weight in (0.1, 0.4):
        star = surface.critical_point(weight)
        assert float(surface.at(star, weight)) == pytest.approx(0, abs=1e-7)
        found = surface.critical(weight, level=0.95)
        assert found.value == pytest.approx(star, abs=1e-6)


def test_a_bent_surface_fails_its_lack_of_fit_test() -> None:
    cells = [arm(g, w, w - 8 * (g - 0.05) ** 2 * w) for w in (0.1, 0.2, 0.5) for g in (0.0, 0.05, 0.1)]
    surface = least_squares(cells, CENTRE)
    assert surface is not None and surface.lack_of_fit is not None and surface.lack_of_fit.p is not None
    assert surface.lack_of_fit.p < 0.01


def test_a_grid_with_one_margin_determines_no_surface() -> None:
    assert least_squares(DOSES, CENTRE) is None
    assert stepwise(DOSES[:1], arm(0.0, 0.2, 0.0), CENTRE) is None


def sweep(shape: object, sd: float, rng: np.random.Generator, n: int = 8) -> list[Arm]:
    margins = (0.0, 0.02, 0.04, 0.07, 0.1)
    return [seeds(g, list(shape(g) + rng.normal(0, sd, n))) for g in margins]  # type: ignore[operator]


def test_a_line_through_five_margins_finds_the_true_gamma_star() -> None:
    arms = sweep(lambda g: -0.01 + 0.4 * g, 0.002, np.random.default_rng(3))
    line = fit_line(arms, level=0.95)
    assert line is not None and line.gamma_star.low is not None and line.gamma_star.high is not None
    assert line.gamma_star.low < 0.025 < line.gamma_star.high
    assert line.gamma_star.high - line.gamma_star.low < 0.01
    assert line.lack_of_fit.p is not None and line.lack_of_fit.p > 0.01


def test_a_saturating_curve_is_preferred_where_the_truth_saturates() -> None:
    def truth(gamma: float) -> float:
        return -0.01 + 0.03 * (1 - math.exp(-gamma / 0.02))

    star = -0.02 * math.log(1 - 0.01 / 0.03)
    rng = np.random.default_rng(4)
    arms = sweep(truth, 0.001, rng)
    line, curve = fit_line(arms, level=0.95), fit_curve(arms, rng, draws=1000, level=0.95)
    assert line is not None and curve is not None and line.aicc is not None and curve.aicc is not None
    assert curve.aicc < line.aicc
    assert line.lack_of_fit.p is not None and line.lack_of_fit.p < 0.001
    assert curve.gamma_star.low is not None and curve.gamma_star.high is not None
    assert curve.gamma_star.low < star < curve.gamma_star.high
    assert sign_change(arms) == (0.0, 0.02)


def test_a_curve_that_never_reaches_zero_has_no_gamma_star() -> None:
    rng = np.random.default_rng(5)
    arms = sweep(lambda g: -0.02 + 0.01 * (1 - math.exp(-g / 0.02)), 0.0005, rng)
    curve = fit_curve(arms, rng, draws=500, level=0.95)
    assert curve is not None
    assert curve.gamma_star.value is None and curve.gamma_star.high is None
    assert sign_change(arms) is None


def test_resampled_seeds_need_the_seeds_values() -> None:
    rng = np.random.default_rng(6)
    low, high = seeds(0.0, [-0.011, -0.01, -0.012]), seeds(0.1, [0.03, 0.035, 0.04])
    found = resampled_margin((low, high), rng, draws=2000, level=0.95)
    assert found is not None and found.low is not None and found.high is not None and found.value is not None
    assert found.low < found.value < found.high
    assert resampled_margin((low, arm(0.1, 0.2, 0.035)), rng, draws=100, level=0.95) is None
