"""The simulation's own parts: the fixed design is the noncentral t's, laws have the stated moments, rows are whole."""

import numpy as np
import pytest
from statsmodels.stats.power import TTestPower

from analysis import simulate_decisions as sim


def test_fixed_design_is_that_of_statsmodels():
    for effect in (0.5, 0.8, 1.2):
        n = sim.fixed_seeds(effect, 0.05, 0.9)
        power = [TTestPower().power(effect, k, 0.05, alternative="larger") for k in (n - 1, n)]
        assert power[0] < 0.9 <= power[1]


def test_every_law_has_mean_zero_and_about_one_sd():
    for place, law in enumerate(sim.LAWS):
        x = sim.draws_of(law, place, 4_000)
        assert abs(x.mean()) < 4 * x.std() / np.sqrt(x.size), law.name
        assert x.std() == pytest.approx(1.0, abs=0.06), law.name


def test_naive_looking_is_far_over_the_level_and_the_rules_are_not():
    x = sim.draws_of(sim.LAWS[0], 0, 3_000)
    assert sim.naive_bounds_crossed(x, 0.05).mean() > 0.15
    for rule in sim.RULES.values():
        _, shown = sim.outcomes(rule, sim.question(1.0), x)
        assert (shown == sim.UP).mean() <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 3_000)


def test_a_family_of_one_is_the_rule_alone():
    x = sim.draws_of(sim.LAWS[0], 1, 2_000)
    rule = sim.RULES["pocock"]
    mean, se = sim.moments(x, rule.looks)
    alone = (mean / se >= rule.critical(0.05)).any(axis=1)
    assert (sim.family_supported(rule, x[:, None], 0.05)[:, 0] == alone).all()
