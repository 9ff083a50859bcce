"""Tables of a partition small enough to be worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.landscape.tables import (
    BehaviorRow,
    PairRow,
    Partition,
    behavior_rows,
    cross_clusters,
    isolated,
    pair_rows,
    urgency,
)


def partition(*clusters: str) -> Partition:
    """Each argument is a cluster: letters name behaviors, a letter in upper case is a variant."""
    letters = [(number, letter) for number, cluster in enumerate(clusters) for letter in cluster]
    return Partition(
        cluster=np.array([number for number, _ in letters]),
        behavior=np.array([letter.lower() for _, letter in letters]),
        primary=np.array([letter.islower() for _, letter in letters]),
    )


BY_HAND = partition("aaaaaA", "aabb", "aaaab", "c", "bBcc", "b")
"""Dominance 1, 0.5, 0.8, 1, 0.5, 1: at exactly 0.8 a cluster is neither cross-behavior nor homogeneous."""


def test_clusters_below_the_share_are_cross_behavior():
    assert cross_clusters(BY_HAND) == [1, 4]


def test_rows_by_hand():
    a, b, c = behavior_rows(BY_HAND)
    assert (a.probes, a.clustered, a.singletons, a.homogeneous, a.partners) == (11, 11, 0, 5, 1)
    assert (b.probes, b.clustered, b.singletons, b.homogeneous, b.partners) == (5, 4, 1, 0, 2)
    assert (c.probes, c.clustered, c.singletons, c.homogeneous, c.partners) == (3, 2, 1, 0, 1)
    assert a.redundancy == pytest.approx(5 / 11) and a.isolation == 0
    assert b.isolation == pytest.approx(0.2) and b.redundancy == 0


def test_pairs_count_texts_with_variants_and_take_the_larger_side():
    assert pair_rows(BY_HAND) == [
        PairRow(a="a", b="b", texts_a=2, texts_b=2),
        PairRow(a="b", b="c", texts_a=2, texts_b=2),
    ]
    (only,) = pair_rows(partition("aaBBB"))
    assert (only.texts, only.texts_a, only.texts_b, only.strength) == (3, 2, 3, "weak")


def test_a_behavior_of_its_own_is_isolated_and_has_no_redundancy_without_a_cluster():
    alone = partition("aab", "c", "c")
    assert isolated(alone) == ["c"]
    row = behavior_rows(alone)[2]
    assert (row.redundancy, row.reading, row.needed, row.isolation) == (None, "unknown", 0, 1.0)


@pytest.mark.parametrize(("texts", "strength"), [(31, "strong"), (30, "moderate"), (11, "moderate"), (10, "weak")])
def test_strength_at_its_limits(texts, strength):
    assert PairRow(a="a", b="b", texts_a=texts, texts_b=0).strength == strength


def row(homogeneous: int, clustered: int, probes: int, *, partners: int = 0) -> BehaviorRow:
    return BehaviorRow(
        behavior="a", probes=probes, clustered=clustered, singletons=probes - clustered, isolation=0.0,
        homogeneous=homogeneous, redundancy=homogeneous / clustered, in_cross=partners > 0, partners=partners,
    )  # fmt: skip


def test_the_notes_estimate_for_bias_and_the_one_for_clustered_probes():
    bias = row(271, 282, 357)
    assert (bias.needed_of_all, bias.needed) == (72, 57)


@given(st.integers(1, 200), st.integers(0, 200))
def test_the_probes_needed_are_just_enough(homogeneous, others):
    found = row(homogeneous, homogeneous + others, 2 * (homogeneous + others))
    if found.redundancy > 0.8:
        assert homogeneous < 0.8 * (found.clustered + found.needed) + 1e-9
        assert homogeneous >= 0.8 * (found.clustered + found.needed - 1) - 1e-9
    else:
        assert found.needed == 0


def test_priority_weighs_redundancy_cover_and_partners():
    assert row(1, 1, 1).priority(8) == pytest.approx(0.4 + 0.3 + 0.3)
    assert row(0, 1, 1, partners=8).priority(8) == 0
    assert row(1, 2, 2, partners=2).priority(8) == pytest.approx(0.2 + 0.3 * 0.75)
    assert [urgency(value) for value in (0.81, 0.8, 0.61, 0.6)] == ["high", "medium", "medium", "low"]
