"""Agreement of partitions, and whether neighbours move alike."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import adjusted_rand_score

from analysis.landscape.neighbours import Similar, neighbour_test, parted, similar_probes
from analysis.landscape.stability import adjusted_rand, distinct, pairwise_rand, recovery

LABELS = arrays(np.int64, 14, elements=st.integers(0, 4))


@given(LABELS, LABELS)
def test_adjusted_rand_equals_scikit_learn(a, b):
    assert adjusted_rand(a, b) == pytest.approx(adjusted_rand_score(a, b), abs=1e-12)


@given(LABELS)
def test_names_of_clusters_do_not_matter(a):
    assert adjusted_rand(a, 10 - a) == pytest.approx(1.0)
    assert set(recovery(a, [10 - a]).values()) == {1.0}


def test_every_two_draws_are_compared():
    a, b = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    assert pairwise_rand([a, a, b]) == pytest.approx([1.0, -0.5, -0.5])


def test_recovery_is_the_mean_of_the_best_overlap():
    main = np.array([0, 0, 0, 0, 1, 1])
    halved = np.array([0, 0, 2, 2, 1, 1])
    grown = np.array([0, 0, 0, 0, 0, 1])
    found = recovery(main, [halved, grown])
    assert found[0] == pytest.approx((2 / 4 + 4 / 5) / 2)
    assert found[1] == pytest.approx((1 + 1 / 2) / 2)
    assert recovery(main, []) == {}


P = [("bias", "s", str(i)) for i in range(4)]


def test_similar_probes_are_pairs_of_owners_with_their_best_cosine():
    vectors = np.array([[1, 0], [0.6, 0.8], [1, 0], [0, 1], [0.8, 0.6]], np.float32)
    owners = [P[1], P[0], None, P[2], P[1]]
    found = similar_probes(owners, vectors, 0.65)
    assert [(s.first, s.second) for s in found] == [(P[0], P[1]), (P[0], P[2])]
    assert [s.cosine for s in found] == pytest.approx([0.96, 0.8])
    sides = {P[0]: "train", P[1]: "train", P[2]: "eval"}
    assert parted(found, sides, 0.65) == found[1:]
    assert parted(found, sides, 0.85) == []


def planted(rng: np.random.Generator, share: float) -> tuple[dict, dict, list[Similar]]:
    """40 pairs of neighbours whose values have a common part."""
    values, strata, pairs = {}, {}, []
    for number in range(40):
        common = rng.normal()
        first, second = ("bias", "s", f"{number}a"), ("toxicity", "s", f"{number}b")
        for probe in (first, second):
            values[probe] = share * common + (1 - share) * rng.normal()
            strata[probe] = probe[0]
        pairs.append(Similar(first=first, second=second, cosine=0.9))
    return values, strata, pairs


def test_neighbours_with_a_common_part_are_found():
    rng = np.random.default_rng(0)
    test = neighbour_test(*planted(rng, 0.7), draws=499, rng=rng)
    assert test.correlation > 0.6 and test.p == pytest.approx(1 / 500)
    assert test.low < 0 < test.high < test.correlation
    assert (test.probes, test.pairs) == (80, 40)


def test_a_stratum_that_moves_as_a_whole_makes_no_correlation():
    rng = np.random.default_rng(1)
    values, strata, _ = planted(rng, 0.0)
    within = [
        Similar(first=a, second=b, cosine=0.9)
        for behavior in ("bias", "toxicity")
        for a, b in zip(*[iter(sorted(p for p in values if p[0] == behavior))] * 2, strict=True)
    ]
    plain = neighbour_test(values, strata, within, draws=499, rng=np.random.default_rng(2))
    moved = {probe: value + 100 * (probe[0] == "bias") for probe, value in values.items()}
    shifted = neighbour_test(moved, strata, within, draws=499, rng=np.random.default_rng(2))
    assert shifted == plain and plain.p > 0.05


def test_under_no_relation_small_p_values_are_rare():
    found = [
        neighbour_test(*planted(rng, 0.0), draws=99, rng=rng).p
        for rng in (np.random.default_rng(seed) for seed in range(100))
    ]
    assert sum(p <= 0.05 for p in found) <= 12  # binomial(100, .05): P(> 12) is .0015


def test_too_few_or_equal_values_have_no_correlation():
    values, strata, pairs = planted(np.random.default_rng(3), 0.5)
    rng = np.random.default_rng(4)
    assert neighbour_test(values, strata, pairs[:1], draws=99, rng=rng).p is None
    assert neighbour_test(dict.fromkeys(values, 1.0), strata, pairs, draws=99, rng=rng).correlation is None


def test_partitions_are_the_same_whatever_their_clusters_are_called():
    draws = [np.array(labels) for labels in ([0, 0, 1, 2], [5, 5, 0, 1], [0, 1, 1, 2], [2, 0, 0, 1])]
    assert distinct(draws) == 2
