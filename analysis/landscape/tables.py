"""The tables of one partition: clusters, behaviors, entangled pairs. Pure: arrays in, frozen rows out."""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

CROSS_BELOW: Final = 0.80
"""A cluster whose dominant behavior has a smaller share is cross-behavior."""
HOMOGENEOUS_ABOVE: Final = 0.80
"""A cluster whose dominant behavior has a larger share counts as redundancy."""
REDUNDANCY_GOAL: Final = 0.80

Reading = Literal["diverse", "moderate", "homogeneous", "unknown"]
Strength = Literal["strong", "moderate", "weak"]
Urgency = Literal["high", "medium", "low"]


@dataclass(frozen=True, kw_only=True)
class Partition:
    """N texts in clusters, as one Louvain run drew them."""

    cluster: NDArray[np.int64]
    """(N,) cluster of each text."""
    behavior: NDArray[np.str_]
    """(N,)"""
    primary: NDArray[np.bool_]
    """(N,) False for variants."""

    def behaviors(self) -> list[str]:
        return sorted(set(self.behavior.tolist()))

    def compositions(self) -> dict[int, Counter[str]]:
        """Texts of each behavior in each cluster, variants included."""
        found: dict[int, Counter[str]] = defaultdict(Counter)
        for cluster, behavior in zip(self.cluster.tolist(), self.behavior.tolist(), strict=True):
            found[cluster][behavior] += 1
        return found


def dominance(composition: Counter[str]) -> float:
    """Share of the most frequent behavior."""
    return max(composition.values()) / composition.total()


def cross_clusters(partition: Partition) -> list[int]:
    """Numbers of the cross-behavior clusters."""
    return [number for number, found in partition.compositions().items() if dominance(found) < CROSS_BELOW]


@dataclass(frozen=True, kw_only=True)
class BehaviorRow:
    """How a behavior's primary probes lie in the landscape."""

    behavior: str
    probes: int
    clustered: int
    """In a cluster of more than one text."""
    singletons: int
    isolation: float
    """Share of singletons [0, 1]."""
    homogeneous: int
    """Clustered probes whose cluster is one of (nearly) one behavior."""
    redundancy: float | None
    """homogeneous / clustered [0, 1]; None if nothing is clustered."""
    in_cross: bool
    """Some text of it (a variant counts) lies in a cross-behavior cluster."""
    partners: int
    """Behaviors that it shares a cross-behavior cluster with."""

    @property
    def reading(self) -> Reading:
        """Redundancy in a word."""
        if self.redundancy is None:
            return "unknown"
        return "diverse" if self.redundancy < 0.5 else "moderate" if self.redundancy <= 0.9 else "homogeneous"

    @property
    def needed(self) -> int:
        """Probes to add, all of which fall into cross-behavior clusters, until redundancy is below the goal."""
        if self.redundancy is None or self.redundancy <= REDUNDANCY_GOAL:
            return 0
        return math.floor(self.homogeneous / REDUNDANCY_GOAL - self.clustered) + 1

    @property
    def needed_of_all(self) -> int:
        """The notes' estimate: redundancy, to three digits, of all probes, as if singletons were redundant, too."""
        redundancy = round(self.redundancy or 0.0, 3)
        if redundancy <= REDUNDANCY_GOAL:
            return 0
        return max(0, math.ceil(int(self.probes * redundancy) / REDUNDANCY_GOAL - self.probes))

    def priority(self, others: int) -> float:
        """The notes' urgency, [0, 1]: redundancy, no shared cluster, few partners among the `others`."""
        alone = 1 - self.partners / others if others else 0.0
        return 0.4 * round(self.redundancy or 0.0, 3) + 0.3 * (not self.in_cross) + 0.3 * alone


def urgency(priority: float) -> Urgency:
    """Priority in a word, at the notes' thresholds."""
    return "high" if priority > 0.8 else "medium" if priority > 0.6 else "low"


def behavior_rows(partition: Partition) -> list[BehaviorRow]:
    """One row a behavior, in alphabetical order."""
    compositions = partition.compositions()
    shared = shared_texts(partition)
    rows = []
    for behavior in partition.behaviors():
        of_behavior = partition.cluster[(partition.behavior == behavior) & partition.primary].tolist()
        clustered = [number for number in of_behavior if compositions[number].total() > 1]
        homogeneous = sum(dominance(compositions[number]) > HOMOGENEOUS_ABOVE for number in clustered)
        partners = {b for a, b in shared if a == behavior}
        rows.append(
            BehaviorRow(
                behavior=behavior,
                probes=len(of_behavior),
                clustered=len(clustered),
                singletons=len(of_behavior) - len(clustered),
                isolation=(len(of_behavior) - len(clustered)) / len(of_behavior) if of_behavior else 0.0,
                homogeneous=homogeneous,
                redundancy=homogeneous / len(clustered) if clustered else None,
                in_cross=bool(partners),
                partners=len(partners),
            )
        )
    return rows


def shared_texts(partition: Partition) -> Mapping[tuple[str, str], int]:
    """(a, b) -> texts of a in the cross-behavior clusters that also hold texts of b. Not symmetric; without zeros."""
    counts: Counter[tuple[str, str]] = Counter()
    compositions = partition.compositions()
    for number in cross_clusters(partition):
        for a, texts in compositions[number].items():
            for b in compositions[number]:
                if a != b:
                    counts[a, b] += texts
    return counts


@dataclass(frozen=True, kw_only=True)
class PairRow:
    """Two behaviors that share cross-behavior clusters."""

    a: str
    b: str
    texts_a: int
    """Texts of a in the shared clusters."""
    texts_b: int

    @property
    def texts(self) -> int:
        """The larger of both, which is the notes' count."""
        return max(self.texts_a, self.texts_b)

    @property
    def strength(self) -> Strength:
        """In a word, at the notes' thresholds."""
        return "strong" if self.texts > 30 else "moderate" if self.texts > 10 else "weak"


def pair_rows(partition: Partition) -> list[PairRow]:
    """All pairs that share a cluster, the most entangled first, then in alphabetical order."""
    shared = shared_texts(partition)
    rows = [PairRow(a=a, b=b, texts_a=count, texts_b=shared[b, a]) for (a, b), count in shared.items() if a < b]
    return sorted(rows, key=lambda row: (-row.texts, row.a, row.b))


def isolated(partition: Partition) -> list[str]:
    """Behaviors without any text in a cross-behavior cluster."""
    return [row.behavior for row in behavior_rows(partition) if not row.in_cross]
