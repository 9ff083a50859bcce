"""Splitting probes so that similar ones stay on one side: `--probe-split cluster`.

A split by hash puts near-duplicates on both sides, so that what was trained on is met again in the evaluation. Here
probes that are linked by similar texts, directly or through others, all go to the side of their smallest key.
Louvain's communities stay whole too, since each lies within one such group; the groups need no seed, and they leave no
two similar probes on different sides.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import networkx as nx

from rhodb.records import Config, ModelRecord, ProbeSetRecord
from runners.landscape_graph import Vectors, similar
from runners.landscape_nodes import Node, load_nodes
from runners.landscape_vectors import vectors_of
from runners.probes import split_of

THRESHOLD: Final = 0.65
"""Texts whose cosine exceeds it are similar, as in the landscape."""

ProbeId = tuple[str, str, str]
"""(behavior, set name, key)"""
EntryId = tuple[str, str, str]
"""(behavior, set name, id in the file): a toxicity probe has two entries, any other probe is one."""


@dataclass(frozen=True, kw_only=True)
class ClusterSplit:
    """A split by groups of similar probes."""

    sides: Mapping[ProbeId, str]
    """train or eval."""
    model: ModelRecord
    """The embedding model."""

    def apply(self, sets: Sequence[ProbeSetRecord]) -> list[ProbeSetRecord]:
        """The sets with this split in place of the one by hash."""
        return [
            replace(s, probes=tuple(replace(p, split=self.sides[s.behavior, s.name, p.key]) for p in s.probes))
            for s in sets
        ]

    @property
    def config(self) -> Config:
        """What the split depends on besides the probes."""
        return {"model": self.model.fingerprint, "threshold": THRESHOLD}


def split_by_cluster(sets: Sequence[ProbeSetRecord], source: str | None) -> ClusterSplit:
    """Split the probes of `sets`, which lie in the folder `source` (None: the package)."""
    from runners.backend.embedding import load_embedder

    embedder = load_embedder()
    nodes = load_nodes(source, variants=False)
    vectors = vectors_of(embedder, [node.text for node in nodes])
    return ClusterSplit(sides=cluster_sides(probe_texts(sets, nodes), vectors), model=embedder.record)


def probe_texts(sets: Sequence[ProbeSetRecord], nodes: Sequence[Node]) -> dict[ProbeId, tuple[int, ...]]:
    """The primary nodes of each probe: one, or both sentences of a toxicity pair."""
    numbers = {
        (node.behavior, node.set_name, node.key): index for index, node in enumerate(nodes) if node.variant == "primary"
    }
    found: dict[ProbeId, tuple[int, ...]] = {}
    for s in sets:
        for probe in s.probes:
            whole = numbers.get((s.behavior, s.name, probe.key))
            parts = [probe.key] if whole is not None else probe.key.split("+")
            found[s.behavior, s.name, probe.key] = tuple(numbers[s.behavior, s.name, part] for part in parts)
    return found


def cluster_sides(texts: Mapping[ProbeId, tuple[int, ...]], vectors: Vectors) -> dict[ProbeId, str]:
    """Side of each probe: that of the smallest key among the probes that it is linked with."""
    edges = similar(vectors, THRESHOLD)
    owner: dict[int, ProbeId] = {node: probe for probe, nodes in texts.items() for node in nodes}
    graph = nx.Graph()
    graph.add_nodes_from(texts)
    for first, second in zip(edges.first.tolist(), edges.second.tolist(), strict=True):
        if first in owner and second in owner:
            graph.add_edge(owner[first], owner[second])
    sides: dict[ProbeId, str] = {}
    for group in nx.connected_components(graph):
        sides |= dict.fromkeys(group, split_of("/".join(min(group))))
    return sides
