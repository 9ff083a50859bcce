"""The numbers of papers: SciPy's own on the same values, closed forms, and the d and p that the notes print."""

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analysis.stats.conventional import conventional, signed_ranks

values = st.lists(st.floats(-3, 3).map(lambda x: round(x, 3)), min_size=3, max_size=9)


def by_seed(sample) -> dict[int, float]:
    return dict(enumerate(sample))


@given(values, values)
def test_independent_groups_are_scipys(a, b):
    if len(set(a)) < 2 or len(set(b)) < 2:
        return
    found = conventional(by_seed(a), by_seed(b))
    student, welch = stats.ttest_ind(a, b), stats.ttest_ind(a, b, equal_var=False)
    assert (found.student_t, found.student_df, found.student_p) == pytest.approx(
        (student.statistic, student.df, student.pvalue), rel=1e-9, abs=1e-12
    )
    assert (found.welch_t, found.welch_df, found.welch_p) == pytest.approx(
        (welch.statistic, welch.df, welch.pvalue), rel=1e-9, abs=1e-12
    )
    # Cohen's d is Student's t over sqrt(n m / (n + m)).
    size = len(a) * len(b) / (len(a) + len(b))
    assert found.cohens_d == pytest.approx(student.statistic / math.sqrt(size), rel=1e-9, abs=1e-12)


@given(st.lists(st.tuples(st.floats(-3, 3), st.floats(-3, 3)).map(lambda p: (round(p[0], 2), round(p[1], 2))),
                min_size=3, max_size=12))  # fmt: skip
def test_pairs_are_scipys(pairs):
    a, b = ([pair[side] for pair in pairs] for side in (0, 1))
    found = conventional(by_seed(a), by_seed(b))
    differences = np.subtract(a, b)
    assert found.pairs == len(pairs)
    if np.ptp(differences) > 1e-9:
        paired = stats.ttest_rel(a, b)
        assert (found.paired_t, found.paired_df, found.paired_p) == pytest.approx(
            (paired.statistic, paired.df, paired.pvalue), rel=1e-7, abs=1e-9
        )


@pytest.mark.parametrize("n", [2, 3, 5, 8, 12, 25])
def test_signed_ranks_without_ties_are_scipys_exact(n):
    differences = np.random.default_rng(n).normal(0.4, 1, n)
    expected = stats.wilcoxon(differences, method="exact")
    assert signed_ranks(differences) == pytest.approx((expected.statistic, expected.pvalue))


def test_signed_ranks_with_ties_are_all_signs_counted():
    differences = np.array([1.0, -1, 2, 2, 3, -0.5, 2])
    ranks = stats.rankdata(np.abs(differences))
    w = min(ranks[differences > 0].sum(), ranks[differences < 0].sum())
    sums = [sum(r for r, up in zip(ranks, signs, strict=True) if up) for signs in product((0, 1), repeat=7)]
    expected = min(1.0, 2 * sum(s <= w for s in sums) / 2**7)
    assert signed_ranks(differences) == pytest.approx((w, expected))


def test_signed_ranks_of_many_are_scipys_approximation():
    differences = np.random.default_rng(1).normal(0.2, 1, 60)
    expected = stats.wilcoxon(differences, method="approx", correction=False)
    assert signed_ranks(differences) == pytest.approx((expected.statistic, expected.pvalue))


def test_only_seeds_that_both_have_are_pairs_and_unknown_seeds_are_none():
    a, b = {1: 0.1, 2: 0.4, 3: 0.2}, {2: 0.1, 3: 0.3, 4: 0.9}
    found = conventional(a, b)
    expected = stats.ttest_rel([0.4, 0.2], [0.1, 0.3])
    assert found.pairs == 2 and found.paired_p == pytest.approx(expected.pvalue)
    unknown = conventional(a, b, paired=False)
    assert (unknown.pairs, unknown.paired_t, unknown.wilcoxon_p) == (0, None, None)
    assert unknown.student_p == found.student_p


def test_groups_without_spread_or_of_one_value_have_no_t():
    constant = conventional({1: 0.5, 2: 0.5}, {1: 0.2, 2: 0.2})
    assert constant.cohens_d is constant.student_p is constant.welch_p is constant.paired_t is None
    assert constant.wilcoxon_w == 0 and constant.wilcoxon_p == pytest.approx(0.5)  # two signs alike
    single = conventional({1: 0.5}, {1: 0.2, 2: 0.3})
    assert single.student_p is single.notes_d is single.paired_p is None and single.pairs == 1


def test_the_notes_convention_gives_the_d_and_p_that_they_print():
    """Refusal, contrastive-only against SFT-only: means -0.084 and 0.007, d -8.43, p 0.0005 (three seeds a side)."""
    spread = 0.091 / 8.43 / 1.0  # the SD that gives their d where both sides have the same
    around = np.array([-1.0, 0.0, 1.0]) * spread
    found = conventional(by_seed(-0.084 + around), by_seed(0.007 + around))
    assert found.notes_d == pytest.approx(-8.43) and found.cohens_d == pytest.approx(-8.43)
    assert round(found.notes_p, 4) == 0.0005
