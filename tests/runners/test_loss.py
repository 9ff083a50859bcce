"""The loss and its gradient, against NumPy in float64, finite differences and single texts."""

import math

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten, tree_map

from runners.backend.batching import contrast_groups, sft_groups
from runners.backend.cross_entropy import token_cross_entropy_
from runners.backend.fastgrad import fast_gradients
from runners.backend.forward import nothing_replaced
from runners.backend.lora import lora_installed, lora_layers
from runners.backend.loss import StepBatch, StepLoss, fast_step, hinge, plain_step
from runners.backend.models import LoadedModel
from runners.backend.proof import proven
from runners.backend.rows import Side
from runners.backend.scoring import PairText
from runners.backend.stepper import Stepper
from runners.seeds import SeedStreams


def side(*ids: int, answer_from: int | None = None) -> Side:
    return Side(ids=ids, answer_from=answer_from)


TEXTS = [side(5, 9, 2, 7, 1, 30, 31), side(8, 3, 8, 3), side(40, 41, 42, 43, 44, 45, 46, 47, 48)]
PAIRS = [
    (side(5, 6, 7, 8, 9, 10, answer_from=3), side(5, 6, 7, 20, 21, 22, 23, answer_from=3)),
    (side(11, 12, 13), side(14, 15, 16, 17, 18, 19, 20)),
    (side(60, 61, 62, 63, answer_from=2), side(60, 61, 62, 64, answer_from=2)),
]


@pytest.fixture
def lora_model(tiny_model: LoadedModel):
    """The tiny model with LoRA layers whose update is not zero."""
    with lora_installed(tiny_model, rank=4, alpha=8.0, targets=("q_proj", "k_proj", "o_proj"), streams=SeedStreams(3)):
        rng = np.random.default_rng(0)
        for _, layer in lora_layers(tiny_model.model):
            layer.lora_b = mx.array(rng.normal(size=layer.lora_b.shape).astype("float32"))
        yield tiny_model


def fast(loaded: LoadedModel, batch: StepBatch, *, rho_weight: float, margin: float) -> StepLoss:
    with proven(loaded, TEXTS, 64, operations=fast_gradients) as forward:
        assert forward.trees
        return fast_step(forward, batch, rho_weight=rho_weight, margin=margin)


def plain(loaded: LoadedModel, batch: StepBatch, *, rho_weight: float, margin: float) -> StepLoss:
    with proven(loaded, TEXTS, 64, operations=nothing_replaced) as forward:
        return plain_step(forward, batch, rho_weight=rho_weight, margin=margin)


def reference_ce(loaded: LoadedModel, text: Side, start: int = 1) -> float:
    """Mean cross-entropy of one text alone from token `start` on: MLX's logits, the rest in NumPy float64."""
    logits = np.array(loaded.model(mx.array([text.ids]))).astype(np.float64)[0]
    logits -= logits.max(axis=1, keepdims=True)
    ce = np.log(np.exp(logits).sum(axis=1))[:-1] - logits[np.arange(len(text.ids) - 1), text.ids[1:]]
    return float(ce[start - 1 :].mean())


def difference(loaded: LoadedModel, pair: tuple[Side, Side], contrast: str = "text") -> float:
    """CE(x+) - CE(x-)."""
    positive, negative = (reference_ce(loaded, text, (contrast == "answer" and text.answer_from) or 1) for text in pair)
    return positive - negative


def reference_terms(loaded: LoadedModel, margin: float, contrast: str = "text") -> tuple[float, float, int]:
    """L_SFT, mean hinge and active pairs of TEXTS and PAIRS, text by text."""
    counts = [len(text.ids) - 1 for text in TEXTS]
    sft = np.dot([reference_ce(loaded, text) for text in TEXTS], counts) / sum(counts)
    hinges = [max(0.0, difference(loaded, pair, contrast) + margin) for pair in PAIRS]
    return float(sft), float(np.mean(hinges)), sum(value > 0 for value in hinges)


def largest_difference(left, right) -> float:
    pairs = zip(tree_flatten(left), tree_flatten(right), strict=True)
    return max(float(mx.abs(a - b).max()) for (_, a), (_, b) in pairs)


def contrast_of(pairs, *, contrast="text", trees=True, one_each=True):
    return contrast_groups(pairs, contrast=contrast, trees=trees, one_each=one_each)


def batch_of(*, budget: int | None = 8, **options) -> StepBatch:
    return StepBatch(sft=sft_groups(TEXTS, budget=budget), contrast=contrast_of(PAIRS, **options))


def test_hinge_by_hand():
    values = hinge(np.array([1.0, 2.0, 1.0]), np.array([1.5, 1.0, 1.05]), 0.1)
    assert values == pytest.approx([0.0, 1.1, 0.05])


@pytest.mark.parametrize("contrast", ["text", "answer"])
@pytest.mark.parametrize("trees", [True, False])
@pytest.mark.parametrize("budget", [None, 1, 20])
@pytest.mark.parametrize("one_each", [True, False])
def test_masked_batch_equals_single_texts(lora_model, budget, one_each, trees, contrast):
    batch = batch_of(one_each=one_each, budget=budget, trees=trees, contrast=contrast)
    sft, rho, active = reference_terms(lora_model, 0.3, contrast)
    for compute in (plain, fast):
        loss = compute(lora_model, batch, rho_weight=0.5, margin=0.3)
        assert loss.ce == pytest.approx(sft, abs=1e-5)
        assert loss.rho == pytest.approx(rho, abs=1e-5)
        assert (loss.active_pairs, loss.pairs) == (active, 3)


@pytest.mark.parametrize("one_each", [True, False])
def test_fast_gradient_equals_autodiff_of_the_plain_loss(lora_model, one_each):
    expected = plain(lora_model, batch_of(one_each=False, budget=None, trees=False), rho_weight=0.7, margin=0.3)
    quick = fast(lora_model, batch_of(one_each=one_each), rho_weight=0.7, margin=0.3)
    assert 0 < quick.active_pairs < 3
    scale = max(float(mx.abs(value).max()) for _, value in tree_flatten(expected.gradient))
    assert largest_difference(expected.gradient, quick.gradient) < 1e-5 * scale


def test_gradient_agrees_with_finite_differences(lora_model):
    """Along the gradient's own direction, with the float64 reference loss and central differences."""
    gradient = fast(lora_model, batch_of(), rho_weight=0.7, margin=0.3).gradient
    length = math.sqrt(sum(float(mx.square(value).sum()) for _, value in tree_flatten(gradient)))
    before = lora_model.model.trainable_parameters()
    step = 1e-3

    def value(distance: float) -> float:
        lora_model.model.update(tree_map(lambda w, g: w + distance / length * g, before, gradient))
        sft, rho, _ = reference_terms(lora_model, 0.3)
        return sft + 0.7 * rho

    slope = (value(step) - value(-step)) / (2 * step)
    assert slope == pytest.approx(length, rel=2e-3)


@pytest.mark.parametrize("one_each", [True, False])
def test_inactive_hinge_has_exactly_no_gradient(lora_model, one_each):
    """With the labels so that every pair is in the right order, nothing is left at margin 0."""
    right = [pair if difference(lora_model, pair) < 0 else pair[::-1] for pair in PAIRS]
    batch = StepBatch(sft=(), contrast=contrast_of(right, one_each=one_each))
    for compute in (fast, plain):
        loss = compute(lora_model, batch, rho_weight=1.0, margin=0.0)
        assert (loss.ce, loss.rho, loss.active_pairs) == (None, 0.0, 0)
        leaves = tree_flatten(loss.gradient)
        assert leaves
        assert all(float(mx.abs(value).max()) == 0.0 for _, value in leaves)


def test_an_inactive_pair_changes_nothing_but_the_mean(lora_model):
    """Beside an active pair, the inactive one only halves the weight."""
    inactive, active = sorted(PAIRS[:2], key=lambda pair: difference(lora_model, pair))
    margin = 0.1
    if difference(lora_model, inactive) + margin > 0:
        inactive = inactive[::-1]
    if difference(lora_model, active) + margin < 0:
        active = active[::-1]
    assert difference(lora_model, inactive) + margin < 0 < difference(lora_model, active) + margin
    alone = fast(lora_model, StepBatch(sft=(), contrast=contrast_of([active])), rho_weight=0.5, margin=margin)
    both = fast(lora_model, StepBatch(sft=(), contrast=contrast_of([active, inactive])), rho_weight=1.0, margin=margin)
    assert largest_difference(alone.gradient, both.gradient) == 0.0
    assert both.rho == pytest.approx(alone.rho / 2)


def test_weights_of_groups_add_up_to_the_token_mean():
    groups = sft_groups(TEXTS, budget=1)
    assert len(groups) == 3
    assert sum(group.weights.sum() for group in groups) == pytest.approx(1.0)
    assert sum(len(group.targets) for group in groups) == sum(len(text.ids) - 1 for text in TEXTS)


def test_answer_contrast_scores_the_answers_only():
    (group,) = contrast_of(PAIRS[2:], contrast="answer", trees=False)
    assert group.targets.tolist() == [62, 63, 62, 64]
    assert group.positions.tolist() == [1, 2, 4, 5]
    assert group.weights.tolist() == [[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]]


def test_small_waves_change_nothing(lora_model, monkeypatch):
    whole = fast(lora_model, batch_of(), rho_weight=0.7, margin=0.3)
    monkeypatch.setattr("runners.backend.loss.WAVE", 1)
    parts = fast(lora_model, batch_of(), rho_weight=0.7, margin=0.3)
    assert (parts.ce, parts.rho) == pytest.approx((whole.ce, whole.rho), abs=1e-6)
    scale = max(float(mx.abs(value).max()) for _, value in tree_flatten(whole.gradient))
    assert largest_difference(whole.gradient, parts.gradient) < 1e-5 * scale


@pytest.mark.slow
def test_a_real_step_agrees_with_single_passes(smollm2):
    """Texts of different lengths and a shared prompt through SmolLM2 against one text at a time."""
    texts = ["Water boils at 100 degrees Celsius.", "Photosynthesis turns light into chemical energy. " * 6]
    prompt = "My neighbour, who has lived here for forty years, met a student. Who is old? "
    pairs = [
        PairText(prompt=None, positive="The capital of France is Paris.", negative="The capital of France is Rome."),
        PairText(prompt=prompt, positive=f"{prompt}One cannot know.", negative=f"{prompt}The neighbour."),
    ]
    with lora_installed(smollm2, rank=8, alpha=16.0, targets=("q_proj",), streams=SeedStreams(0)):
        stepper = Stepper(smollm2, rho_weight=0.2, margin=0.5, max_tokens=256, contrast="answer")
        with stepper.ready(texts):
            loss, _ = stepper.step(texts, pairs)
        sides = stepper.encode(texts)
        counts = [len(text.ids) - 1 for text in sides]
        sft = np.dot([reference_ce(smollm2, text) for text in sides], counts) / sum(counts)
        hinges = [max(0.0, difference(smollm2, pair, "answer") + 0.5) for pair in stepper.encode_pairs(pairs)]
    assert loss.ce == pytest.approx(sft, abs=1e-5)
    assert loss.rho == pytest.approx(np.mean(hinges), abs=1e-5)


def test_token_cross_entropy_against_float64():
    rng = np.random.default_rng(5)
    logits = (rng.normal(size=(37, 501)) * 20).astype(np.float32)
    targets = rng.integers(0, 501, 37).astype(np.int32)
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=1, keepdims=True)
    probabilities = np.exp(wide) / np.exp(wide).sum(axis=1, keepdims=True)
    gradient = mx.array(logits)
    mx.eval(gradient)
    ce = token_cross_entropy_(gradient, targets)
    expected = np.log(np.exp(wide).sum(axis=1)) - wide[np.arange(37), targets]
    assert ce == pytest.approx(expected, rel=1e-6, abs=1e-6)
    assert np.array(gradient) == pytest.approx(probabilities - np.eye(501)[targets], abs=1e-6)
