"""Group-sequential t tests: published boundaries at large n, an integral at small n, raw data of another generator."""

import math

import numpy as np
import pytest
from scipy import stats

from analysis.stats.decisions import OPEN, Question, first_outcome, moments
from analysis.stats.multiplicity import adjust, family_levels
from analysis.stats.sequential import GroupSequential, crossing, sequential_p, spent

LARGE = (2_000, 4_000, 6_000, 8_000, 10_000)
SMALL = (3, 5, 8, 12, 16, 20)


def test_constant_boundaries_of_pocock_and_obrien_fleming_have_their_published_level():
    # Jennison & Turnbull 2000, tables 2.1 and 2.3: K = 5, two-sided alpha 0.05
    assert crossing(LARGE, [2.413] * 5) == pytest.approx(0.025, abs=4e-4)
    assert crossing(LARGE, 2.040 * np.sqrt(5 / np.arange(1, 6))) == pytest.approx(0.025, abs=4e-4)


def test_spending_boundaries_approach_the_published_normal_ones():
    # Lan-DeMets for five even looks, one-sided 0.025, as in the tables of gsDesign and rpact
    pocock = GroupSequential(looks=LARGE, spending="pocock").critical(0.025)
    fleming = GroupSequential(looks=LARGE, spending="obrien-fleming").critical(0.025)
    np.testing.assert_allclose(pocock, [2.4380, 2.4268, 2.4101, 2.3966, 2.3859], atol=0.01)
    np.testing.assert_allclose(fleming, [4.8769, 3.3569, 2.6803, 2.2898, 2.0310], atol=0.02)


def test_two_looks_at_three_and_five_values_agree_with_an_integral():
    rule = GroupSequential(looks=(3, 5), spending="pocock")
    first, second = rule.critical(0.05)
    assert first == pytest.approx(stats.t.isf(spent("pocock", 0.6, 0.05), 2), rel=1e-12)

    # σ = 1: over quantiles of the first three values' sum and spread, then two more values in polar coordinates.
    middles = (np.arange(16) + 0.5) / 16
    total, spread = np.meshgrid(stats.norm.ppf(middles) * math.sqrt(3), stats.chi2.ppf(middles, 2))
    radius, angle = np.meshgrid(np.arange(0.025, 6, 0.05), np.arange(0, 2 * math.pi, math.pi / 90))
    x, y = radius * np.cos(angle), radius * np.sin(angle)
    weight = radius * np.exp(-(radius**2) / 2) * 0.05 / 180
    crossed = 0.0
    for s, w in zip(total.flat, spread.flat, strict=True):
        if s / math.sqrt(3) < first * math.sqrt(w / 2):
            sums, squares = s + x + y, w + s * s / 3 + x * x + y * y
            t = sums / np.sqrt(5 * (squares - sums * sums / 5) / 4)
            crossed += float(weight[t >= second].sum())
    assert crossed / total.size == pytest.approx(0.05 - spent("pocock", 0.6, 0.05), abs=1.5e-3)


@pytest.mark.parametrize("spending", ["pocock", "obrien-fleming"])
def test_raw_data_of_unknown_variance_cross_as_often_as_allowed(spending):
    rule = GroupSequential(looks=SMALL, spending=spending)
    x = np.random.Generator(np.random.MT19937(3)).normal(0, 7.0, (60_000, 20))
    t = np.stack([stats.ttest_1samp(x[:, :n], 0.0, axis=1).statistic for n in SMALL], axis=1)
    ever = np.cumsum(t >= rule.critical(0.05), axis=1).astype(bool).mean(axis=0)
    allowed = spent(spending, np.array(SMALL) / 20, 0.05)
    assert np.all(np.abs(ever - allowed) < 4 * np.sqrt(allowed / 60_000) + 1e-4)


def test_normal_boundaries_looked_up_as_significance_levels_would_be_too_lenient_or_strict():
    """Why the boundaries are computed for t: the significance-level approach misses the level at three values."""
    rule = GroupSequential(looks=SMALL, spending="pocock")
    huge = GroupSequential(looks=tuple(500 * n for n in SMALL), spending="pocock")
    translated = stats.t.isf(stats.norm.sf(huge.critical(0.05)), np.array(SMALL) - 1)
    assert abs(crossing(SMALL, translated) - 0.05) > 4 * abs(crossing(SMALL, rule.critical(0.05)) - 0.05)


def test_binding_futility_lowers_the_boundaries_and_keeps_the_level():
    rule = GroupSequential(looks=SMALL)
    plain, binding = rule.critical(0.05), rule.critical_binding(0.05)
    assert np.all(binding <= plain) and binding[-1] < plain[-1] - 0.02
    asked = Question(kind="superiority", direction="greater", margin=1.0, futility="binding")
    x = np.random.Generator(np.random.MT19937(4)).normal(size=(60_000, 20))
    _, shown = first_outcome(asked.bounds(rule), *moments(x, SMALL))
    assert np.mean(shown == 1) <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 60_000)


def test_sequential_p_is_the_level_at_which_the_boundary_is_just_reached():
    rule = GroupSequential(looks=SMALL)
    for level in (0.2, 0.05, 0.004):
        t = rule.critical(level)
        assert sequential_p(rule, [-1.0, t[1] * 1.0001]) == pytest.approx(level, rel=0.02)
    assert sequential_p(rule, [float("nan"), 0.1]) == 1.0


def test_moments_are_those_of_numpy_and_constant_values_have_no_spread():
    x = np.random.default_rng(1).normal(1e6, 1e-3, (4, 20))
    mean, se = moments(x, SMALL)
    for k, n in enumerate(SMALL):
        np.testing.assert_allclose(mean[:, k], x[:, :n].mean(axis=1), rtol=1e-14)
        np.testing.assert_allclose(se[:, k], stats.sem(x[:, :n], axis=1), rtol=1e-5)
    _, still = moments(np.full((1, 20), 0.1), SMALL)
    assert not still.any()
    asked = Question(kind="superiority", direction="greater", margin=0.05)
    assert asked.bounds(GroupSequential(looks=SMALL)).outcome(2, [0.1], [0.0]).tolist() == [OPEN]


def test_levels_of_a_family_are_holms_and_gatekeepings():
    p = np.array([0.012, 0.3, 0.02, 0.001])
    supported = [False] * 4
    while True:
        levels = family_levels(supported, 0.05, "holm")
        new = [done or x <= level for done, x, level in zip(supported, p, levels, strict=True)]
        if new == supported:
            break
        supported = new
    assert supported == list(adjust(p, "holm") <= 0.05)
    assert family_levels([True, False, False], 0.05, "ordered") == [0.05, 0.05, 0.0]


@pytest.mark.parametrize("looks", [(5,), (1, 3), (3, 3), (5, 3)])
def test_a_rule_without_two_rising_looks_is_refused(looks):
    with pytest.raises(ValueError, match="look"):
        GroupSequential(looks=looks)
