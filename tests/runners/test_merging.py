"""Merging: every method against its definition on small matrices, identities, and the leaderboard's runs."""

import json
import sqlite3
from contextlib import closing

import mlx.core as mx
import mlx_lm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_model import make_tiny_model, save_tiny_model

from rhodb.errors import InputError
from runners.backend import merging
from runners.backend.merging import Merge, merge_tensor

METHODS = ("linear", "slerp", "task-arithmetic", "ties", "dare-ties", "della")
BASE = np.array([[1, 1, 1, 1]], np.float32)
FIRST = BASE + np.array([[4, -1, 2, 0.5]], np.float32)
SECOND = BASE + np.array([[2, 3, -3, 0.25]], np.float32)


def rng():
    return np.random.default_rng(0)


def merged(method, weights=(0.5, 0.5), **options):
    return merge_tensor(BASE, [FIRST, SECOND], Merge(method=method, weights=weights, **options), rng())


def test_linear_is_the_weighted_mean():
    assert np.allclose(merged("linear", (3, 1)), (3 * FIRST + SECOND) / 4)


def test_task_arithmetic_adds_weighted_task_vectors():
    assert np.allclose(merged("task-arithmetic", (1, 0.5)), BASE + np.array([[5, 0.5, 0.5, 0.625]]))


def test_ties_by_hand():
    # trimmed to the two largest: (4, 0, 2, 0) and (0, 3, -3, 0); signs elected +, +, -; means of those that agree
    assert np.allclose(merged("ties", density=0.5), BASE + np.array([[4, 3, -3, 0]]))
    assert np.allclose(merged("ties", density=1), BASE + np.array([[3, 3, -3, 0.375]]))


def test_slerp_halves_a_right_angle():
    a, b = np.array([2.0, 0], np.float32), np.array([0, 2.0], np.float32)
    assert np.allclose(merging.slerp(a, b, 0.5), [np.sqrt(2), np.sqrt(2)])
    assert np.allclose(merging.slerp(a, 2 * a, 0.25), [2.5, 0])


def test_dare_is_unbiased_and_drops_the_rest():
    delta = np.full(40000, 2.0, np.float32)
    dropped = merging.drop(delta, 0.25, rng())
    assert set(np.unique(dropped)) == {0.0, 8.0}
    assert dropped.mean() == pytest.approx(2, abs=0.1)


def test_della_keeps_large_entries_more_often_and_is_unbiased():
    delta = np.tile(np.array([1, 2, 3, 4, 5], np.float32), (20000, 1))
    keep = merging.keep_probabilities(delta, 0.5, 0.4)
    assert np.allclose(keep[0], [0.3, 0.4, 0.5, 0.6, 0.7])
    dropped = merging.drop(delta, keep, rng())
    assert np.allclose((dropped != 0).mean(axis=0), keep[0], atol=0.02)
    assert np.allclose(dropped.mean(axis=0), delta[0], rtol=0.05)


@pytest.mark.parametrize("method", METHODS)
def test_a_model_merged_with_itself_is_itself(method):
    merge = Merge(method=method, weights=(0.5, 0.5), density=1, epsilon=0)
    assert np.allclose(merge_tensor(BASE, [FIRST, FIRST], merge, rng()), FIRST, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_weights_of_one_and_zero_give_one_parent(method):
    merge = Merge(method=method, weights=(1, 0), density=1, epsilon=0)
    assert np.allclose(merge_tensor(BASE, [FIRST, SECOND], merge, rng()), FIRST, atol=1e-6)


@pytest.mark.parametrize("method", ["task-arithmetic", "ties", "dare-ties", "della"])
def test_task_vectors_of_weight_zero_leave_the_base(method):
    assert np.array_equal(merged(method, (0, 0), density=1, epsilon=0), BASE)


def test_dare_ties_is_dropped_task_vectors_whose_signs_are_elected():
    # the same draws, by hand: keep where the number is below the density, divide by it, elect, add
    draws = [rng().random((2, 1, 4), dtype=np.float32)[i] for i in (0, 1)]
    first, second = (np.where(u < 0.5, (p - BASE) / 0.5, 0) for u, p in zip(draws, (FIRST, SECOND), strict=True))
    sign = np.sign(first + second)
    agree = [np.where((np.sign(d) == sign) & (d != 0), d, np.nan) for d in (first, second)]
    mean = np.array(
        [[np.nanmean(column) if not np.isnan(column).all() else 0 for column in np.hstack(agree).reshape(2, 4).T]]
    )
    assert np.allclose(merged("dare-ties", density=0.5), BASE + mean)


@pytest.mark.parametrize("method", ["ties", "dare-ties", "della"])
def test_trimming_everything_leaves_the_base(method):
    assert np.array_equal(merged(method, density=0, epsilon=0), BASE)


@settings(max_examples=50, deadline=None)
@given(density=st.floats(0, 1), seed=st.integers(0, 99))
def test_trim_keeps_the_largest_entries(density, seed):
    delta = np.random.default_rng(seed).standard_normal((5, 8)).astype(np.float32)
    kept = merging.trim(delta, density)
    assert (kept != 0).sum() == round(density * delta.size)
    if 0 < (kept != 0).sum() < delta.size:
        assert np.abs(kept[kept != 0]).min() >= np.abs(delta[kept == 0]).max()


@pytest.mark.parametrize(
    "options",
    [
        {"method": "slerp", "weights": (1, 1, 1)},
        {"method": "ties", "weights": (1, 1), "density": 1.5},
        {"method": "linear", "weights": (0, 0)},
        {"method": "della", "weights": (1, 1), "density": 0.01, "epsilon": 0.5},
    ],
)
def test_merges_without_a_meaning_are_refused(options):
    with pytest.raises(InputError):
        Merge(**options)


@pytest.fixture
def common(tiny_model_folder, tiny_probes_folder):
    return ["--preset", "quick", "--model", tiny_model_folder, "--probes", tiny_probes_folder, "--max-length", "64"]


def test_two_adapters_of_an_ablation_are_merged_audited_and_written(rhodb, tiny_ablation, common, tmp_path):
    assert rhodb(*tiny_ablation, "--conditions", "sft-only,rho-guided").returncode == 0
    adapters = sorted(str(p) for p in (tmp_path / "results" / "adapters").iterdir())
    command = ["run", "leaderboard", *common, "--models", ",".join(adapters), "--merge", ",".join(METHODS)]
    done = rhodb(*command, "--write-models", "--json")
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["executed"]) == 2 + len(METHODS)  # the ablation's baseline serves
    with closing(sqlite3.connect(tmp_path / "results" / "master.db")) as db:
        rows = db.execute("SELECT merge_method, model_type, parents, weights FROM leaderboard ORDER BY 1").fetchall()
        assert {row[0] for row in rows} == {None, *METHODS}
        assert all(json.loads(row[2]) == adapters and json.loads(row[3]) == [0.5, 0.5] for row in rows if row[0])
        gaps = "SELECT count(DISTINCT value), count(*) FROM behavior_scores JOIN leaderboard USING (run_id) "
        assert db.execute(gaps + "WHERE (behavior, metric, split) = ('bias', 'gap', 'eval')").fetchone()[0] >= 6
        uuid = db.execute(
            "SELECT uuid FROM runs JOIN leaderboard ON run_id = id WHERE merge_method = 'linear'"
        ).fetchone()[0]
    model, _ = mlx_lm.load(str(tmp_path / "results" / "adapters" / uuid))[:2]
    base, _ = mlx_lm.load(common[3])[:2]
    projections = [m.model.layers[0].self_attn.q_proj.weight for m in (model, base)]
    assert not mx.allclose(*projections).item()
    assert mx.array_equal(model.model.embed_tokens.weight, base.model.embed_tokens.weight)


def test_models_of_different_shape_are_refused(rhodb, common, tmp_path):
    other = save_tiny_model(tmp_path / "other", make_tiny_model(intermediate_size=48))
    wrong = rhodb("run", "leaderboard", *common, "--models", f"{common[3]},{other}", "--merge", "linear")
    assert wrong.returncode == 2 and "different shapes" in wrong.stderr
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--merge", "linear"], "at least two"),
        (["--merge", "magic"], "--merge"),
        (["--models", "nowhere"], "unknown model 'nowhere'"),
        (["--weights", "1,2"], "--weights"),
    ],
)
def test_wrong_leaderboard_input_is_one_sentence(rhodb, common, tmp_path, options, message):
    wrong = rhodb("run", "leaderboard", *common, *options, HF_HUB_OFFLINE="1")
    assert wrong.returncode == 2 and message in wrong.stderr and "Traceback" not in wrong.stderr
    assert not list(tmp_path.iterdir())
