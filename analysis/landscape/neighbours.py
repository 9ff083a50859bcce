"""Similar probes: which of them a split parts, and whether training moves them alike. Pure functions of arrays."""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.stats.results import average_ranks

ProbeId = tuple[str, str, str]
"""(behavior, set name, key in `probes`)"""


@dataclass(frozen=True, kw_only=True)
class Similar:
    """Two probes and the largest cosine of their texts; first < second."""

    first: ProbeId
    second: ProbeId
    cosine: float


def similar_probes(owners: Sequence[ProbeId | None], vectors: NDArray[np.float32], threshold: float) -> list[Similar]:
    """Pairs of probes with texts whose cosine exceeds the threshold, the most similar first.

    `owners` names the probe of each of the N texts; None leaves a text out. `vectors` (N, D) have norm 1.
    """
    cosines = np.triu(vectors @ vectors.T, k=1)
    best: dict[tuple[ProbeId, ProbeId], float] = {}
    for a, b in zip(*(ends.tolist() for ends in np.nonzero(cosines > threshold)), strict=True):
        first, second = owners[a], owners[b]
        if first is not None and second is not None and first != second:
            pair = (min(first, second), max(first, second))
            best[pair] = max(best.get(pair, 0.0), float(cosines[a, b]))
    ordered = sorted(best.items(), key=lambda entry: (-entry[1], entry[0]))
    return [Similar(first=first, second=second, cosine=cosine) for (first, second), cosine in ordered]


def parted(pairs: Iterable[Similar], sides: Mapping[ProbeId, str], above: float) -> list[Similar]:
    """Those above a cosine whose probes lie on different sides of a split."""
    return [pair for pair in pairs if pair.cosine > above and sides[pair.first] != sides[pair.second]]


@dataclass(frozen=True, kw_only=True)
class NeighbourTest:
    """Do probes change like their neighbours?"""

    correlation: float | None
    """Pearson correlation of a probe's score with the mean score of its neighbours; None for too few or equal ones."""
    low: float | None
    """2.5 % quantile of the correlation under random rearrangement ..."""
    high: float | None
    """... and 97.5 %."""
    p: float | None
    """Two-sided Monte Carlo p: (1 + rearrangements at least as extreme) / (1 + rearrangements)."""
    probes: int
    """Probes with a neighbour."""
    pairs: int


def neighbour_test(
    values: Mapping[ProbeId, float],
    strata: Mapping[ProbeId, Hashable],
    pairs: Sequence[Similar],
    *,
    draws: int,
    rng: np.random.Generator,
) -> NeighbourTest:
    """Correlation of each probe's value with the mean value of its neighbours, tested by permutation.

    Values are replaced by their ranks within a stratum, scaled to mean 0 and SD 1, and rearranged within strata: so a
    stratum (behavior and side of the split) that changes as a whole makes no correlation. The statistic is Moran's I
    with row-standardised weights, up to its scale (Moran 1950; permutation test: Cliff and Ord 1981).
    """
    used = [pair for pair in pairs if pair.first in values and pair.second in values]
    probes = sorted(values)
    number = {probe: index for index, probe in enumerate(probes)}
    weights = np.zeros((len(probes), len(probes)), np.float32)
    for pair in used:
        a, b = number[pair.first], number[pair.second]
        weights[a, b] = weights[b, a] = 1.0
    linked = np.flatnonzero(weights.any(axis=1))
    nothing = NeighbourTest(correlation=None, low=None, high=None, p=None, probes=len(linked), pairs=len(used))
    if len(linked) < 4:
        return nothing
    weights = weights[linked] / weights[linked].sum(axis=1, keepdims=True)
    members: dict[Hashable, list[int]] = defaultdict(list)
    for probe in probes:
        members[strata[probe]].append(number[probe])
    scores = np.zeros(len(probes))
    for indices in members.values():
        scores[indices] = _scaled_ranks([values[probes[i]] for i in indices])
    shuffled = np.repeat(scores[:, None], draws + 1, axis=1)
    for indices in members.values():
        shuffled[indices, 1:] = rng.permuted(shuffled[indices, 1:], axis=0)
    own, around = shuffled[linked], weights @ shuffled.astype(np.float32)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = _correlations(own, around)
    if not np.isfinite(found[0]):
        return nothing
    null = found[1:][np.isfinite(found[1:])]
    extreme = int((np.abs(null) >= abs(found[0]) - 1e-9).sum())
    low, high = np.quantile(null, [0.025, 0.975])
    return NeighbourTest(
        correlation=float(found[0]), low=float(low), high=float(high), p=(1 + extreme) / (1 + len(null)),
        probes=len(linked), pairs=len(used),
    )  # fmt: skip


def _scaled_ranks(values: Sequence[float]) -> NDArray[np.float64]:
    """Average ranks with mean 0 and SD 1; zeros where all are equal."""
    ranks = average_ranks(np.array(values))
    spread = ranks.std()
    return np.zeros(len(ranks)) if spread == 0 else np.asarray((ranks - ranks.mean()) / spread)


def _correlations(a: NDArray[np.float64], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """Pearson correlation of the columns of (n, k) matrices."""
    a, c = a - a.mean(axis=0), b.astype(np.float64) - b.mean(axis=0)
    return np.asarray((a * c).sum(axis=0) / np.sqrt(np.square(a).sum(axis=0) * np.square(c).sum(axis=0)))
