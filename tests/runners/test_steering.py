"""Steering: vectors against NumPy, prefixes that change nothing but the time, rows, controls, wrong input."""

import json
import sqlite3
from contextlib import closing

import mlx.core as mx
import numpy as np
import pytest

from rhodb.errors import InputError
from runners.backend import steering
from runners.backend.activations import changed, pooled, residuals
from runners.backend.scoring import PairText, score_pairs
from runners.steering import SteeringConfig

PAIRS = [
    PairText(prompt="I say 7. ", positive="I say 7. No, it is 8.", negative="I say 7. Yes!"),
    PairText(prompt=None, positive="The sun is hot.", negative="The moon is made of cheese."),
    PairText(prompt=None, positive="One and one is two.", negative="One and one is three."),
]
LAYERS = 4


@pytest.fixture
def model():
    from tiny_model import make_tiny_model

    return make_tiny_model(num_hidden_layers=LAYERS)


def ces(scores):
    return [value for s in scores for value in (s.positive.ce, s.negative.ce)]


def test_residuals_are_what_the_layers_hand_on_whatever_the_padding(model):
    texts = [(5, 9, 2, 7, 3, 8), (5, 9, 2)]
    found = dict(residuals(model, texts, [0, 2]))
    for index, ids in enumerate(texts):
        hidden = model.model.model.embed_tokens(mx.array([ids]))
        for number, layer in enumerate(model.model.layers[:3]):
            hidden = layer(hidden, "causal", None)
            if number in (0, 2):
                assert np.allclose(found[index][number // 2], np.array(hidden[0]), atol=1e-4)


def test_pools_take_the_last_token_or_the_mean_in_the_order_of_the_texts(model):
    texts = [(5, 9), (5, 9, 2, 7, 3, 8), (4, 4, 4)]
    states = dict(residuals(model, texts, [1]))
    assert np.allclose(pooled(model, texts, [1], "last")[1], [states[i][0][-1] for i in range(3)])
    assert np.allclose(pooled(model, texts, [1], "all")[1], [states[i][0].mean(axis=0) for i in range(3)])


def test_directions_by_hand():
    differences = np.array([[3, 0], [1, 0], [2, 1], [2, -1]], np.float32)
    assert np.allclose(steering.direction(differences, "mean-last"), [2, 0])
    assert np.allclose(steering.direction(differences, "pca"), [2, 0], atol=1e-6)
    assert np.allclose(steering.direction(-differences, "pca"), [-2, 0], atol=1e-6)


def test_a_control_has_the_norm_of_the_vector():
    control = steering.random_vector(2.5, 64, np.random.default_rng(1))
    assert np.linalg.norm(control) == pytest.approx(2.5, rel=1e-5)


@pytest.mark.parametrize("order", [[0, 1, 3], [3, 0, 2]])
def test_prefix_scores_equal_scores_from_the_input(model, order):
    scorer = steering.PrefixScorer(model, PAIRS, max_tokens=64)
    rng = np.random.default_rng(0)
    for layer in order:
        change = steering.added(rng.standard_normal(32).astype(np.float32), 0.5)
        with changed(model.model, {layer: change}):
            expected = ces(score_pairs(model, PAIRS, max_tokens=64))
        assert ces(scorer.score(layer, change)) == pytest.approx(expected, abs=1e-5)
    assert scorer.cached_bytes > 0


def test_alpha_zero_changes_nothing_and_larger_alphas_do(model):
    untouched = ces(score_pairs(model, PAIRS, max_tokens=64))
    scorer = steering.PrefixScorer(model, PAIRS, max_tokens=64)
    vector = steering.difference_vectors(model, PAIRS, [2], "mean-last", max_tokens=64)[2]
    assert ces(scorer.score(2, steering.added(vector, 0.0))) == pytest.approx(untouched, abs=1e-5)
    assert np.abs(np.subtract(ces(scorer.score(2, steering.added(vector, 4.0))), untouched)).max() > 1e-2


@pytest.mark.parametrize("forms", [("rows",), ()])
def test_without_tree_rows_the_scores_are_the_same(model, monkeypatch, forms):
    change = steering.added(np.ones(32, np.float32), 0.3)
    expected = ces(steering.PrefixScorer(model, PAIRS, max_tokens=64).score(1, change))
    monkeypatch.setattr("runners.backend.proof.FAST_FORMS", forms)
    model.proofs.clear()
    assert ces(steering.PrefixScorer(model, PAIRS, max_tokens=64).score(1, change)) == pytest.approx(expected, abs=1e-4)


def test_layers_are_put_back_after_an_error(model):
    layers = list(model.model.layers)

    def broken(hidden):
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"), changed(model.model, {1: broken}):
        model.model(mx.array([[1, 2]]))
    assert list(model.model.layers) == layers
    with pytest.raises(InputError, match="layers 0 to 3"), changed(model.model, {4: broken}):
        pass


def test_ranges_of_layers():
    assert SteeringConfig(layers="10:30:2").layers == tuple(range(10, 30, 2))
    assert SteeringConfig(layers="1,4:6").layers == (1, 4, 5)


@pytest.fixture
def common(tiny_model_folder, tiny_probes_folder):
    return ["--preset", "quick", "--model", tiny_model_folder, "--probes", tiny_probes_folder, "--max-length", "64"]


def test_a_sweep_fills_the_heatmap_with_controls_of_equal_norm(rhodb, common, tmp_path):
    command = ["run", "steering", *common, "--layers", "0:2", "--alpha", "2,4", "--controls", "2", "--seeds", "1,2"]
    done = rhodb(*command, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert len(report["executed"]) == 1 + 2 * 2 * (1 + 2 * 2)
    with closing(sqlite3.connect(tmp_path / "results" / "master.db")) as db:
        norms = db.execute(
            "SELECT layer, count(DISTINCT vector_norm), count(*), sum(control IS NULL) FROM steering_heatmap GROUP BY 1"
        ).fetchall()
        assert norms == [(0, 1, 10, 2), (1, 1, 10, 2)]
        assert db.execute("SELECT DISTINCT layer, depth FROM steering_heatmap ORDER BY 1").fetchall() == [
            (0, 0),
            (1, 0.5),
        ]
        splits = "SELECT DISTINCT split FROM behavior_scores JOIN steering_heatmap USING (run_id)"
        assert db.execute(splits).fetchall() == [("eval",)]
        values = "SELECT count(DISTINCT value), count(*) FROM behavior_scores JOIN steering_heatmap USING (run_id) "
        distinct, count = db.execute(values + "WHERE metric = 'gap' AND behavior = 'factual'").fetchone()
        assert distinct == count == 20
    again = rhodb(*command, "--json")
    assert json.loads(again.stdout)["executed"] == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--layers", "7"], "layers 0 to 1"),
        (["--layers", "a"], "--layers"),
        (["--layers", "1,1"], "twice"),
        (["--layers", "2:1"], "--layers"),
        (["--alpha", "nan"], "--alpha"),
        (["--behavior", "overrefusal"], "choose from"),
        (["--method", "magic"], "--method"),
    ],
)
def test_wrong_steering_input_is_one_sentence(rhodb, common, tmp_path, options, message):
    wrong = rhodb("run", "steering", *common, *options)
    assert wrong.returncode == 2 and message in wrong.stderr and "Traceback" not in wrong.stderr
    assert not list(tmp_path.iterdir())
