"""Every family of mlx_lm: scores, losses, gradients against its own forward pass, MLX's autodiff and float64 NumPy."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager

import mlx.core as mx
import model_zoo
import numpy as np
import pytest
from mlx.nn.layers.base import Module
from mlx.nn.layers.quantized import quantize
from mlx.nn.losses import cross_entropy
from mlx.nn.utils import value_and_grad
from mlx.utils import tree_flatten
from model_zoo import build, train_layers
from tiny_model import save_tiny_model

from rhodb.errors import InputError
from runners.backend.anatomy import layer_list
from runners.backend.generation import answer_prompts
from runners.backend.models import LoadedModel
from runners.backend.rows import Side
from runners.backend.scoring import PairText, pair_sides, score_pairs
from runners.backend.steering import PrefixScorer, added
from runners.backend.stepper import Stepper
from runners.backend.tokenizer import chat_prompt, encode

PROMPT = "the river that runs in the land: "
PAIRS = [
    PairText(prompt=PROMPT, positive=PROMPT + "on and on", negative=PROMPT + "a wall"),
    PairText(prompt=None, positive="one text", negative="the other is a good deal longer than that one"),
    PairText(prompt=None, positive="xy", negative="xyz" * 20),
]
TEXTS = ["the river runs", "one and one is two, and that is all that there is to say"]
TOLERANCES = {mx.float32: 2e-5, mx.float16: 2e-2, mx.bfloat16: 1e-1}
"""Of a text's mean cross-entropy, nats a token."""
MATRIX = pytest.mark.matrix
UNSTEERED = {"afm7", "deepseek_v41", "hunyuan", "rwkv7"}
"""Families whose layers cannot be changed one by one."""
DOCUMENTED = model_zoo.documented()


def oracle(loaded: LoadedModel, side: Side) -> np.ndarray:
    """Cross-entropies of a text's tokens from the second on: mlx_lm's own logits, and the rest in float64."""
    logits = np.array(loaded.model(mx.array([side.ids[:-1]]))[0].astype(mx.float32), np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    return np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(logits)), side.ids[1:]]


def assert_scores_are_right(loaded: LoadedModel, tolerance: float) -> None:
    scores = [side for pair in score_pairs(loaded, PAIRS) for side in (pair.positive, pair.negative)]
    for side, score in zip(pair_sides(loaded, PAIRS, 256), scores, strict=True):
        losses = oracle(loaded, side)
        assert score.ce == pytest.approx(losses.mean(), abs=tolerance)
        if side.answer_from is not None:
            assert score.answer_ce == pytest.approx(losses[side.answer_from - 1 :].mean(), abs=tolerance)


@pytest.mark.parametrize("module", model_zoo.built())
def test_scores_are_those_of_mlx_lm_s_own_call(module):
    loaded = build(module)
    assert_scores_are_right(loaded, TOLERANCES[mx.float32])
    assert loaded.proofs["fast_math"].form == DOCUMENTED[module].scoring


def test_the_document_has_every_module():
    assert list(DOCUMENTED) == model_zoo.built() and len(DOCUMENTED) > 100


def whole_loss(loaded: LoadedModel, sides: list[Side], pairs: list[tuple[Side, Side]], rho: float, margin: float):
    """The loss as its definition says, through mlx_lm's own call and all logits, and MLX's gradient of it."""

    def ces(side: Side) -> mx.array:
        logits = loaded.model(mx.array([side.ids[:-1]]))[0].astype(mx.float32)
        return cross_entropy(logits, mx.array(side.ids[1:]))

    def total() -> mx.array:
        sft = mx.concatenate([ces(side) for side in sides]).mean()
        hinges = [mx.maximum(0.0, ces(a).mean() - ces(b).mean() + margin) for a, b in pairs]
        return sft + rho * mx.stack(hinges).mean()

    return value_and_grad(loaded.model, total)()


def assert_steps_are_right(loaded: LoadedModel) -> None:
    train_layers(loaded)
    stepper = Stepper(loaded, rho_weight=0.5, margin=0.3, max_tokens=64, contrast="text")
    sides, pairs = stepper.encode(TEXTS), stepper.encode_pairs(PAIRS)
    value, expected = whole_loss(loaded, sides, pairs, 0.5, 0.3)
    with stepper.ready(TEXTS):
        loss, _ = stepper.step(TEXTS, PAIRS)
    assert loss.ce + 0.5 * loss.rho == pytest.approx(float(value), abs=2e-5)
    right, found = dict(tree_flatten(expected)), dict(tree_flatten(loss.gradient))
    assert right.keys() == found.keys()
    if not all(bool(mx.isfinite(gradient).all()) for gradient in right.values()):  # RWKV 7: 0 / 0 in MLX's own gradient
        assert not all(bool(mx.isfinite(gradient).all()) for gradient in found.values())
        return
    largest = max(float(mx.abs(g).max()) for g in right.values())
    for name, gradient in right.items():
        assert float(mx.abs(found[name] - gradient).max()) <= 1e-4 * largest, name


@pytest.mark.parametrize("module", model_zoo.built())
def test_losses_and_gradients_are_those_of_mlx_s_autodiff(module):
    if DOCUMENTED[module].training.startswith("refused"):
        assert model_zoo.observed(module).training == DOCUMENTED[module].training
        return
    assert_steps_are_right(build(module))


COVERING = ("llama", "qwen3", "cohere2", "gemma2", "gpt_oss", "deepseek_v3", "mamba2", "gpt_neox", "granite", "phi")
"""Families that between them have every form, caps, scales, experts, windows, latent attention, states."""
PACKINGS = {
    "8 bits": {"group_size": 32, "bits": 8},
    "4 bits": {"group_size": 32, "bits": 4},
    "mxfp4": {"group_size": 32, "bits": 4, "mode": "mxfp4"},
}


def quantized(loaded: LoadedModel, packing: str) -> LoadedModel:
    def divides(_: str, layer: object) -> bool:
        return hasattr(layer, "to_quantized") and layer.weight.shape[-1] % 32 == 0

    quantize(loaded.model, **PACKINGS[packing], class_predicate=divides)
    return loaded


@pytest.mark.parametrize("module", [m if m in COVERING else pytest.param(m, marks=MATRIX) for m in model_zoo.built()])
@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16], ids=["float16", "bfloat16"])
def test_scores_in_half_precision(module, dtype):
    """The scorer's own arithmetic is float32: what remains is the rounding of the model's."""
    loaded = build(module)
    loaded.model.set_dtype(dtype)
    try:
        loaded.model(mx.array([[1, 2, 3]])).sum().item()
    except RuntimeError as error:  # MLX's CPU multiplies matrices of experts in float32 only, and so do loaded models
        assert "only supports float32" in str(error)
        return
    assert_scores_are_right(loaded, TOLERANCES[dtype])


@pytest.mark.parametrize("module", [m if m in COVERING else pytest.param(m, marks=MATRIX) for m in model_zoo.built()])
@pytest.mark.parametrize("packing", PACKINGS)
def test_scores_of_quantised_weights(module, packing):
    assert_scores_are_right(quantized(build(module), packing), TOLERANCES[mx.float32])


@pytest.mark.parametrize("module", ["llama", "qwen3", "cohere2", "granite", "gemma3_text"])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("packing", [None, "4 bits"])
def test_heads_tied_or_not_quantised_or_not(module, tied, packing):
    loaded = build(module, tie_word_embeddings=tied)
    assert_scores_are_right(loaded if packing is None else quantized(loaded, packing), TOLERANCES[mx.float32])


@contextmanager
def shifted(layer: Module, shift: mx.array) -> Iterator[None]:
    """The layer's class changed so that this layer alone adds a vector to what it hands on."""
    kind = type(layer)
    original = kind.__call__

    def call(self, *args, **kwargs):
        result = original(self, *args, **kwargs)
        return result + shift if self is layer else result

    kind.__call__ = call
    try:
        yield
    finally:
        kind.__call__ = original


@pytest.mark.parametrize("module", model_zoo.built())
def test_steering_with_kept_prefixes(module):
    loaded = build(module)
    size = 256 if module == "lille-130m" else 32
    vector = np.random.default_rng(0).standard_normal(size).astype(np.float32)
    try:
        scorer = PrefixScorer(loaded, PAIRS, max_tokens=64)
        found = {layer: scorer.score(layer, added(vector, 0.5)) for layer in (0, 1)}
    except InputError as error:
        assert "cannot be read or changed one by one" in str(error)
        assert module in UNSTEERED
        return
    assert module not in UNSTEERED
    for layer, scores in found.items():
        sides = [side for pair in scores for side in (pair.positive, pair.negative)]
        with shifted(layer_list(loaded.model).layers[layer], mx.array(0.5 * vector)):
            for side, score in zip(pair_sides(loaded, PAIRS, 64), sides, strict=True):
                assert score.ce == pytest.approx(oracle(loaded, side).mean(), abs=TOLERANCES[mx.float32])


MESSAGES = ["the river", "one and one is two, and that", "xyz" * 10, "a"]
TOKENS = 6


def most_probable(loaded: LoadedModel, message: str) -> tuple[list[int], float]:
    """The most probable tokens after a message, each by mlx_lm's whole call, and the closest race among them."""
    ids, closest = list(encode(loaded.tokenizer, chat_prompt(loaded.tokenizer, message))), np.inf
    for _ in range(TOKENS):
        logits = np.array(loaded.model(mx.array([ids]))[0, -1].astype(mx.float32))
        second, first = np.sort(logits)[-2:]
        ids, closest = [*ids, int(logits.argmax())], min(closest, float(first - second))
    return ids[-TOKENS:], closest


@pytest.mark.parametrize("module", model_zoo.built())
def test_answers_are_the_most_probable_tokens_by_mlx_lm_s_whole_call(module):
    loaded = build(module)
    stops = set(loaded.tokenizer.eos_token_ids)
    for answer, message in zip(answer_prompts(loaded, MESSAGES, max_tokens=TOKENS), MESSAGES, strict=True):
        tokens, closest = most_probable(loaded, message)
        if closest > 1e-3:
            end = next((index for index, token in enumerate(tokens) if token in stops), TOKENS)
            assert answer.text == str(loaded.tokenizer.decode(tokens[:end])).strip()


def test_a_run_says_how_its_model_was_computed(rhodb, tmp_path, tiny_probes_folder):
    """Gemma 2 takes a batch's masks for heads, so it does without tree rows: the log and the run say so."""
    folder = tmp_path / "gemma2"
    folder.mkdir()
    save_tiny_model(folder, build("gemma2"))
    options = ["--model", folder, "--probes", tiny_probes_folder, "--max-length", "64", "--behaviors", "factual"]
    done = rhodb("run", "fidelity-bench", *options)
    assert done.returncode == 0, done.stderr
    assert "model type 'gemma2' is computed through its parts, a text a row (tree: " in done.stdout + done.stderr
    with closing(sqlite3.connect(tmp_path / "results" / "master.db")) as connection:
        (uuid,) = connection.execute("SELECT uuid FROM runs").fetchone()
    notes = json.loads(rhodb("runs", "show", uuid, "--json").stdout)["run"]["notes"]
    assert notes["forward"]["fast_math"]["form"] == "rows" and "gemma2" in notes["forward_slower"][0]
