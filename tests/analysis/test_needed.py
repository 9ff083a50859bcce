"""How much it takes: counts against the tests themselves, planned power against simulation, floors against data."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.findings import Estimate, Test
from analysis.looks import Look, judged
from analysis.needed import (
    failures_for,
    more_for_equivalence,
    seeds_for_change,
    seeds_for_orders,
    seeds_for_rho,
    seeds_for_spread,
)
from analysis.query import Query
from analysis.stats.couplings import coupling_change, spearman_pairs
from analysis.stats.rates import fisher_exact
from analysis.stats.slopes import equivalent_slopes, fit_line
from analysis.stats.spread import brown_forsythe, each_against_rest
from analysis.study import StudyOptions


@pytest.mark.parametrize("level", [0.05, 0.01, 0.001])
def test_so_many_seeds_reach_a_level_and_one_less_does_not(level: float) -> None:
    rng = np.random.default_rng(0)
    n = seeds_for_rho(level)
    line = np.arange(float(n))
    assert spearman_pairs(np.column_stack([line, line]), rng)[0, 1].p <= level
    assert spearman_pairs(np.column_stack([line[1:], line[1:]]), rng)[0, 1].p > level
    n = seeds_for_change(level)
    for rows, reaches in ((n, True), (n - 1, False)):
        if rows >= 4:
            # Floors depend on the data: ties of the difference over splits raise them.
            a, b = rng.normal(size=(2, 20, rows, 2))
            floors = [coupling_change(*pair, rng)[0, 1].floor for pair in zip(a, b, strict=True)]
            assert (min(floors) <= level) is reaches


def test_random_orders_are_not_said_to_reach_what_they_cannot() -> None:
    # 9 seeds would have 2 / 9! = 6e-6, but only 9,999 random orders are tried: t tests begin at 31.
    assert seeds_for_rho(1e-5) == seeds_for_orders(1e-6) == seeds_for_change(1e-5) == 31


def test_failures_of_one_condition_alone() -> None:
    k = failures_for(28, 26, 0.05)
    assert fisher_exact(k, 28, 0, 26).p <= 0.05 < fisher_exact(k - 1, 28, 0, 26).p
    assert failures_for(1, 3, 0.05) is None  # 1 of 1 against 0 of 3: p = 1/4


@given(st.lists(st.lists(st.floats(-9, 9), min_size=3, max_size=3), min_size=2, max_size=4))
def test_no_data_give_a_smaller_p_than_the_floor_of_the_spread_tests(groups: list[list[float]]) -> None:
    for test in (brown_forsythe(groups), each_against_rest(np.array(groups).T)):
        if test.p is not None:
            assert test.floor is not None
            assert test.p >= test.floor * (1 - 1e-9)


def test_the_floor_of_the_spread_tests_is_reached() -> None:
    still, wide = [-1e-9, 0.0, 1e-9, 2e-9, -2e-9], [-1.0, -1.0, 0.0, 1.0, 1.0]
    for sizes in itertools.product((still, wide), repeat=2):
        test = brown_forsythe(sizes)
        assert test.p >= test.floor * (1 - 1e-6)
    assert brown_forsythe([still, wide]).p == pytest.approx(brown_forsythe([still, wide]).floor, rel=1e-3)
    table = np.array([still, still, wide]).T
    assert each_against_rest(table).p == pytest.approx(each_against_rest(table).floor, rel=1e-3)
    assert brown_forsythe([still[:4], wide]).floor is None  # of an even number all may deviate alike


@pytest.mark.parametrize(("groups", "against_rest"), [(2, False), (4, False), (6, True)])
def test_planned_power_of_the_spread_tests(groups: int, against_rest: bool) -> None:
    level = 0.01
    n = seeds_for_spread(groups, level, against_rest=against_rest)
    rng, hits, draws = np.random.default_rng(1), 0, 400
    for _draw in range(draws):
        table = rng.normal(size=(n, groups))
        table[:, 0] *= 2
        hits += (each_against_rest(table) if against_rest else brown_forsythe(list(table.T))).p <= level
    assert 0.68 < hits / draws < 0.92


def test_planned_runs_for_equal_slopes() -> None:
    rng, doses, sd = np.random.default_rng(2), np.repeat([0.0, 0.1, 0.2, 0.5], 5), 0.05

    def passes(times: int, seed: int) -> bool:
        own = np.random.default_rng([7, seed])
        x = np.tile(doses, times)
        a, b = (fit_line(x, x + sd * own.normal(size=x.size)) for _ in range(2))
        return equivalent_slopes(a, b).p <= 0.05

    lines = [fit_line(doses, doses + sd * rng.normal(size=doses.size)) for _ in range(2)]
    times = more_for_equivalence(*lines, tolerance=0.15, level=0.05)
    assert times is not None
    share = np.mean([passes(max(1, round(times)), seed) for seed in range(200)])
    assert 0.6 < share < 0.95  # scatter and slope are estimates


def test_a_finding_says_what_it_would_take() -> None:
    def sentence(test: Test) -> str:
        look = Look(
            detector="d", about={}, what="w", test=test, method="m", reference="",
            effect=Estimate(value=1.0, low=None, high=None, n=5, method="e"),
            seeds_for=lambda level: f"more for {level:.2g}", power_for=lambda level: f"power at {level:.2g}",
        )  # fmt: skip
        return judged([look], StudyOptions(), Query(sql="", parameters={}))[0][0].sentence

    low = sentence(Test(statistic=1.0, p=0.4, n=5, method="t", floor=0.1))
    assert "floor 0.1" in low and "no arrangement of so few gives p below 0.1" in low and "more for 0.05" in low
    high = sentence(Test(statistic=1.0, p=0.4, n=5, method="t", floor=0.01))
    assert "floor 0.01" in high and "power at 0.05" in high and "more for" not in high
    assert "power at" not in sentence(Test(statistic=1.0, p=0.001, n=5, method="t"))
