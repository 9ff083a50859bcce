"""Corrections for the number of looks: Holm (family-wise error) and Benjamini-Hochberg (false discovery rate)."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from analysis.stats.results import Array, as_sample

Correction = Literal["holm", "bh", "none"]
Procedure = Literal["holm", "ordered"]
"""How a family of registered hypotheses shares its alpha."""


def adjust(p_values: npt.ArrayLike, correction: Correction) -> Array:
    """Adjusted p values in the order given; the correction counts exactly the values given."""
    p = as_sample(p_values)
    if ((p < 0) | (p > 1)).any():
        raise ValueError("p values must lie in [0, 1]")
    if correction == "holm":
        return holm(p)
    return benjamini_hochberg(p) if correction == "bh" else p


def holm(p: Array) -> Array:
    """Step-down: the largest (m - i + 1) p_(i) so far, at most 1 (Holm 1979); valid under any dependence."""
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1)) if p.size else p
    return _in_order(steps, order)


def benjamini_hochberg(p: Array) -> Array:
    """Step-up: the smallest m p_(i) / i from here on, at most 1 (Benjamini & Hochberg 1995)."""
    order = np.argsort(p, kind="stable")
    scaled = p[order] * p.size / np.arange(1, p.size + 1)
    return _in_order(np.minimum.accumulate(scaled[::-1])[::-1] if p.size else p, order)


def _in_order(adjusted: Array, order: npt.NDArray[np.intp]) -> Array:
    result = np.empty_like(adjusted)
    result[order] = np.minimum(adjusted, 1.0)
    return result


def family_levels(supported: Sequence[bool], alpha: float, procedure: Procedure) -> list[float]:
    """Level at which each claim of a registered family is tested, given which ones are supported so far.

    holm: alpha over the number of claims that are not supported yet. ordered: all of alpha for the first claim that is
    not supported, nothing for those behind it (hierarchical gatekeeping). With tests that are sequential each, levels
    may be handed on at any look (Ye, Li, Liu & Yao 2013): boundaries only fall as the level rises.
    """
    left = [place for place, done in enumerate(supported) if not done]
    if procedure == "ordered":
        return [alpha if done or place == left[0] else 0.0 for place, done in enumerate(supported)]
    return [alpha / max(len(left), 1)] * len(supported)
