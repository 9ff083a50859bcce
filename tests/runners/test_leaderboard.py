"""What a leaderboard stores of adapters and merges, against mlx_lm's own forward pass and NumPy's float64."""

import json
import sqlite3
from contextlib import closing

import mlx.core as mx
import mlx_lm
import numpy as np
import pytest
from adapter_samples import KINDS, make_base, rewrite, save_adapter, saved_base
from experiments import Silent, session_of
from mlx_lm.models import llama
from test_weights import expanded_by_numpy
from tiny_model import make_tiny_model, save_tiny_model

from rhodb.errors import InputError
from runners.backend.models import load_model
from runners.backend.weights import Packed, model_tensors

FOUR = {"bits": 4}


def ce_of(model, tokenizer, text: str) -> float:
    """Mean cross-entropy a token of a text, from mlx_lm's logits, in float64."""
    ids = tokenizer.encode(text, add_special_tokens=False)
    logits = np.array(model(mx.array([ids])).astype(mx.float32), np.float64)[0, :-1]
    peak = logits.max(axis=-1)
    normal = peak + np.log(np.exp(logits - peak[:, None]).sum(axis=-1))
    return float((normal - logits[np.arange(len(ids) - 1), ids[1:]]).mean())


@pytest.fixture
def board(tiny_probes_folder, tmp_path):
    """Make a leaderboard of a base and others, run all of its cells, and give (session, label -> text -> CE, notes)."""

    def run(base, *models, **options):
        given = {"model": str(base), "probes": str(tiny_probes_folder), "max_length": "64", "probes_per_behavior": "6"}
        merge = {"merge": options.pop("merge", "")}
        session = session_of("leaderboard", given | merge | {"models": ",".join(map(str, models))} | options)
        scores, notes = {}, {}
        texts = {(u.probe_set, u.probe.key, side): getattr(u.probe, side) for u in session.uses for side in SIDES}
        for cell in session.cells:
            rows = session.execute(cell, tmp_path / "artefacts", Silent())
            label = cell.label.removesuffix(" seed 42")
            scores[label] = {texts[r.probe_set, r.probe_key, r.side]: r.ce for r in rows.probe_scores}
            told = [row.description for row in rows.family_rows if row.table == "leaderboard"]
            notes[label] = {**rows.notes, "told": told[0] if told else None}
        return session, scores, notes

    return run


SIDES = ("positive", "negative")


def agree(scores: dict[str, float], model, tokenizer, tolerance: float = 2e-5) -> None:
    assert len(scores) > 20
    for text, ce in scores.items():
        assert ce == pytest.approx(ce_of(model, tokenizer, text), abs=tolerance), text


@pytest.mark.parametrize(("kind", "bits"), [(k, bits) for k in KINDS for bits in (None, 4) if k != "full" or not bits])
def test_base_and_adapter_have_the_scores_that_mlx_lm_gives_them(kind, bits, board, tmp_path):
    base = saved_base(tmp_path / "base", bits=bits)
    adapter = save_adapter(tmp_path / "tuned", kind, base=make_base(bits=bits))
    _, scores, notes = board(base, adapter)
    agree(scores["baseline"], *mlx_lm.load(str(base)))
    agree(scores["tuned"], *mlx_lm.load(str(base), adapter_path=str(adapter)))
    moved = [scores["tuned"][text] - ce for text, ce in scores["baseline"].items()]
    assert np.abs(moved).max() > 0.01
    assert notes["tuned"]["adapter_tensors_missing"] == 0
    assert notes["tuned"]["requantized_matrices"] == 0 and notes["tuned"]["change_rounded_away"] < 1e-6


@pytest.mark.parametrize("weights", [(0.0, 1.0), (0.3, 0.7)])
def test_a_merge_of_packed_models_is_the_mean_of_what_they_stand_for(weights, board, tmp_path):
    folders = [saved_base(tmp_path / str(seed), seed=seed, **FOUR) for seed in (0, 1)]
    _, scores, _ = board(folders[0], *folders, merge="linear", weights=",".join(map(str, weights)))
    agree(scores["0"], *mlx_lm.load(str(folders[0])))
    agree(scores["1"], *mlx_lm.load(str(folders[1])))
    parents = [model_tensors(mlx_lm.load(str(folder))[0]) for folder in folders]
    merged = {}
    for name in parents[0]:
        both = [expanded_by_numpy(p[name]) if isinstance(p[name], Packed) else np.array(p[name]) for p in parents]
        merged[name] = mx.array((weights[0] * both[0] + weights[1] * both[1]).astype(np.float32))
    loaded = make_tiny_model()
    model = llama.Model(llama.ModelArgs.from_dict(loaded.config))
    model.load_weights(list(merged.items()))
    agree(scores["linear"], model, loaded.tokenizer)
    if weights == (0.0, 1.0):
        agree(scores["linear"], *mlx_lm.load(str(folders[1])))


def test_requantising_is_a_choice_with_its_loss_beside_the_score(board, tmp_path):
    base = saved_base(tmp_path / "base", **FOUR)
    adapter = save_adapter(tmp_path / "tuned", "lora", base=make_base(**FOUR))
    rewrite(adapter, lambda tensors: {n: t * (0.02 if "lora_b" in n else 1) for n, t in tensors.items()})
    _, kept, _ = board(base, adapter)
    session, packed, notes = board(base, adapter, requantize="true")
    assert notes["tuned"]["requantized_matrices"] == 6
    lost = notes["tuned"]["change_rounded_away"]
    assert lost > 0.5  # so small a change is mostly rounding
    assert notes["tuned"]["told"].endswith(f"quantised again: rounding is {min(lost, 9.99):.0%} of the change")
    agree(kept["tuned"], *mlx_lm.load(str(base), adapter_path=str(adapter)))
    fused = mlx_lm.load(str(base), adapter_path=str(adapter))[0]
    for layer in fused.layers:  # as mlx_lm's own `fuse` does it
        for part in (layer.self_attn, layer.mlp):
            part.update_modules({n: m.fuse() for n, m in part.children().items() if hasattr(m, "fuse")})
    agree(packed["tuned"], fused, load_model(str(base)).tokenizer, tolerance=2e-3)
    assert {c.identity.config["requantize"] for c in session.grid()} == {True}


def test_a_written_merge_of_packed_models_is_what_was_scored(board, tmp_path):
    folders = [saved_base(tmp_path / str(seed), seed=seed, **FOUR) for seed in (0, 1)]
    _, scores, _ = board(folders[0], *folders, merge="slerp", write_models="true")
    agree(scores["slerp"], *mlx_lm.load(str(tmp_path / "artefacts")))


@pytest.mark.parametrize("requantize", ["false", "true"])
def test_a_written_merge_of_adapters_keeps_what_is_still_packed(requantize, board, tmp_path):
    base = saved_base(tmp_path / "base", **FOUR)
    pair = [save_adapter(tmp_path / n, "lora", base=make_base(**FOUR), seed=s) for s, n in ((1, "one"), (2, "two"))]
    _, scores, _ = board(base, *pair, merge="task-arithmetic", write_models="true", requantize=requantize)
    model, tokenizer = mlx_lm.load(str(tmp_path / "artefacts"))
    agree(scores["task-arithmetic"], model, tokenizer)
    packed = {name for name, tensor in model_tensors(model).items() if isinstance(tensor, Packed)}
    assert "model.layers.0.self_attn.k_proj.weight" in packed
    assert ("model.layers.0.self_attn.q_proj.weight" in packed) == (requantize == "true")


def test_a_model_is_scored_by_its_own_configuration_and_not_merged_with_another(board, tmp_path):
    base = save_tiny_model(tmp_path / "base", make_tiny_model())
    other = save_tiny_model(tmp_path / "other", make_tiny_model(seed=1, rope_theta=50.0))
    _, scores, _ = board(base, base, other)
    agree(scores["other"], *mlx_lm.load(str(other)))
    with pytest.raises(InputError, match=r"compute differently from their weights \(rope_theta 50\.0 and 10000\.0\)"):
        board(base, base, other, merge="linear")


def test_models_of_other_tokens_are_not_merged(board, tmp_path):
    base = save_tiny_model(tmp_path / "base", make_tiny_model())
    other = save_tiny_model(tmp_path / "other", make_tiny_model(seed=1))
    told = json.loads((other / "tokenizer.json").read_text())
    vocabulary = told["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    (other / "tokenizer.json").write_text(json.dumps(told))
    with pytest.raises(InputError, match="have different tokens"):
        board(base, base, other, merge="linear")


def test_the_baseline_of_a_leaderboard_with_a_full_adapter_is_the_base(
    rhodb, tiny_model_folder, tiny_probes_folder, tmp_path
):
    """The case that 0.4.0 got wrong: base and tuned model exchanged, and the base's baseline spoilt for all runs."""
    adapter = save_adapter(tmp_path / "tuned", "full", base=make_tiny_model())
    common = ["--preset", "quick", "--model", tiny_model_folder, "--probes", tiny_probes_folder, "--max-length", "64"]
    gaps = "SELECT kind, value FROM behavior_scores JOIN runs ON runs.id = run_id WHERE (behavior, metric, split) = "
    gaps += "('bias', 'gap', 'eval') ORDER BY 1, 2"
    found = []
    for name, models in (("alone", tiny_model_folder), ("tuned too", f"{tiny_model_folder},{adapter}")):
        db = tmp_path / f"{name}.db"
        done = rhodb("--db", db, "run", "leaderboard", *common, "--models", models)
        assert done.returncode == 0, done.stderr
        with closing(sqlite3.connect(db)) as connection:
            found.append(connection.execute(gaps).fetchall())
    alone, both = found
    assert both[:1] == alone[:1] and alone[1] in both[1:] and len(both) == 3
    assert abs(both[1][1] - both[2][1]) > 1e-4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"requantize": "true"}, "nothing in .* is quantised"),
        ({"partial_adapters": "perhaps"}, "--partial-adapters"),
    ],
)
def test_options_that_do_not_fit_are_one_sentence(options, message, board, tiny_model_folder):
    with pytest.raises(InputError, match=message):
        board(tiny_model_folder, tiny_model_folder, **options)


def test_partial_adapters_are_taken_where_asked_for_and_said(board, tmp_path):
    base = saved_base(tmp_path / "base")
    adapter = save_adapter(tmp_path / "tuned", "lora", base=make_base())
    rewrite(adapter, lambda tensors: {n: t for n, t in tensors.items() if "layers.0" not in n})
    with pytest.raises(InputError, match="6 of 12 tensors are missing"):
        board(base, adapter)
    _, scores, notes = board(base, adapter, partial_adapters="true")
    assert notes["tuned"]["adapter_tensors_missing"] == 6
    assert notes["tuned"]["told"] == "lora by mlx-lm, trained on tiny; 6 of 12 tensors missing"
    agree(scores["tuned"], *mlx_lm.load(str(base), adapter_path=str(adapter)))  # random lora_a times a lora_b of zeros


def test_a_model_with_nan_in_it_is_told_by_probe_and_tensor(board, tmp_path):
    base = save_tiny_model(tmp_path / "base", make_tiny_model())
    broken = make_tiny_model()
    broken.model.layers[1].mlp.up_proj.weight[3, 5] = float("nan")
    other = save_tiny_model(tmp_path / "broken", broken)
    message = r"'factual_\d+' \(factual\) no finite cross-entropy: tensor model\.layers\.1\.mlp\.up_proj\.weight holds"
    with pytest.raises(InputError, match=message):
        board(base, other)


def test_activations_that_overflow_are_told_apart_from_bad_weights(board, tmp_path):
    loaded = make_tiny_model()
    loaded.model.model.norm.weight = loaded.model.model.norm.weight * 1e38
    with pytest.raises(InputError, match="all weights are finite, so its activations overflow"):
        board(save_tiny_model(tmp_path / "base", loaded), tmp_path / "base")
