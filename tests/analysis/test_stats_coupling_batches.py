"""Couplings of many tables at once: the same answers as one by one, and as by hand from all rearrangements."""

from itertools import combinations, permutations

import numpy as np
import pytest
from scipy.stats import spearmanr

from analysis.stats.couplings import coupling_change, coupling_changes, many_spearman_pairs, spearman_pairs


def test_many_tables_give_what_each_gives_alone(rng: np.random.Generator) -> None:
    tables = [rng.normal(size=(n, 4)) for n in (5, 5, 6, 12)]
    tables.append(np.round(rng.normal(size=(5, 4))))  # ties
    tables.append(np.where(rng.random((5, 4)) < 0.1, np.nan, rng.normal(size=(5, 4))))
    together = many_spearman_pairs(tables, np.random.default_rng(1))
    for table, tests in zip(tables, together, strict=True):
        alone = spearman_pairs(table, np.random.default_rng(1))
        assert tests.keys() == alone.keys()
        for pair, test in tests.items():
            exact = len(table) <= 8
            assert test.statistic == pytest.approx(alone[pair].statistic, abs=1e-12)
            assert test.p == pytest.approx(alone[pair].p, abs=1e-12 if exact else 0.03)
            assert test.floor == pytest.approx(alone[pair].floor, abs=1e-12)


def test_p_of_a_coupling_by_all_orders(rng: np.random.Generator) -> None:
    table = rng.normal(size=(5, 2))
    seen = abs(spearmanr(table[:, 0], table[:, 1]).statistic)
    orders = [abs(spearmanr(table[:, 0], table[list(order), 1]).statistic) for order in permutations(range(5))]
    (tests,) = many_spearman_pairs([table], rng)
    assert tests[0, 1].p == pytest.approx(np.mean(np.array(orders) >= seen - 1e-10))
    assert tests[0, 1].floor == pytest.approx(2 / 120)


@pytest.mark.parametrize("ties", [False, True])
def test_change_of_a_coupling_by_all_splits(rng: np.random.Generator, ties: bool) -> None:
    a, b = rng.normal(size=(4, 3)), rng.normal(size=(5, 3))
    if ties:
        a = np.round(2 * a) + np.arange(4)[:, None] // 3
    scaled = np.vstack([(x - np.median(x, axis=0)) / x.std(axis=0, ddof=1) for x in (a, b)])
    pair = (0, 2)
    null = []
    for first in combinations(range(9), 4):
        rest = [row for row in range(9) if row not in first]
        sides = [scaled[list(rows)][:, list(pair)] for rows in (first, rest)]
        rhos = [0.0 if np.ptp(s, axis=0).min() == 0 else spearmanr(s[:, 0], s[:, 1]).statistic for s in sides]
        null.append(rhos[1] - rhos[0])
    test = coupling_change(a, b, rng)[pair]
    assert test.statistic == pytest.approx(null[0], abs=1e-12)
    assert test.p == pytest.approx(np.mean(np.abs(null) >= abs(null[0]) - 1e-10))


def test_many_changes_give_what_each_gives_alone(rng: np.random.Generator) -> None:
    groups = [(rng.normal(size=(5, 3)), rng.normal(size=(k, 3))) for k in (5, 5, 4, 3)]
    groups[1][0][:, 0] = 1.0
    together = coupling_changes(groups, rng)
    assert together == [coupling_change(a, b, rng) for a, b in groups]
    assert together[1][0, 1].status == "degenerate"
    assert together[3][0, 1].status == "not enough data"
