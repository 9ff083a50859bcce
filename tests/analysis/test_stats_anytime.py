"""E-processes: the integrals that the closed form stands for, validity on data, bets against a product by hand."""

import math

import numpy as np
import pytest
from scipy import integrate, stats

from analysis.stats.anytime import AnyTime, always_valid_p, betting_bound, betting_log_e, critical_t, log_e_value


@pytest.mark.parametrize(("t", "n"), [(2.5, 3), (-1.0, 3), (4.0, 7), (0.0, 5), (-3.0, 12)])
@pytest.mark.parametrize("tau", [0.5, 1.0, 2.0])
def test_e_value_is_the_integral_of_noncentral_t_densities(t, n, tau):
    null = stats.t.pdf(t, n - 1)

    def ratio(delta: float) -> float:
        return float(stats.nct.pdf(t, n - 1, delta * math.sqrt(n))) / null

    two = integrate.quad(lambda d: ratio(d) * stats.norm.pdf(d, 0, tau), -8 * tau, 8 * tau, limit=200)[0]
    one = integrate.quad(lambda d: ratio(d) * 2 * stats.norm.pdf(d, 0, tau), 0, 8 * tau, limit=200)[0]
    assert math.exp(log_e_value(t, n, tau=tau, one_sided=False)) == pytest.approx(two, rel=1e-5)
    assert math.exp(log_e_value(t, n, tau=tau)) == pytest.approx(one, rel=1e-5)


def test_the_expected_e_value_without_an_effect_is_one():
    for n in (2, 3, 10):
        mean = integrate.quad(lambda t, n=n: math.exp(log_e_value(t, n)) * stats.t.pdf(t, n - 1), -np.inf, np.inf,
                              limit=400)[0]  # fmt: skip
        assert mean == pytest.approx(1.0, rel=1e-4)


def test_boundary_is_where_the_e_value_reaches_one_over_the_level():
    assert critical_t(2, 0.05) == critical_t(3, 0.05) == math.inf
    for n in (4, 10, 100):
        assert math.exp(log_e_value(critical_t(n, 0.05), n)) == pytest.approx(20, rel=1e-6)


def test_false_support_at_any_of_sixty_looks_stays_below_the_level():
    looks = tuple(range(2, 61))
    x = np.random.Generator(np.random.MT19937(5)).normal(size=(20_000, 60))
    n = np.arange(1, 61)
    total, squares = np.cumsum(x, axis=1), np.cumsum(x * x, axis=1)
    t = (total[:, 1:] / np.sqrt(n[1:] * (squares[:, 1:] - total[:, 1:] ** 2 / n[1:]) / (n[1:] - 1)))  # fmt: skip
    ever = (t >= AnyTime(looks=looks).critical(0.05)).any(axis=1).mean()
    assert 0.01 < ever <= 0.05
    naive = (t[:, 1:] >= stats.t.isf(0.05, n[1:-1])[None, :]).any(axis=1).mean()
    assert naive > 0.2


def test_always_valid_p_is_one_over_the_best_e_value():
    rule = AnyTime(looks=(4, 8, 12))
    best = max(math.exp(log_e_value(3.0, 4)), math.exp(log_e_value(1.0, 8)))
    assert always_valid_p(rule, [3.0, 1.0]) == pytest.approx(1 / best)
    assert always_valid_p(rule, [-3.0, float("nan")]) == 1.0


def test_bets_are_the_average_of_products():
    x = [0.9, 0.4, 0.8, 0.7]
    shares = [k / 51 for k in range(1, 51)]
    wealth = np.mean([math.prod(1 + s / 0.5 * (v - 0.5) for v in x) for s in shares])
    assert math.exp(betting_log_e(x, 0.5)[-1]) == pytest.approx(wealth, rel=1e-12)
    with pytest.raises(ValueError, match="must lie"):
        betting_log_e([1.2], 0.5)


def test_betting_bound_covers_rates_at_all_looks_together():
    rng = np.random.Generator(np.random.MT19937(6))
    missed = 0
    for _ in range(800):
        x = rng.random(60) < 0.7
        missed += bool((betting_log_e(x, 0.7) >= math.log(20)).any())
    assert missed / 800 <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 800)
    x = (rng.random(400) < 0.7).astype(float)
    bound = betting_bound(x, 0.05)
    assert 0.55 < bound < 0.75
    assert betting_log_e(x, bound + 1e-6).max() < math.log(20) <= betting_log_e(x, bound - 1e-6).max()
