"""`--probe-split cluster` and the cache of vectors."""

from itertools import combinations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rhodb.records import ModelRecord
from rhodb.vectors import WarehouseVectors
from runners.landscape_nodes import load_nodes
from runners.landscape_split import THRESHOLD, cluster_sides, probe_texts
from runners.landscape_vectors import kept_in, vectors_of
from runners.probes import load_probe_sets

PROBES = {("bias", "set", f"p{i}"): (i,) for i in range(12)}


def unit_rows(rng: np.random.Generator, count: int) -> np.ndarray:
    rows = rng.normal(size=(count, 3)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_no_two_similar_probes_are_parted_whatever_the_order(seed):
    vectors = unit_rows(np.random.default_rng(seed), 12)
    sides = cluster_sides(PROBES, vectors)
    for (a, (i,)), (b, (j,)) in combinations(PROBES.items(), 2):
        if vectors[i] @ vectors[j] > THRESHOLD:
            assert sides[a] == sides[b]
    assert cluster_sides(dict(reversed(PROBES.items())), vectors) == sides


def test_a_probe_without_similar_ones_keeps_its_own_side():
    alone = np.eye(12, dtype=np.float32)
    sides = cluster_sides(PROBES, alone)
    assert set(sides.values()) == {"train", "eval"}
    fewer = {probe: nodes for probe, nodes in PROBES.items() if nodes[0] < 5}
    assert cluster_sides(fewer, alone) == {probe: sides[probe] for probe in fewer}


def test_a_chain_of_similar_probes_stays_together():
    angles = np.radians(np.arange(12) * 30)
    chain = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    assert len(set(cluster_sides(PROBES, chain).values())) == 1


def test_both_sentences_of_a_toxicity_pair_link_it():
    texts = {("toxicity", "t", "a+b"): (0, 1), ("factual", "f", "x"): (2,), ("bias", "b", "y"): (3,)}
    vectors = np.array([[1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 1, 0]], np.float32)
    assert len(set(cluster_sides(texts, vectors).values())) == 1


def test_every_probe_of_the_package_has_its_texts():
    sets, nodes = load_probe_sets(), load_nodes(variants=False)
    texts = probe_texts(sets, nodes)
    assert len(texts) == sum(len(s.probes) for s in sets)
    assert all(len(found) == (2 if "+" in key else 1) for (_, _, key), found in texts.items())
    for (behavior, name, _), found in texts.items():
        assert all((nodes[i].behavior, nodes[i].set_name) == (behavior, name) for i in found)


class Counting:
    """An embedder that counts the texts it is asked for; a text's vector is made from its length."""

    record = ModelRecord(
        key="counting", source="tests", revision=None, fingerprint="f", architecture="none", n_layers=0,
        n_parameters=0, quantization=None,
    )  # fmt: skip

    def __init__(self) -> None:
        self.asked: list[str] = []

    def embed(self, texts, *, on_progress=None):
        self.asked += texts
        return np.array([[len(text), 1.5] for text in texts], np.float32).reshape(-1, 2)


def test_vectors_are_computed_once_and_then_come_from_the_warehouse(tmp_path):
    cache, embedder = WarehouseVectors(tmp_path / "w.db"), Counting()
    with kept_in(cache):
        first = vectors_of(embedder, ["a", "bb", "a"])
        again = vectors_of(embedder, ["bb", "ccc", "a"])
    assert embedder.asked == ["a", "bb", "ccc"]
    np.testing.assert_array_equal(first, [[1, 1.5], [2, 1.5], [1, 1.5]])
    np.testing.assert_array_equal(again, [[2, 1.5], [3, 1.5], [1, 1.5]])
    np.testing.assert_array_equal(vectors_of(embedder, ["a"]), [[1, 1.5]])
    assert embedder.asked[3:] == ["a"], "outside the block nothing is looked up"


def test_vectors_of_another_model_are_not_taken(tmp_path):
    embedder = Counting()
    with kept_in(WarehouseVectors(tmp_path / "w.db")):
        vectors_of(embedder, ["a"])
        other = Counting()
        other.record = ModelRecord(**{**vars(Counting.record), "fingerprint": "g"})
        vectors_of(other, ["a"])
    assert other.asked == ["a"]


def test_a_dry_run_reads_but_leaves_no_warehouse(tmp_path):
    with kept_in(WarehouseVectors(tmp_path / "w.db", keep=False)):
        vectors_of(Counting(), ["a"])
    assert list(tmp_path.iterdir()) == []
