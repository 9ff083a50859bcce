"""The graph of similar texts and its communities."""

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runners.landscape_graph import Edges, communities, describe, inner_degrees, modularity, similar


def edges_of(*pairs: tuple[int, int], weight: float = 1.0) -> Edges:
    ends = np.array(sorted(pairs), np.int64).reshape(-1, 2)
    return Edges(first=ends[:, 0], second=ends[:, 1], similarity=np.full(len(ends), weight, np.float32))


TRIANGLES = edges_of((0, 1), (0, 2), (1, 2), (3, 4), (3, 5), (4, 5), (2, 3))


def test_similar_rows_are_joined_once_and_no_row_with_itself():
    angles = np.radians([0, 30, 90])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    edges = similar(vectors, 0.4)
    assert list(zip(edges.first.tolist(), edges.second.tolist(), strict=True)) == [(0, 1), (1, 2)]
    np.testing.assert_allclose(edges.similarity, [np.sqrt(3) / 2, 0.5], rtol=1e-6)
    assert len(edges.above(0.6)) == 1


def test_two_triangles_with_a_bridge_are_two_communities_and_the_loner_a_third():
    assert communities(7, TRIANGLES, seed=42, resolution=1.0) == [(0, 1, 2), (3, 4, 5), (6,)]


def test_a_graph_without_edges_has_communities_of_one():
    assert communities(3, edges_of(), seed=1, resolution=1.0) == [(0,), (1,), (2,)]


def test_a_cluster_is_described_by_majority_and_most_connected_node():
    star = edges_of((0, 1), (1, 2), (1, 3), (3, 4))
    cluster = describe((0, 1, 2, 3), ["bias", "toxicity", "toxicity", "bench", "bias"], star)
    assert (cluster.dominant, cluster.dominance) == ("toxicity", 0.5)
    assert (cluster.central, cluster.centrality, cluster.central_ties) == (1, 1.0, 1)
    assert inner_degrees((0, 1, 2, 3), star) == {0: 1, 1: 3, 2: 1, 3: 1}


def test_equally_frequent_behaviors_fall_to_the_first_node_and_ties_are_counted():
    cluster = describe((0, 1), ["reasoning", "bench"], edges_of((0, 1)))
    assert (cluster.dominant, cluster.dominance, cluster.central_ties) == ("reasoning", 0.5, 2)


def test_a_lone_node_has_no_centrality():
    cluster = describe((2,), ["bias"] * 3, edges_of((0, 1)))
    assert (cluster.dominance, cluster.central, cluster.centrality) == (1.0, 2, 0.0)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.5, 1.0, 2.0]))
def test_modularity_equals_networkx(seed, resolution):
    rng = np.random.default_rng(seed)
    pairs = [(a, b) for a in range(8) for b in range(a + 1, 8) if rng.random() < 0.4] or [(0, 1)]
    edges = edges_of(*pairs)
    edges = Edges(first=edges.first, second=edges.second, similarity=rng.uniform(0.5, 1, len(edges)).astype(np.float32))
    found = communities(8, edges, seed=1, resolution=resolution)
    graph = nx.Graph()
    graph.add_nodes_from(range(8))
    graph.add_weighted_edges_from(zip(edges.first, edges.second, edges.similarity.astype(float), strict=True))
    wanted = nx.community.modularity(graph, found, resolution=resolution)
    assert modularity(found, edges, resolution=resolution) == pytest.approx(wanted, abs=1e-9)


def test_another_order_is_the_graph_with_its_nodes_renamed():
    """networkx's own call on the renamed graph, its answer named back."""
    rng = np.random.default_rng(3)
    pairs = [(i, j) for i in range(40) for j in range(i + 1, 40) if rng.random() < 0.12]
    edges, order = edges_of(*pairs), rng.permutation(40)
    graph = nx.Graph()
    graph.add_nodes_from(range(40))
    place = {int(node): at for at, node in enumerate(order)}
    graph.add_edges_from(sorted(tuple(sorted((place[i], place[j]))) for i, j in pairs), weight=1.0)
    expected = nx.community.louvain_communities(graph, seed=5)
    named = {frozenset(int(order[at]) for at in members) for members in expected}
    found = communities(40, edges, seed=5, resolution=1.0, order=order)
    assert {frozenset(members) for members in found} == named
    orders = [communities(40, edges, seed=5, resolution=1.0, order=rng.permutation(40)) for _ in range(8)]
    assert len({frozenset(map(frozenset, one)) for one in orders}) > 1, (
        "the order matters: so it is fixed, and reported"
    )
