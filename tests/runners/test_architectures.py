"""Every experiment on weights or activations, on every kind of model that it promises to take."""

import math
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from experiments import ARCHITECTURES, EXPERIMENTS, Silent, options_of, session_of
from mlx.nn.layers.linear import Linear
from mlx.nn.layers.quantized import QuantizedLinear, quantize
from mlx.utils import tree_flatten
from tiny_model import make_tiny_model, save_tiny_model

from runners.backend import svd
from runners.backend.activations import changed
from runners.backend.models import LoadedModel
from runners.backend.scoring import PairText, score_pairs
from runners.backend.steering import PrefixScorer, added

PAIRS = [
    PairText(prompt="I say 7. ", positive="I say 7. No, it is 8.", negative="I say 7. Yes!"),
    PairText(prompt=None, positive="The sun is hot.", negative="The moon is made of cheese."),
]


def make(architecture: str, seed: int = 0) -> LoadedModel:
    changes: dict[str, Any] = dict(ARCHITECTURES[architecture])
    quantized = changes.pop("quantized", False)
    loaded = make_tiny_model(seed, **changes)
    if quantized:
        quantize(loaded.model, group_size=32, bits=8)
        loaded.config["quantization"] = {"group_size": 32, "bits": 8}
    return loaded


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Architecture -> two models of it, as a user has them on disk."""
    root = tmp_path_factory.mktemp("architectures")
    found = {}
    for name in ARCHITECTURES:
        found[name] = [root / f"{name} {seed}" for seed in (0, 1)]
        for seed, folder in enumerate(found[name]):
            folder.mkdir()
            save_tiny_model(folder, make(name, seed))
    return found


def weights(session) -> dict[str, mx.array]:
    return dict(tree_flatten(session.loaded.model.parameters()))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("runner", EXPERIMENTS)
def test_an_experiment_runs_and_leaves_the_model_as_it_was(runner, architecture, folders, tiny_probes_folder, tmp_path):
    model, other = folders[architecture]
    session = session_of(runner, options_of(runner, model, tiny_probes_folder, other))
    before = weights(session)
    gaps = set()
    cells = [cell for cell in session.cells if cell.identity.kind != "baseline"]
    for cell in cells:
        progress = Silent()
        rows = session.execute(cell, tmp_path / "artefacts", progress)
        assert rows.family_rows and progress.texts > 0
        assert (progress.steps > 0) == (cell.train_work > 0)
        values = [score.value for score in rows.scores]
        assert values and all(map(math.isfinite, values))
        gaps.add(next(s.value for s in rows.scores if (s.behavior, s.metric) == ("factual", "gap")))
    assert len(gaps) >= min(len(cells), 2)
    after = weights(session)
    assert before.keys() == after.keys()
    assert all(mx.array_equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_prefixes_change_no_score(architecture):
    loaded = make(architecture)
    scorer = PrefixScorer(loaded, PAIRS, max_tokens=64)
    change = added(np.linspace(-1, 1, 32).astype(np.float32), 0.5)
    for layer in (0, 1):
        with changed(loaded.model, {layer: change}):
            expected = score_pairs(loaded, PAIRS, max_tokens=64)
        for found, whole in zip(scorer.score(layer, change), expected, strict=True):
            assert found.positive.ce == pytest.approx(whole.positive.ce, abs=1e-4)
            assert found.negative.ce == pytest.approx(whole.negative.ce, abs=1e-4)


@pytest.mark.parametrize("architecture", ["qwen2", "llama of quantised layers"])
def test_a_compressed_projection_computes_the_truncated_matrix_and_keeps_its_bias(architecture):
    loaded = make(architecture)
    old = loaded.model.layers[0].self_attn.q_proj
    if "bias" in old:
        old.bias = mx.arange(32) / 10
    matrix = old.weight
    if isinstance(old, QuantizedLinear):
        matrix = mx.dequantize(old.weight, old.scales, old.biases, group_size=32, bits=8)
    left, values, right = np.linalg.svd(np.array(matrix))
    low = (left[:, :16] * values[:16]) @ right[:16]
    x = np.random.default_rng(0).standard_normal((3, 32)).astype(np.float32)
    expected = x @ low.T + (np.array(old.bias) if "bias" in old else 0)
    with svd.compressed(loaded, 0.5) as done:
        new = loaded.model.layers[0].self_attn.q_proj
        assert isinstance(new, Linear) and done.n_matrices == 6
        assert np.allclose(np.array(new(mx.array(x))), expected, atol=1e-4)
    assert loaded.model.layers[0].self_attn.q_proj is old


def test_compressed_layers_are_quantised_again_on_request(folders, tiny_probes_folder, tmp_path):
    model, _ = folders["llama of quantised layers"]
    options = options_of("freeze-sweep", model, tiny_probes_folder) | {"compress_ratios": "0.5"}
    gaps = {}
    for requantize in (False, True):
        session = session_of("freeze-sweep", options | {"requantize": requantize})
        rows = session.execute(session.cells[1], tmp_path, Silent())
        assert rows.notes["requantized"] == requantize and rows.family_rows[0].n_compressed == 6
        gaps[requantize] = next(s.value for s in rows.scores if (s.behavior, s.metric) == ("factual", "gap"))
    assert gaps[False] != gaps[True] and gaps[False] == pytest.approx(gaps[True], abs=0.1)
