"""Ratio of two standard deviations over the same seeds: the interval is exact whatever their correlation."""

import numpy as np
import pytest
from scipy import stats

from analysis.anomalies.variance import BOOTSTRAP_FROM, sd_ratio
from analysis.stats.intervals import paired_sd_ratio_interval


@pytest.mark.parametrize("correlation", [0.0, 0.9])
def test_the_interval_covers_at_its_level_with_five_seeds(correlation: float, rng: np.random.Generator) -> None:
    covered = 0
    for _ in range(1_000):
        x = rng.normal(size=5)
        y = 3 * (correlation * x + np.sqrt(1 - correlation**2) * rng.normal(size=5))
        found = paired_sd_ratio_interval(x, y)
        assert found.low is not None and found.high is not None
        covered += found.low <= 3 <= found.high
    assert 0.929 <= covered / 1_000 <= 0.971  # three binomial errors


def test_its_ends_are_where_sum_and_difference_just_correlate(rng: np.random.Generator) -> None:
    x, y = rng.normal(size=6), 2 * rng.normal(size=6)
    found = paired_sd_ratio_interval(x, y)
    for end in (found.low, found.high):
        assert end is not None
        scaled = y / end
        assert stats.pearsonr(x + scaled, x - scaled).pvalue == pytest.approx(0.05, rel=1e-6)
    turned = paired_sd_ratio_interval(y, x)
    assert (turned.low, turned.high) == pytest.approx((1 / found.high, 1 / found.low))  # type: ignore[operator]


def test_ratios_without_data_or_variation() -> None:
    assert paired_sd_ratio_interval([1, 2], [1, 2]).status == "not enough data"
    assert paired_sd_ratio_interval([1, 1, 1], [1, 2, 3]).status == "degenerate"
    with pytest.raises(ValueError, match="got 3 and 2"):
        paired_sd_ratio_interval([1, 2, 3], [1, 2])


def test_few_seeds_are_never_bootstrapped(rng: np.random.Generator) -> None:
    a, b = rng.normal(size=(2, BOOTSTRAP_FROM))
    assert "bootstrap" in sd_ratio(a, b, 0.95, rng, same_seeds=True).method
    few = BOOTSTRAP_FROM - 1
    assert "Pitman-Morgan" in sd_ratio(a[:few], b[:few], 0.95, rng, same_seeds=True).method
    assert "F interval" in sd_ratio(a[:few], b[:4], 0.95, rng, same_seeds=False).method
