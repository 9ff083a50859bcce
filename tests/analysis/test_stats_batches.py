"""Many samples at once: the same numbers as one by one, and Monte Carlo in stages that keeps its level."""

import numpy as np
import pytest

from analysis.stats.batches import DRAWS, staged
from analysis.stats.clouds import Grouped, pseudo_fs
from analysis.stats.outliers import grubbs, grubbs_each
from analysis.stats.slopes import slope_test, slope_tests, slopes_vary, slopes_vary_each
from analysis.stats.spread import brown_forsythe, brown_forsythe_each
from analysis.stats.trend import jonckheere_terpstra, jonckheere_terpstra_each


def test_many_give_what_each_gives_alone(rng: np.random.Generator) -> None:
    samples = [rng.normal(size=n) for n in (5, 7, 5, 2)] + [np.ones(5)]
    assert grubbs_each(samples) == [grubbs(sample) for sample in samples]
    cases = [[rng.normal(size=n) for n in sizes] for sizes in ((5, 5, 4), (3, 3), (5, 5, 4))]
    assert brown_forsythe_each(cases) == [brown_forsythe(case) for case in cases]
    assert jonckheere_terpstra_each(cases) == [jonckheere_terpstra(case) for case in cases]
    doses = [np.array([0.0, 0.1, 0.5]), np.array([0.0, 1.0, 2.0])]
    tables = [rng.normal(size=(5, 3)) for _ in doses]
    for test, at, table in zip(slopes_vary_each(doses, tables), doses, tables, strict=True):
        assert test.p == pytest.approx(slopes_vary(at, table).p, abs=1e-12)
    pairs = [(rng.normal(size=6), rng.normal(size=6)) for _ in range(3)]
    assert [t.p for t in slope_tests(pairs, rng)] == [slope_test(x, y, rng).p for x, y in pairs]


@pytest.mark.parametrize("alpha", [0.5, 0.15, 0.1, 0.05, 0.02, 0.01])
def test_stages_keep_the_level_of_true_nulls(rng: np.random.Generator, alpha: float) -> None:
    seen = rng.random(2_000)
    hits, draws = staged(len(seen), lambda which, count: rng.binomial(count, seen[which]))
    p = (1 + hits) / (1 + draws)
    assert np.mean(p <= alpha) <= alpha + 4 * np.sqrt(alpha * (1 - alpha) / len(seen))
    assert set(draws[p <= 0.02].tolist()) <= {1_999, DRAWS}
    assert (draws[seen < 0.005] == DRAWS).all()


def test_clouds_that_lie_apart_are_told_apart(rng: np.random.Generator) -> None:
    codes = (0,) * 5 + (1,) * 5
    points = rng.normal(size=(10, 3))
    one, two = (Grouped(points=points + shift * np.array(codes)[:, None], codes=codes) for shift in (0.0, 10.0))
    none, apart = pseudo_fs([one, two], rng)
    assert none.p is not None and apart.p is not None and none.p > apart.p <= 0.02
    flat = Grouped(points=np.repeat(np.eye(2), 5, axis=0), codes=codes)
    assert pseudo_fs([flat], rng)[0].status == "degenerate"
