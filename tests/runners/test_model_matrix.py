"""Every family of mlx_lm: scores, losses, gradients against its own forward pass, MLX's autodiff and float64 NumPy."""

import mlx.core as mx
import model_zoo
import numpy as np
import pytest
from mlx.nn.losses import cross_entropy
from mlx.nn.utils import value_and_grad
from mlx.utils import tree_flatten
from model_zoo import build, train_layers

from runners.backend.models import LoadedModel
from runners.backend.rows import Side
from runners.backend.scoring import PairText, pair_sides, score_pairs
from runners.backend.stepper import Stepper

PROMPT = "the river that runs in the land: "
PAIRS = [
    PairText(prompt=PROMPT, positive=PROMPT + "on and on", negative=PROMPT + "a wall"),
    PairText(prompt=None, positive="one text", negative="the other is a good deal longer than that one"),
    PairText(prompt=None, positive="xy", negative="xyz" * 20),
]
TEXTS = ["the river runs", "one and one is two, and that is all that there is to say"]
TOLERANCES = {mx.float32: 2e-5, mx.float16: 2e-2, mx.bfloat16: 1e-1}
"""Of a text's mean cross-entropy, nats a token."""
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
