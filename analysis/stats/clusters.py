"""Means over values that come in clusters: cluster-robust standard errors, and resampling of whole clusters."""

import math

import numpy as np
import numpy.typing as npt

from analysis.stats.intervals import t_quantile
from analysis.stats.rates import wilson_limits
from analysis.stats.results import Array, Estimate, as_sample, finite, is_constant, no_estimate

RATE_METHOD = "Wilson score interval, clusters of answers as single trials"
METHOD = "mean, cluster-robust standard error, Student t with one degree of freedom less than clusters"


def clustered_error(values: npt.ArrayLike, clusters: npt.ArrayLike) -> float | None:
    """Standard error of the mean (Liang & Zeger 1986, times G / (G - 1)); SD / sqrt(n) for clusters of one value.

    None with fewer than two clusters.
    """
    sample = as_sample(values)
    _, codes = np.unique(np.asarray(clusters), return_inverse=True)
    groups = int(codes.max()) + 1 if codes.size else 0
    if groups < 2:
        return None
    sums = np.bincount(codes, weights=sample - sample.mean())
    return math.sqrt(groups / (groups - 1) * float((sums**2).sum())) / sample.size


def clustered_mean(values: npt.ArrayLike, clusters: npt.ArrayLike, *, level: float = 0.95) -> Estimate:
    """Mean with an interval that takes values of one cluster for as alike as they turn out; n counts clusters."""
    sample = as_sample(values)
    groups = len(np.unique(np.asarray(clusters)))
    error = clustered_error(sample, clusters)
    if error is None:
        value = float(sample.mean()) if sample.size else None
        return no_estimate("not enough data", METHOD, groups, value=value, level=level)
    mean = float(sample.mean())
    if is_constant(sample):
        return no_estimate("degenerate", METHOD, groups, value=mean, level=level)
    half = t_quantile(groups - 1, level) * error
    return Estimate(value=mean, low=mean - half, high=mean + half, n=groups, method=METHOD, level=level)


def clustered_rate(outcomes: npt.ArrayLike, clusters: npt.ArrayLike, *, level: float = 0.95) -> Estimate:
    """Share of ones with Wilson's interval, taking the outcomes of a cluster for one trial; n counts clusters.

    The effective number of trials is N² / sum of squared cluster sizes (Kish 1965, at an intraclass correlation of 1):
    the number of clusters where they are alike. That is the widest that dependence inside clusters can ask for; an
    estimate of it would rest on the few clusters with any ones at all.
    """
    sample = as_sample(outcomes)
    _, sizes = np.unique(np.asarray(clusters), return_counts=True)
    if not sample.size:
        return no_estimate("not enough data", RATE_METHOD, 0, level=level)
    rate = float(sample.mean())
    low, high = wilson_limits(rate, sample.size**2 / float((sizes.astype(float) ** 2).sum()), level)
    return Estimate(value=rate, low=low, high=high, n=len(sizes), method=RATE_METHOD, level=level)


def resampled_means(table: Array, clusters: npt.ArrayLike, rng: np.random.Generator, *, draws: int) -> Array:
    """Means of every row of `table` (rows x values) as clusters of columns are drawn with replacement: draws x rows."""
    _, codes = np.unique(np.asarray(clusters), return_inverse=True)
    groups = int(codes.max()) + 1
    member = (codes[:, None] == np.arange(groups)).astype(np.float64)
    times = rng.multinomial(groups, np.full(groups, 1 / groups), size=draws).astype(np.float64)
    return np.asarray((times @ (finite(table, "a table") @ member).T) / (times @ member.sum(axis=0))[:, None])
