"""Any-time inference: e-processes and the confidence sequences made of them, valid at every look there may be.

A Gaussian mean with unknown variance: the ratio of the likelihoods of t under a standardised effect δ ~ N(0, τ²) and
under none, with the right Haar prior on the scale in both (Jeffreys 1961; as an e-process Hendriksen, de Heide &
Grünwald 2021; Wang & Ramdas 2025). One-sided, δ is half-normal. A bounded mean: a mixture of bets (Waudby-Smith &
Ramdas 2024). By Ville's inequality an e-process ever reaches 1/α with probability at most α.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

from analysis.stats.results import Array

EFFECT_SCALE = 1.0
"""τ: SD of the mixture over standardised effects."""
BETS = np.linspace(0.0, 1.0, 52)[1:-1]
"""Shares of the largest bet that cannot ruin, mixed evenly."""


def log_e_value(t: npt.ArrayLike, n: int, *, tau: float = EFFECT_SCALE, one_sided: bool = True) -> Array:
    """Logarithm of the e-value of t after n values.

    With c² = τ² / (1 + n τ²), u² = n t² / (n - 1 + t²) and k = u c / √(1 - c² u²), the integrals over scale and effect
    give (1 - c² u²)^(-n/2) / √(1 + n τ²), times 2 P(t_n <= k √n) where the effect is positive.
    """
    stat = np.asarray(t, dtype=np.float64)
    u = np.sign(stat) * np.sqrt(n / (1 + (n - 1) / np.maximum(stat * stat, 1e-300)))
    c2 = tau * tau / (1 + n * tau * tau)
    rest = 1 - c2 * u * u
    log_e = -0.5 * n * np.log(rest) - 0.5 * math.log1p(n * tau * tau)
    if one_sided:
        log_e = log_e + np.log(2 * special.stdtr(n, u * np.sqrt(c2 * n / rest)))
    return np.asarray(log_e)


@lru_cache(maxsize=4096)
def critical_t(n: int, level: float, *, tau: float = EFFECT_SCALE) -> float:
    """The t at which the one-sided e-value after n values is 1 / level; infinite where no t is enough."""
    wanted = -math.log(level)

    def missing(t: float) -> float:
        return float(log_e_value(t, n, tau=tau)) - wanted

    if n < 2 or missing(1e9) < 0:
        return math.inf
    return float(optimize.brentq(missing, 0.0, 1e9, xtol=1e-10))


@dataclass(frozen=True, kw_only=True)
class AnyTime:
    """Looks whenever somebody likes, none planned."""

    looks: tuple[int, ...]
    """Numbers of values at which it was, or may be, looked: any."""
    tau: float = EFFECT_SCALE

    def critical(self, level: float) -> Array:
        """Boundaries of t, one a look: ever crossed with probability at most `level` where the mean is 0."""
        return np.array([critical_t(n, float(level), tau=self.tau) for n in self.looks])

    def at(self, n: int) -> int:
        """Place of the look after n values."""
        return self.looks.index(n)


def always_valid_p(rule: AnyTime, t: npt.ArrayLike) -> float:
    """1 / the largest one-sided e-value of the looks so far, at most 1."""
    seen = np.asarray(t, dtype=np.float64)
    pairs = [(x, n) for x, n in zip(seen, rule.looks, strict=False) if not math.isnan(x)]
    best = max((float(log_e_value(x, n, tau=rule.tau)) for x, n in pairs), default=0.0)
    return min(1.0, math.exp(-best))


def betting_log_e(values: npt.ArrayLike, mean: float, *, low: float = 0.0, high: float = 1.0) -> Array:
    """Logarithm of the e-process against "the mean is at most `mean`", after each value in [low, high].

    The average over 50 bets λ of Π (1 + λ (x - mean)), λ evenly over (0, 1 / (mean - low)): each factor has mean at
    most 1 under the hypothesis, whatever the law. Raises ValueError for values outside the bounds.
    """
    x = np.asarray(values, dtype=np.float64)
    if ((x < low) | (x > high)).any():
        raise ValueError(f"values must lie in [{low:g}, {high:g}]")
    if mean >= high:
        return np.zeros(x.size)
    largest = 1 / max(mean - low, 1e-9 * (high - low))
    growth = np.cumsum(np.log1p(largest * BETS[:, None] * (x - mean)), axis=1)
    return np.asarray(special.logsumexp(growth, axis=0) - math.log(BETS.size))


def betting_bound(values: npt.ArrayLike, level: float, *, low: float = 0.0, high: float = 1.0) -> float:
    """Lower bound of the mean of bounded values, true at all looks together with probability 1 - `level`.

    The largest mean against which some look so far has an e-value of 1 / level; `low` where there is none.
    """
    x = np.asarray(values, dtype=np.float64)
    wanted = -math.log(level)

    def excluded(mean: float) -> bool:
        return bool((betting_log_e(x, mean, low=low, high=high) >= wanted).any())

    inside, outside = low, high  # e-values fall as the mean rises, so one bisection finds the edge
    if x.size == 0 or not excluded(low + 1e-6 * (high - low)):
        return low
    for _ in range(50):
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if excluded(middle) else (inside, middle)
    return inside
