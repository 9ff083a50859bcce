"""Groups of points: are they one cloud, can two of them be told apart, along which axes do the points lie?

Many clouds at once: those of one shape and grouping share their random labellings.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.stats.batches import DRAWS, places_of, random_orders
from analysis.stats.couplings import all_splits
from analysis.stats.permutation import MAX_EXACT, two_sample_floor
from analysis.stats.results import Array, Test, finite, no_test

_CHUNK = 1 << 20
"""Array elements held at a time."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Grouped:
    """Points (points x axes) and the group of each, a whole number from 0 on."""

    points: Array
    codes: tuple[int, ...]


def principal(points: Array) -> tuple[Array, Array]:
    """Shares of variance and loadings (one a row) of the principal components."""
    _, singular, loadings = np.linalg.svd(finite(points, "a cloud") - points.mean(axis=0), full_matrices=False)
    power = singular**2
    return power / power.sum(), loadings


def pseudo_fs(clouds: Sequence[Grouped], rng: np.random.Generator, *, draws: int = DRAWS) -> list[Test]:
    """Between over within sums of squared distances to centroids; random labellings and the observed one."""
    method = f"permutation test of the pseudo-F ({draws} random labellings)"
    found: dict[int, Test] = {}
    for places in _alike(clouds):
        codes = np.array(clouds[places[0]].codes)
        n, k = len(codes), int(codes.max()) + 1
        if k < 2 or n <= k:
            found |= dict.fromkeys(places, no_test("not enough data", method, n))
            continue
        points = finite(np.array([clouds[place].points for place in places]), "a cloud")
        centred = points - points.mean(axis=1, keepdims=True)
        orders = np.vstack([np.arange(n), random_orders(draws, n, rng)])
        # Sums of a group's points by the square root of its size: their squares add up to the sum between groups.
        members = (codes[orders][:, None, :] == np.arange(k)[:, None]) / np.sqrt(np.bincount(codes))[:, None]
        seen, hits = np.empty(0), np.zeros(len(places))
        for sums in _sums(members, centred):
            between = (sums**2).sum(axis=(1, 2))
            seen = seen if seen.size else between[0]  # the first labelling is the observed one
            hits += np.count_nonzero(between >= seen * (1 - 1e-12), axis=0)
        total, p = (centred**2).sum(axis=(1, 2)), hits / (draws + 1)
        rows = zip(places, *(column.tolist() for column in (seen, total, p)), strict=True)
        for place, apart, all_of_it, small in rows:
            if (within := all_of_it - apart) <= 1e-12 * all_of_it:
                found[place] = no_test("degenerate", method, n)
                continue
            found[place] = Test(
                statistic=apart / (k - 1) / (within / (n - k)), p=small, n=n, method=method, floor=1 / (draws + 1),
                p_error=math.sqrt(small * (1 - small) / draws),
            )  # fmt: skip
    return [found[place] for place in range(len(clouds))]


def centroids_apart(pairs: Sequence[Grouped], rng: np.random.Generator) -> list[Test]:
    """Can two groups (0 and 1) be told apart? Distance of their centroids under relabelling of their points.

    Points of group 0 come first. All labellings where there are few, else random ones and the observed one.
    """
    method = "permutation test of the distance of two centroids"
    found: dict[int, Test] = {}
    for places in _alike(pairs):
        codes = pairs[places[0]].codes
        n, k = len(codes), codes.count(0)
        if math.comb(n, k) <= MAX_EXACT:
            chosen = all_splits(n, k)
        else:
            chosen = np.vstack([np.arange(n), random_orders(DRAWS, n, rng)]) < k
        weights = np.where(chosen, 1 / k, -1 / (n - k))[:, None, :]
        sums = _sums(weights, finite(np.array([pairs[place].points for place in places]), "a cloud"))
        null = np.concatenate([np.sqrt((apart[:, 0] ** 2).sum(axis=1)) for apart in sums])
        p = (null >= null[0] * (1 - 1e-10)).mean(axis=0)
        for place, seen, small in zip(places, null[0].tolist(), p.tolist(), strict=True):
            found[place] = Test(statistic=seen, p=small, n=n, method=method, floor=two_sample_floor(k, n - k))
    return [found[place] for place in range(len(pairs))]


def _alike(clouds: Sequence[Grouped]) -> Iterator[list[int]]:
    """The places of clouds with the same numbers of axes and the same grouping."""
    yield from places_of((cloud.points.shape[1], cloud.codes) for cloud in clouds).values()


def _sums(weights: Array, points: Array) -> Iterator[Array]:
    """Weighted sums of points: labellings x groups x axes x clouds, some labellings at a time.

    `weights`: labellings x groups x points; `points`: clouds x points x axes.
    """
    count, n, axes = points.shape
    groups = weights.shape[1]
    # Clouds last: what is summed over lies before them, so that NumPy adds whole rows.
    flat = np.ascontiguousarray(points.transpose(1, 2, 0)).reshape(n, axes * count)
    step = max(1, _CHUNK // (groups * axes * count))
    for start in range(0, len(weights), step):
        some = weights[start : start + step]
        yield (some.reshape(-1, n) @ flat).reshape(len(some), groups, axes, count)
