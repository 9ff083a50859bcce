"""The graph of similar texts and its communities. Pure: vectors and labels in, plain numbers out."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import networkx as nx
import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Community = tuple[int, ...]
"""Node numbers, ascending."""


@dataclass(frozen=True, kw_only=True)
class Edges:
    """Pairs of similar nodes, first < second, ordered by both."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    similarity: NDArray[np.float32]
    """Cosine."""

    def __len__(self) -> int:
        return len(self.first)

    def above(self, threshold: float) -> "Edges":
        """Those above a (higher) threshold."""
        kept = self.similarity > threshold
        return Edges(first=self.first[kept], second=self.second[kept], similarity=self.similarity[kept])


def similar(vectors: Vectors, threshold: float) -> Edges:
    """All pairs of rows whose cosine exceeds the threshold. The rows (N, D) have norm 1."""
    cosines = np.triu(vectors @ vectors.T, k=1)
    first, second = np.nonzero(cosines > threshold)
    return Edges(first=first, second=second, similarity=cosines[first, second])


def communities(
    count: int, edges: Edges, *, seed: int, resolution: float, order: NDArray[np.int64] | None = None
) -> list[Community]:
    """Louvain communities (Blondel et al. 2008) of `count` nodes joined by weighted edges, the largest first.

    Of equally large ones the order is Louvain's. A node without an edge is a community of its own. `order`: the nodes
    as they are handed to Louvain's method, which visits them in it; default: by number.
    """
    if order is None:
        order = np.arange(count)
    place = np.argsort(order)
    ends = np.sort(np.stack([place[edges.first], place[edges.second]]), axis=0)
    rows = np.lexsort((ends[1], ends[0]))
    graph = nx.Graph()
    graph.add_nodes_from(range(count))
    graph.add_weighted_edges_from(
        zip(ends[0][rows].tolist(), ends[1][rows].tolist(), edges.similarity[rows].tolist(), strict=True)
    )
    found = nx.community.louvain_communities(graph, seed=seed, resolution=resolution)
    named = (tuple(sorted(order[list(members)].tolist())) for members in found)
    return sorted(named, key=len, reverse=True)


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A community described."""

    members: Community
    dominant: str
    """The most frequent behavior; of equally frequent ones that of the earliest node."""
    dominance: float
    """Its share of the members, (0, 1]."""
    central: int
    """The node with most edges inside the cluster; of several, one (see `central_ties`)."""
    centrality: float
    """Degree centrality of that node inside the cluster: edges over members - 1; 0 alone."""
    central_ties: int
    """Nodes with as many edges, itself included: where there are several, the choice is arbitrary."""


def describe(members: Community, behaviors: Sequence[str], edges: Edges) -> Cluster:
    """Dominant behavior and central node of a community. `behaviors` names that of every node."""
    dominant, count = Counter(behaviors[node] for node in members).most_common(1)[0]
    degrees = inner_degrees(members, edges)
    # Ties fall to the first in the order of a Python set, as in networkx's subgraphs, from which the notes took it.
    central = max(set(members), key=lambda node: degrees[node])
    return Cluster(
        members=members,
        dominant=dominant,
        dominance=count / len(members),
        central=central,
        centrality=degrees[central] / max(len(members) - 1, 1),
        central_ties=sum(degree == degrees[central] for degree in degrees.values()),
    )


def inner_degrees(members: Community, edges: Edges) -> dict[int, int]:
    """Edges of each member that end inside the community."""
    inside = np.isin(edges.first, members) & np.isin(edges.second, members)
    ends = Counter(np.concatenate([edges.first[inside], edges.second[inside]]).tolist())
    return {node: ends[node] for node in members}


def modularity(found: Sequence[Community], edges: Edges, *, resolution: float) -> float:
    """Weighted modularity Σ (inside/m - γ (degree/2m)²); 0 without edges. Reichardt and Bornholdt 2006."""
    total = float(edges.similarity.sum(dtype=np.float64))
    if total == 0:
        return 0.0
    label = np.empty(sum(map(len, found)), np.int64)
    for number, members in enumerate(found):
        label[list(members)] = number
    ends = label[edges.first], label[edges.second]
    weights = edges.similarity.astype(np.float64)
    inside = weights[ends[0] == ends[1]].sum()
    degree = sum(np.bincount(end, weights, minlength=len(found)) for end in ends)
    return float(inside / total - resolution * np.square(degree / (2 * total)).sum())
