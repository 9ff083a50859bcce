"""Estimates after stopping: Student's interval without stopping, known normal theory at many values, coverage."""

import numpy as np
import pytest
from scipy import stats

from analysis.stats.decisions import Bounds, Edge, Question, first_outcome, moments
from analysis.stats.sequential import GroupSequential
from analysis.stats.stopped import share_above, stopped_estimate

LOOKS = (3, 5, 8, 12, 16, 20)
ASKED = Question(kind="superiority", direction="greater", margin=0.8)


def test_where_nothing_could_have_stopped_it_is_students_interval():
    never = Bounds(up=Edge(at=0.0, critical=np.full(2, np.inf)))
    x = np.random.default_rng(2).normal(0.4, 1.0, 12)
    found = stopped_estimate(x, never, (6, 12))
    low, high = stats.t.interval(0.95, 11, x.mean(), stats.sem(x))
    assert found.value == pytest.approx(x.mean(), abs=0.02)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.03)


def test_with_much_data_it_is_the_stagewise_interval_of_normal_theory():
    looks, se = (1_000, 2_000), 1 / np.sqrt(2_000)
    first, second = GroupSequential(looks=looks).critical(0.05)
    x = np.random.default_rng(3).normal(size=2_000)
    x = (x - x.mean()) / x.std(ddof=1) + 2.2 * se
    bounds = Bounds(up=Edge(at=0.0, critical=np.array([first, second])))
    found = stopped_estimate(x, bounds, looks)

    def normal_p(mean: float) -> float:
        """P(z1 >= first) + P(z1 < first, z2 >= 2.2) by SciPy's bivariate normal."""
        m1, m2 = mean * np.sqrt(1_000), mean * np.sqrt(2_000)
        both = stats.multivariate_normal([m1, -m2], [[1, -np.sqrt(0.5)], [-np.sqrt(0.5), 1]])
        return float(stats.norm.sf(first - m1) + both.cdf([first, -2.2]))

    for limit, p in ((found.value, 0.5), (found.low, 0.025), (found.high, 0.975)):
        assert normal_p(limit) == pytest.approx(p, abs=0.01)
    assert found.value < x.mean()


def test_coverage_and_the_median_hold_where_the_naive_mean_is_too_large():
    rule = GroupSequential(looks=LOOKS)
    bounds = ASKED.bounds(rule)
    x = np.random.Generator(np.random.MT19937(9)).normal(1.2, 1.0, (600, 20))
    mean, se = moments(x, LOOKS)
    look, _ = first_outcome(bounds, mean, se)
    p = np.array([share_above(1.2, v[: LOOKS[k]], bounds, LOOKS[: k + 1], paths=2_000)
                  for v, k in zip(x, look, strict=True)])  # fmt: skip
    assert 0.925 <= np.mean((p >= 0.025) & (p <= 0.975)) <= 0.98
    assert np.mean(p > 0.5) == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(600))
    assert mean[np.arange(600), look].mean() > 1.3


def test_the_last_look_must_be_after_all_values():
    with pytest.raises(ValueError, match="last look"):
        stopped_estimate([1.0, 2.0, 3.0, 4.0], ASKED.bounds(GroupSequential(looks=LOOKS)), (3,))
