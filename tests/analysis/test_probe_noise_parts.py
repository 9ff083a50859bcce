"""Noise of probes: the formula, paired against unpaired, and what is measured on single probes."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analysis.gamma.critical import Scenario
from analysis.probe_noise.measured import measure, paired_noise, resampled_probes, scores_of, unpaired_noise
from analysis.probe_noise.noise import NO_NOISE, ProbeNoise, correlation_sd, effect_on_margin, paired, unpaired

NOTES = Scenario(
    name="notes",
    behavior="bias",
    gammas=(0.0, 0.1),
    means=(-0.011, 0.034),
    errors=(0.003, 0.004),
    sizes=None,
    inputs=(),
)
SIGMA = correlation_sd(0.036, 300) * 299**0.5
WINDOW = (0.0, 0.5)


# Expected values: an independent recomputation of the notes' figures, `probe_sigma` and `probe_noise`.
@pytest.mark.parametrize(
    ("rho", "n", "sigma"),
    [(0.603, 206, 0.04444747543550977), (0.036, 300, 0.0577565435814412), (0.0, 100, 0.10050378152592121)],
)
def test_the_formula(rho: float, n: int, sigma: float) -> None:
    assert correlation_sd(rho, n) == pytest.approx(sigma, abs=1e-9)


def effect(noise: ProbeNoise, n: int = 300, samples: int = 100_000):  # type: ignore[no-untyped-def]
    return effect_on_margin(NOTES, noise, n, np.random.default_rng(0), samples=samples, window=WINDOW)


def test_without_probe_noise_only_the_seeds_are_left() -> None:
    found = effect(NO_NOISE)
    assert (found.fieller.low, found.fieller.high) == pytest.approx(
        (0.012837937471899333, 0.03490032855298923), abs=1e-6
    )
    assert abs(found.width - 0.02206740251928706) < 3 * found.width_error


def test_unpaired_noise_as_in_the_notes() -> None:
    found = effect(unpaired(SIGMA))
    assert found.fieller.kind == "whole line"
    assert found.falling == pytest.approx(0.2907, abs=0.002)
    assert found.kept == pytest.approx(0.504, abs=0.008)
    assert abs(found.width - 0.25926554360176096) < 4 * found.width_error


@pytest.mark.parametrize(
    ("correlation", "low", "high", "width"),
    [
        (0.95, -0.16651743440244285, 0.11083025050880704, 0.11371356850047576),
        (0.99, -0.017686466219068258, 0.05741716259321599, 0.05572751371574235),
        (0.999, 0.008232213443206278, 0.03880233692294702, 0.030198986527065843),
        (1.0, 0.012837937471899333, 0.03490032855298923, 0.02206740251928706),
    ],
)
def test_paired_noise_cancels(correlation: float, low: float, high: float, width: float) -> None:
    found = effect(paired(SIGMA, correlation))
    assert (found.fieller.low, found.fieller.high) == pytest.approx((low, high), abs=1e-6)
    assert abs(found.width - width) < 5 * found.width_error


@given(st.floats(0, 0.999), st.integers(20, 2000))
def test_pairing_halves_what_the_arms_share(correlation: float, n: int) -> None:
    matrix = paired(SIGMA, correlation).at(n)
    assert matrix[0, 0] == pytest.approx(2 * (1 - correlation) * SIGMA**2 / (n - 1))
    assert matrix[0, 1] == pytest.approx(matrix[0, 0] / 2)


def test_more_probes_less_noise() -> None:
    widths = [effect(paired(SIGMA, 0.99), n).width for n in (50, 300, 1000)]
    assert widths[0] > widths[1] > widths[2] > effect(NO_NOISE).width


def simulated(rng: np.random.Generator, n: int = 200, runs: int = 3, change: float = 0.05) -> pd.DataFrame:
    """Probe rows of two arms: gaps spread by 0.5 between probes, changed by mean -0.01 or 0.03 and SD `change`."""
    probe_level, positive = rng.normal(0.1, 0.5, n), rng.normal(3, 0.4, n)
    rows = []
    for gamma, mean in ((0.0, -0.01), (0.1, 0.03)):
        for run in range(runs):
            after = probe_level + rng.normal(mean, change, n)
            rows += [
                {
                    "run": f"{gamma}-{run}", "seed": run, "rho_weight": 0.2, "margin": gamma, "behavior": "bias",
                    "split": "eval", "probe": f"p{i}", "positive": positive[i], "negative": positive[i] + after[i],
                    "before_positive": positive[i], "before_negative": positive[i] + probe_level[i],
                }
                for i in range(n)
            ]  # fmt: skip
    return pd.DataFrame(rows)


def test_measured_noise_of_simulated_probes() -> None:
    rng = np.random.default_rng(1)
    (scores,) = scores_of(simulated(rng))
    found = measure(scores, rng, draws=600)
    assert (found.behavior, found.n, len(found.runs)) == ("bias", 200, 6)
    assert found.gap_error == pytest.approx(0.5 / 200**0.5, rel=0.15)
    assert found.gap_bootstrap == pytest.approx(found.gap_error, rel=0.12)
    assert found.correlation == pytest.approx(0.5**2 / (0.5 * np.hypot(0.5, 0.05)), abs=0.01)
    assert found.paired_error == pytest.approx(0.05 / 200**0.5, rel=0.1)
    assert found.unpaired_error > 10 * found.paired_error
    label = np.repeat([1, 0], 200)
    expected = stats.spearmanr(-np.concatenate(scores.sides), label).statistic
    assert found.rho == pytest.approx(expected)
    # Pairs share their level here, so the formula for independent texts overstates the noise of ρ.
    assert found.rho_bootstrap < found.rho_formula


def test_measured_covariance_of_the_two_arms() -> None:
    rng = np.random.default_rng(2)
    (scores,) = scores_of(simulated(rng, n=4000, runs=1))
    matrix = paired_noise(scores, (0.0, 0.1)).at(4000)
    assert np.diag(matrix) == pytest.approx([0.05**2 / 4000] * 2, rel=0.1)
    assert matrix[0, 1] == pytest.approx(0, abs=0.1 * matrix[0, 0])
    free = unpaired_noise(scores, (0.0, 0.1)).at(4000)
    assert np.diag(free) == pytest.approx([2 * 0.5**2 / 4000] * 2, rel=0.1)


def test_resampled_probes_bracket_gamma_star() -> None:
    rng = np.random.default_rng(3)
    (scores,) = scores_of(simulated(rng, n=400))
    low, high = resampled_probes(scores, NOTES, rng, draws=1000)
    assert low < 0.025 < high
    assert high - low < 0.03


def test_draws_in_which_nothing_moved_have_no_margin_and_no_nan() -> None:
    frame = simulated(np.random.default_rng(7), n=12)
    still = frame["probe"] != "p0"
    frame.loc[still, "negative"] = (
        frame.loc[still, "positive"] + frame.loc[still, "before_negative"] - (frame.loc[still, "before_positive"])
    )
    frame["wording"] = frame["probe"].map(lambda name: " ".join(f"{letter}{name}" for letter in "abcdef"))
    (scores,) = scores_of(frame)
    low, high = resampled_probes(scores, NOTES, np.random.default_rng(8), draws=400)
    assert not np.isnan([low, high]).any() and high == np.inf


def test_ten_copies_of_a_wording_are_one_probe_in_the_noise_of_gamma_star() -> None:
    once = simulated(np.random.default_rng(5), n=40)
    words = {f"p{i}": " ".join(f"{letter}{i}" for letter in "abcdef") for i in range(40)}
    copies = [once.assign(probe=once["probe"] + f"-{k}", wording=once["probe"].map(words)) for k in range(10)]
    (single,), (many,) = scores_of(once), scores_of(pd.concat(copies))
    assert (many.n, len(set(many.clusters))) == (400, 40)
    for noise in (paired_noise, unpaired_noise):
        a, b = noise(single, (0.0, 0.1)).at(40), noise(many, (0.0, 0.1)).at(400)
        assert b == pytest.approx(a)
    widths = [
        high - low
        for scores in (single, many)
        for low, high in [resampled_probes(scores, NOTES, np.random.default_rng(6), draws=1000)]
    ]
    assert widths[1] == pytest.approx(widths[0], rel=0.1)


def test_probes_that_not_every_run_scored_are_left_out() -> None:
    frame = simulated(np.random.default_rng(4), n=20)
    frame = frame[~((frame["probe"] == "p3") & (frame["run"] == "0.0-1"))]
    (scores,) = scores_of(frame)
    assert scores.n == 19
