"""Simulated warehouses: the detectors find what is planted and call artefacts by their name."""

import pytest
from scipy.stats import binom

from analysis.simulate import SCENARIOS, simulate, table

FEW = 3
SILENT = [s for s in SCENARIOS if s.detector is None]
PLANTED = [s for s in SCENARIOS if s.detector is not None]


@pytest.mark.parametrize("scenario", PLANTED, ids=lambda s: s.name)
def test_each_detector_finds_its_own(scenario):
    assert simulate(scenario, FEW).hits >= FEW - 1


def test_warehouses_without_effects_are_mostly_silent():
    tallies = [simulate(scenario, 12, seed=1) for scenario in SILENT]
    n = sum(tally.n for tally in tallies)
    # At a family-wise 5 % a right program exceeds this bound once in 500 runs, one at 20 % in nine of ten.
    assert sum(tally.supported for tally in tallies) <= binom.ppf(0.998, n, 0.05)
    assert binom.sf(binom.ppf(0.998, n, 0.05), n, 0.2) > 0.9


def test_the_table_states_counts_and_intervals():
    tally = simulate(PLANTED[0], 2)
    page = table([tally])
    assert f"{tally.hits}/2 [" in page
    assert tally.scenario.name in page


def test_a_simulation_repeats_itself():
    assert simulate(SILENT[0], 2, seed=5) == simulate(SILENT[0], 2, seed=5)
