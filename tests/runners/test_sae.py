"""Sparse autoencoder: its formulas by hand, what training reaches, the permutation null, and the runs."""

import json
import sqlite3
from contextlib import closing

import mlx.core as mx
import numpy as np
import pytest

from rhodb.errors import InputError
from runners.backend.sae import GatedSae, SaeSpec, rank_features, train_sae
from runners.backend.scoring import PairText, score_pairs
from runners.backend.steering import PrefixScorer

SPEC = SaeSpec(features=32, epochs=60, batch=64, lr=3e-3, sparsity=1.0)


def sparse_data(n=600, seed=0):
    """Activations that are sparse sums of twelve directions in 16 dimensions."""
    rng = np.random.default_rng(seed)
    directions = rng.standard_normal((12, 16))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    codes = rng.uniform(1, 3, (n, 12)) * (rng.random((n, 12)) < 0.15)
    return (codes @ directions + 5).astype(np.float32)


@pytest.fixture(scope="module")
def trained():
    data = sparse_data()
    return train_sae(data, SPEC, np.random.default_rng(1)), data


def hand_made() -> GatedSae:
    """Two features of a two-dimensional stream."""
    weights = {
        "encoder": mx.array([[1.0, 0.0], [0.0, 1.0]]),
        "gate_bias": mx.array([-0.5, 0.0]),
        "magnitude_bias": mx.array([0.0, 1.0]),
        "log_scale": mx.array([float(np.log(2)), 0.0]),
        "decoder": mx.array([[1.0, 0.0], [0.6, 0.8]]),
        "decoder_bias": mx.array([0.0, 1.0]),
    }
    return GatedSae(weights, center=mx.array([1.0, 1.0]), scale=2.0)


def test_features_and_decoding_by_hand():
    # (x - center) / scale - decoder_bias = (1, 2) and (0.25, -1)
    x = mx.array([[3.0, 7.0], [1.5, 1.0]])
    features = np.array(hand_made().features(x))
    assert np.allclose(features, [[2.0, 3.0], [0.0, 0.0]])  # the second point's gates are -0.25 and -1: closed
    assert np.allclose(np.array(hand_made().decode(mx.array(features))), [[1 + 2 * 3.8, 1 + 2 * 3.4], [1, 3]])


def test_scaling_moves_the_stream_by_the_features_part_only():
    x = mx.array([[3.0, 7.0], [1.5, 1.0]])
    moved = np.array(hand_made().scaled([1], 3.0)(x))
    assert np.allclose(moved, [[3 + 2 * 2 * 3 * 0.6, 7 + 2 * 2 * 3 * 0.8], [1.5, 1.0]], atol=1e-5)
    assert np.array_equal(np.array(hand_made().scaled([0, 1], 1.0)(x)), np.array(x))


def test_training_explains_sparse_data_sparsely_with_unit_decoder_rows(trained):
    sae, data = trained
    quality = sae.quality(data)
    assert quality.reconstruction_error < 0.05
    assert 0.5 < quality.l0 < 8
    assert 0 <= quality.dead_features < 32
    assert np.allclose(np.linalg.norm(np.array(sae.weights["decoder"]), axis=1), 1, atol=1e-5)


def test_more_sparsity_means_fewer_active_features(trained):
    _, data = trained
    dense, sparse = (
        train_sae(data, SaeSpec(features=32, epochs=30, batch=64, lr=3e-3, sparsity=s), np.random.default_rng(1))
        for s in (0.0, 0.5)
    )
    assert sparse.quality(data).l0 < dense.quality(data).l0


def test_the_same_stream_of_random_numbers_gives_the_same_autoencoder():
    first, second = (train_sae(sparse_data(100), SPEC, np.random.default_rng(7)) for _ in range(2))
    assert all(mx.array_equal(first.weights[name], second.weights[name]) for name in first.weights)


def test_factor_one_reproduces_the_unsteered_scores(tiny_model):
    pairs = [PairText(prompt=None, positive="The sun is hot.", negative="The sun is cold today.")]
    data = np.random.default_rng(0).standard_normal((64, 32)).astype(np.float32)
    sae = train_sae(data, SaeSpec(features=16, epochs=2, batch=16), np.random.default_rng(0))
    scorer = PrefixScorer(tiny_model, pairs, max_tokens=32)
    plain = score_pairs(tiny_model, pairs, max_tokens=32)[0]
    same = scorer.score(0, sae.scaled(range(16), 1.0))[0]
    other = scorer.score(0, sae.scaled(range(16), 5.0))[0]
    assert same.positive.ce == pytest.approx(plain.positive.ce, abs=1e-5)
    assert abs(other.positive.ce - plain.positive.ce) > 1e-3


def test_ranking_finds_planted_features_and_only_those():
    rng = np.random.default_rng(0)
    negative = np.abs(rng.standard_normal((40, 50))).astype(np.float32)
    positive = np.abs(rng.standard_normal((40, 50))).astype(np.float32)
    positive[:, 7] += 3
    negative[:, 9] += 3
    ranking = rank_features(positive, negative, take=0, permutations=200, rng=rng)
    assert ranking.chosen[0] == 7 and 9 not in ranking.chosen and len(ranking.chosen) <= 3
    assert ranking.n_significant > len(ranking.chosen)
    assert ranking.beyond_two > ranking.expected_by_chance
    assert len(rank_features(positive, negative, take=5, permutations=50, rng=rng).chosen) == 5


def test_without_a_difference_there_is_no_feature_to_scale():
    rng = np.random.default_rng(3)
    same = np.abs(rng.standard_normal((20, 10))).astype(np.float32)
    with pytest.raises(InputError, match="--features"):
        rank_features(same, same, take=0, permutations=20, rng=rng)


@pytest.mark.parametrize("field", ["features", "epochs", "batch"])
def test_a_spec_of_nothing_is_refused(field):
    with pytest.raises(InputError, match=field):
        SaeSpec(**{field: 0})


@pytest.fixture
def common(tiny_model_folder, tiny_probes_folder):
    return [
        "--preset", "quick", "--model", tiny_model_folder, "--probes", tiny_probes_folder, "--max-length", "64",
        "--sae-features", "64", "--sae-epochs", "3", "--sae-batch", "64", "--behaviors", "refusal,bias",
    ]  # fmt: skip


def test_attack_and_defense_fill_their_table(rhodb, common, tmp_path):
    done = rhodb("run", "attack-defense", *common, "--scales", "0,1,4", "--features", "8", "--json")
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["executed"]) == 1 + 2 * 3
    with closing(sqlite3.connect(tmp_path / "results" / "master.db")) as db:
        rows = db.execute(
            "SELECT target_behavior, scale, n_features, layer, n_regressed, mean_collateral FROM attack_defense "
            "ORDER BY 1, 2"
        ).fetchall()
        assert [row[:4] for row in rows] == [(b, s, 8, 1) for b in ("bias", "refusal") for s in (0, 1, 4)]
        assert all(row[4] == 0 and abs(row[5]) < 1e-9 for row in rows if row[1] == 1)
        gaps = db.execute(
            "SELECT max(abs(b.value - s.value)) FROM behavior_scores s JOIN attack_defense a USING (run_id) "
            "JOIN runs r ON r.id = s.run_id JOIN behavior_scores b ON b.run_id = r.baseline_run_id "
            "AND (b.behavior, b.metric, b.split) = (s.behavior, s.metric, s.split) "
            "WHERE s.metric = 'gap' GROUP BY scale = 1 ORDER BY scale = 1"
        ).fetchall()
        assert gaps[0][0] > 1e-3 and gaps[1][0] < 1e-5
        quality = db.execute("SELECT DISTINCT reconstruction_error > 0, l0 > 0, dead_features >= 0 FROM attack_defense")
        assert quality.fetchall() == [(1, 1, 1)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--layer", "2"], "layers 0 to 1"),
        (["--features", "65"], "more than the 64"),
        (["--scales", "-1"], "--scales"),
        (["--behaviors", "deception"], "choose from"),
    ],
)
def test_wrong_autoencoder_input_is_one_sentence(rhodb, common, tmp_path, options, message):
    wrong = rhodb("run", "attack-defense", *common, *options)
    assert wrong.returncode == 2 and message in wrong.stderr and "Traceback" not in wrong.stderr
    assert not list(tmp_path.iterdir())
