"""The metrics against SciPy, hand-worked cases and simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from rhodb.records import ProbeScoreRow
from runners import metrics

ces = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=4, max_size=40)


def sides(pairs):
    array = np.array(pairs, dtype=float) / 4
    return array[:, 0], array[:, 1]


@given(ces)
def test_rho_is_spearman_between_confidence_and_label(pairs):
    positive, negative = sides(pairs)
    confidence = -np.concatenate([positive, negative])
    label = np.repeat([1, 0], len(positive))
    got = metrics.rho(positive, negative)
    if np.ptp(confidence) == 0:
        assert got is None
    else:
        assert got[0] == pytest.approx(stats.spearmanr(confidence, label).statistic, abs=1e-12)
        assert got[2] == 2 * len(pairs)


@given(ces)
def test_auc_is_the_mann_whitney_statistic(pairs):
    positive, negative = sides(pairs)
    u = stats.mannwhitneyu(negative, positive).statistic
    assert metrics.auc(positive, negative)[0] == pytest.approx(u / len(pairs) ** 2, abs=1e-12)


@given(ces)
def test_truth_corr_is_spearman_over_pairs(pairs):
    positive, negative = sides(pairs)
    got = metrics.truth_corr(positive, negative)
    if np.ptp(positive) == 0 or np.ptp(negative) == 0:
        assert got is None
    else:
        assert got[0] == pytest.approx(stats.spearmanr(-positive, -negative).statistic, abs=1e-12)


def test_gap_and_accuracy_by_hand():
    positive, negative = np.array([1.0, 2.0, 3.0, 1.0]), np.array([2.0, 2.0, 2.0, 3.0])
    assert metrics.gap(positive, negative) == (0.5, pytest.approx(np.std([1, 0, -1, 2], ddof=1) / 2), 4)
    assert metrics.pair_accuracy(positive, negative) == (0.5, 0.25, 4)  # the tie is not right


@pytest.mark.parametrize("metric", [metrics.gap, metrics.auc, metrics.rho, metrics.truth_corr])
def test_standard_errors_match_the_spread_over_repeated_samples(metric):
    rng = np.random.default_rng(7)
    drawn = []
    for _ in range(400):
        prompt = rng.normal(size=120)  # shared by both texts of a pair, which makes them dependent
        drawn.append(metric(prompt + rng.normal(size=120), prompt + 0.4 + rng.normal(size=120))[:2])
    values, errors = np.array(drawn).T
    assert errors.mean() == pytest.approx(values.std(ddof=1), rel=0.15)


def row(key, side, ce, answer=None, split="eval"):
    return ProbeScoreRow(
        probe_set="s", probe_key=key, side=side, split=split, tokens=5, ce=ce,
        answer_tokens=None if answer is None else 2, answer_ce=answer,
    )  # fmt: skip


def test_rows_per_split_and_answer_gap_only_over_pairs_with_a_prompt():
    rows = [row("a", "positive", 1.0, 0.5), row("a", "negative", 2.0, 1.5),
            row("b", "positive", 1.5), row("b", "negative", 1.0),
            row("c", "positive", 1.0, split="train"), row("c", "negative", 1.5, split="train")]  # fmt: skip
    scores = {(s.split, s.metric): s for s in metrics.behavior_scores("bias", rows)}
    assert (scores["eval", "gap"].value, scores["eval", "gap"].n) == (0.25, 2)
    assert (scores["eval", "answer_gap"].value, scores["eval", "answer_gap"].n) == (1.0, 1)
    assert ("train", "answer_gap") not in scores
    assert ("train", "truth_corr") not in scores  # one pair: undefined, so no row


def test_a_probe_with_one_side_is_refused():
    with pytest.raises(ValueError, match="'a' has only its positive side"):
        metrics.behavior_scores("bias", [row("a", "positive", 1.0)])


def test_brier_and_calibration_error_by_hand():
    p = np.array([0.9, 0.9, 0.2, 0.6])
    assert metrics.brier(p)[0] == pytest.approx((0.01 + 0.01 + 0.64 + 0.16) / 4)
    # bins of confidence: 0.9 and 0.9 (both right), 0.8 (wrong), 0.6 (right)
    assert metrics.ece(p)[0] == pytest.approx((0.2 + 0.8 + 0.4) / 4)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_calibration_metrics_stay_in_their_range(p):
    probability = np.array(p)
    for value, _, n in (metrics.brier(probability), metrics.ece(probability)):
        assert 0 <= value <= 1 and n == len(p)


def test_pairs_are_chosen_by_softmax_even_where_the_odds_are_overwhelming():
    chosen = metrics.choice_probability(np.array([-1.0, 0.0, -5000.0]), np.array([-2.0, 0.0, -1.0]))
    assert chosen == pytest.approx([1 / (1 + np.exp(-1)), 0.5, 0.0])


def test_an_honest_coin_is_calibrated():
    rng = np.random.default_rng(0)
    favoured = rng.uniform(0.5, 1, 200_000)
    probability = np.where(rng.random(len(favoured)) < favoured, favoured, 1 - favoured)
    assert metrics.ece(probability)[0] < 0.01


@given(st.lists(st.sampled_from([-1.5, 0.0, 0.25, 2.0, 7.0]), min_size=1, max_size=12))
def test_ranks_are_scipy_s(values):
    assert metrics.ranks_of(np.array(values)).tolist() == stats.rankdata(values).tolist()
