"""The rho-guided loss and its gradient: L = L_SFT + λ * mean over pairs of max(0, CE(x+) - CE(x-) + γ).

L_SFT is the mean cross-entropy over all scored tokens of the batch. A pair whose hinge is 0 has gradient 0, so on the
CPU, where the cross-entropies are known before the backward pass starts, inactive pairs are left out of it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.nn.losses import cross_entropy
from mlx.nn.utils import value_and_grad
from mlx.utils import tree_flatten, tree_map
from numpy.typing import NDArray

from rhodb.errors import InputError
from runners.backend.anatomy import FAILURES, model_type
from runners.backend.batching import Group
from runners.backend.cross_entropy import token_cross_entropy_
from runners.backend.device import is_cpu
from runners.backend.forward import Forward

FloatArray = NDArray[np.float64]

WAVE = 256
"""Tokens computed at a time on the CPU; MLX holds about 7 MB of activations a token (SmolLM2-135M, measured)."""


@dataclass(frozen=True, kw_only=True)
class StepLoss:
    """The terms of one step's loss (nats/token) and the gradient of their weighted sum."""

    ce: float | None
    """L_SFT; None without SFT groups."""
    rho: float | None
    """Mean hinge over the pairs, before λ; None without pairs."""
    active_pairs: int | None
    pairs: int | None
    gradient: Any
    """Tree of arrays like the model's trainable parameters."""


def hinge(positive: FloatArray, negative: FloatArray, margin: float) -> FloatArray:
    """max(0, CE(x+) - CE(x-) + γ) for every pair."""
    return np.maximum(0.0, positive - negative + margin)


@dataclass(frozen=True, kw_only=True)
class StepBatch:
    """What one step computes: groups of SFT texts and groups of pairs, either possibly empty."""

    sft: Sequence[Group]
    contrast: Sequence[Group]

    @property
    def pairs(self) -> int:
        return sum(len(group.weights) // 2 for group in self.contrast)


def plain_step(forward: Forward, batch: StepBatch, *, rho_weight: float, margin: float) -> StepLoss:
    """Loss and gradient with MLX's own operations through all logits: for GPUs, and whatever `fast_step` cannot."""
    values: dict[str, mx.array] = {}

    def total() -> mx.array:
        terms = [_text_ce(forward, group) for group in batch.sft]
        loss = mx.array(0.0)
        if terms:
            values["ce"] = mx.concatenate(terms).sum()
            loss = loss + values["ce"]
        if batch.contrast:
            ces = mx.concatenate([_text_ce(forward, group) for group in batch.contrast])
            hinges = mx.maximum(0.0, ces[0::2] - ces[1::2] + margin)
            values["rho"], values["active"] = hinges.mean(), (hinges > 0).sum()
            loss = loss + rho_weight * values["rho"]
        return loss

    _, gradient = value_and_grad(forward.model, total)()
    mx.eval(gradient, values)
    return StepLoss(
        ce=float(np.array(values["ce"])) if batch.sft else None,
        rho=float(np.array(values["rho"])) if batch.contrast else None,
        active_pairs=int(np.array(values["active"])) if batch.contrast else None,
        pairs=batch.pairs if batch.contrast else None,
        gradient=gradient,
    )


def gradients_agree(fast: Forward, whole: Forward, batch: StepBatch) -> float:
    """Largest difference of `fast_step`'s gradient of a batch's L_SFT from MLX's autodiff through mlx_lm's own call,
    as a share of the largest element. InputError where MLX has no gradient of the model."""
    try:
        expected = plain_step(whole, batch, rho_weight=0.0, margin=0.0).gradient
    except FAILURES as error:
        raise InputError(
            f"model type {model_type(whole.model)!r} cannot be trained: MLX has no gradient of it "
            f"({(str(error).strip().splitlines() or [type(error).__name__])[0]})"
        ) from error
    found = fast_step(fast, batch, rho_weight=0.0, margin=0.0).gradient
    right, own = dict(tree_flatten(expected)), dict(tree_flatten(found))
    largest = max(float(mx.abs(value).max()) for value in right.values())
    worst = max(float(mx.abs(own[name] - value).max()) for name, value in right.items())
    return worst / largest if largest else worst


def _text_ce(forward: Forward, group: Group) -> mx.array:
    """(K,) cross-entropies of a group."""
    logits = forward.logits(_scored(forward, group)).astype(mx.float32)
    targets = mx.array(group.targets)
    return mx.array(group.weights) @ (_cross_entropy(logits, targets) if is_cpu() else cross_entropy(logits, targets))


def _cross_entropy(logits: mx.array, targets: mx.array) -> mx.array:
    """(N,) cross-entropies of (N, V) float32 logits. The sum of exponentials is a product with ones: BLAS adds in
    blocks, MLX's logsumexp on the CPU one by one (up to 8e-5 off for 49,152 terms)."""
    shifted = logits - mx.stop_gradient(logits.max(axis=-1, keepdims=True))
    own = mx.take_along_axis(shifted, targets[:, None], axis=-1)[:, 0]
    return mx.log((mx.exp(shifted) @ mx.ones((logits.shape[-1], 1)))[:, 0]) - own


def _scored(forward: Forward, group: Group) -> mx.array:
    """(N, D) hidden states that predict the scored tokens."""
    states = forward.hidden(group.batch)
    return states.reshape(-1, states.shape[-1])[mx.array(group.positions)]


def fast_step(forward: Forward, batch: StepBatch, *, rho_weight: float, margin: float) -> StepLoss:
    """The same on the CPU, without the pieces that are slow there, for float32 logits of a head that is not trained.

    With G = d CE / d hidden, the head's own pull-back of softmax - one-hot, known as numbers, the function to
    differentiate is sum(hidden * G): its value means nothing, its gradient is that of the loss, and it needs no logits.
    """
    scale = rho_weight / max(batch.pairs, 1)
    sft: list[FloatArray] = []
    contrast: list[FloatArray] = []
    gradient: Any = None
    for wave in _waves([*batch.sft, *batch.contrast]):
        ces, part = _wave(forward, wave, partial(_pull, scale=scale, margin=margin))
        for group, ce in zip(wave, ces, strict=True):
            (contrast if group.is_contrast else sft).append(ce)
        gradient = part if gradient is None else tree_map(mx.add, gradient, part)
        mx.eval(gradient)
    hinges = None
    if contrast:
        ce = np.concatenate(contrast)
        hinges = hinge(ce[0::2], ce[1::2], margin)
    return StepLoss(
        ce=float(np.concatenate(sft).sum()) if sft else None,
        rho=None if hinges is None else float(hinges.mean()),
        active_pairs=None if hinges is None else int((hinges > 0).sum()),
        pairs=None if hinges is None else len(hinges),
        gradient=gradient,
    )


def _wave(
    forward: Forward,
    groups: Sequence[Group],
    pull: Callable[[Group, FloatArray], NDArray[np.float32] | None],
) -> tuple[list[FloatArray], Any]:
    """The cross-entropies of some groups, and the gradient of what `pull` makes of them."""
    ces: list[FloatArray] = []

    def surrogate() -> mx.array:
        hidden = [_scored(forward, group) for group in groups]
        mx.eval(hidden)
        states = [mx.array(np.asarray(each)) for each in hidden]  # the same numbers, outside of the trace
        logits = [forward.logits(each) for each in states]
        mx.eval(logits)
        terms = []
        for number, group in enumerate(groups):
            token_ce = token_cross_entropy_(logits[number], group.targets)
            ces.append(group.weights.astype(np.float64) @ token_ce)
            weights = pull(group, ces[-1])
            if weights is not None:
                pulled = _pulled_back(forward, states[number], logits[number])
                terms.append((hidden[number] * (mx.array(weights)[:, None] * pulled)).sum())
        return sum(terms, start=mx.array(0.0))

    _, gradient = value_and_grad(forward.model, surrogate)()
    return ces, gradient


def _pulled_back(forward: Forward, states: mx.array, slopes: mx.array) -> mx.array:
    """(N, D) gradients of functions of the logits with these (N, V) slopes. A head that is a matrix computes nothing
    else for them than slopes @ matrix; one with a cap computes its logits again."""
    gradients: list[mx.array] = mx.vjp(forward.logits, [states], [slopes])[1]
    return gradients[0]


def _waves(groups: Sequence[Group]) -> list[list[Group]]:
    """Groups computed at the same time, the largest first: at most `WAVE` tokens, or one group."""
    waves: list[list[Group]] = []
    tokens = 0
    for group in sorted(groups, key=lambda group: -group.batch.tokens.size):
        if not waves or tokens + group.batch.tokens.size > WAVE:
            waves.append([])
            tokens = 0
        waves[-1].append(group)
        tokens += group.batch.tokens.size
    return waves


def _pull(group: Group, ce: FloatArray, *, scale: float, margin: float) -> NDArray[np.float32] | None:
    """d loss / d token cross-entropy, (N,); None where it is zero everywhere. `scale`: λ / number of pairs."""
    outer = np.ones(len(ce))  # d loss / d cross-entropy k
    if group.is_contrast:
        active = hinge(ce[0::2], ce[1::2], margin) > 0
        if not active.any():
            return None
        outer = np.repeat(active, 2) * np.tile([1.0, -1.0], len(active)) * scale
    pull: NDArray[np.float32] = outer.astype(np.float32) @ group.weights
    return pull
