"""Steering vectors, and scoring under them without computing the layers below again."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final, Literal

import mlx.core as mx
import numpy as np
from mlx.nn.layers.base import Module

from rhodb.errors import InputError
from runners.backend.activations import Change, Floats, Pool, changed, pooled
from runners.backend.device import is_cpu
from runners.backend.fastmath import fast_math
from runners.backend.forward import TreePositions, row_forward
from runners.backend.models import LoadedModel
from runners.backend.passes import Progress, plan_batches, text_losses
from runners.backend.rows import Batch
from runners.backend.scoring import PairScore, PairText, in_pairs, pair_sides, score_pairs, side_scores

Method = Literal["mean-last", "mean-all", "pca"]
POOLS: Final[dict[Method, Pool]] = {"mean-last": "last", "mean-all": "all", "pca": "last"}


def difference_vectors(
    loaded: LoadedModel, pairs: Sequence[PairText], layers: Sequence[int], method: Method, *, max_tokens: int
) -> dict[int, Floats]:
    """Layer -> (D,) vector from the undesired towards the desired side of the pairs."""
    if not pairs:
        raise InputError("no pairs to make a steering vector from")
    sides = [side.ids for side in pair_sides(loaded, pairs, max_tokens)]
    states = pooled(loaded, sides, layers, POOLS[method])
    return {layer: direction(rows[::2] - rows[1::2], method) for layer, rows in states.items()}


def direction(differences: Floats, method: Method) -> Floats:
    """(N, D) differences -> (D,) vector: their mean, or for `pca` their first principal component.

    The component is that of the raw differences (Zou et al. 2023), turned towards their mean and as long as it.
    """
    mean: Floats = differences.mean(axis=0)
    if method != "pca":
        return mean
    component = np.linalg.svd(differences, full_matrices=False)[2][0]
    sign = 1.0 if component @ mean >= 0 else -1.0
    turned: Floats = (sign * np.linalg.norm(mean) * component).astype(np.float32)
    return turned


def random_vector(norm: float, size: int, rng: np.random.Generator) -> Floats:
    """(D,) a vector of this norm in a uniformly random direction."""
    vector = rng.standard_normal(size)
    scaled: Floats = (norm / np.linalg.norm(vector) * vector).astype(np.float32)
    return scaled


def added(vector: Floats, alpha: float) -> Change:
    """Adds α times the vector at every position."""
    shift = mx.array(alpha * vector)
    mx.eval(shift)
    return lambda hidden: hidden + shift.astype(hidden.dtype)


@dataclass(kw_only=True)
class _Prefix:
    """The residual stream of a batch (R, L, D) after its first `done` layers."""

    done: int
    hidden: mx.array


class PrefixScorer:
    """Scores the same pairs under many changes; the residual stream below the changed layer is kept between calls.

    Asked for ascending layers, it runs every layer below only once. Memory: one activation a token, N * D * 4 bytes.
    Where a model's layers cannot be run one by one (see `row_forward`), it scores from the input each time.
    """

    def __init__(self, loaded: LoadedModel, pairs: Sequence[PairText], *, max_tokens: int) -> None:
        self._loaded, self._pairs, self._max_tokens = loaded, pairs, max_tokens
        self._sides = pair_sides(loaded, pairs, max_tokens)
        self._batches: list[Batch] | None = None
        self._prefixes: dict[int, _Prefix] = {}

    @property
    def cached_bytes(self) -> int:
        return sum(prefix.hidden.nbytes for prefix in self._prefixes.values())

    def score(self, layer: int, change: Change, on_progress: Progress | None = None) -> list[PairScore]:
        """Like `score_pairs` with the layer's output changed."""
        model = self._loaded.model
        with ExitStack() as stack:
            stack.enter_context(changed(model, {layer: lambda hidden: hidden}))  # checks the layer
        with ExitStack() as stack:
            stack.enter_context(fast_math(model))
            _, tree = stack.enter_context(row_forward(model, self._max_tokens))
            if tree:
                return self._from_prefix(layer, change, on_progress)
        with changed(model, {layer: change}):
            return score_pairs(self._loaded, self._pairs, max_tokens=self._max_tokens, on_progress=on_progress)

    def _from_prefix(self, layer: int, change: Change, on_progress: Progress | None) -> list[PairScore]:
        model = self._loaded.model
        if self._batches is None:
            self._batches = plan_batches(self._sides, paired=True)

        def body(batch: Batch) -> mx.array:
            mask, at = _attention(model, batch)
            hidden = self._advance(batch, layer + 1, mask, at)
            return _finish(model, change(hidden), layer + 1, mask, at)

        losses = text_losses(model, body, self._batches, len(self._sides), on_progress)
        return in_pairs(side_scores(self._sides, losses))

    def _advance(self, batch: Batch, until: int, mask: mx.array, at: TreePositions) -> mx.array:
        """The batch's stream after `until` layers, from the nearest prefix known."""
        inner = self._loaded.model.model
        prefix = self._prefixes.get(id(batch))
        if prefix is None or prefix.done > until:
            prefix = _Prefix(done=0, hidden=inner.embed_tokens(mx.array(batch.tokens)))
        hidden = prefix.hidden
        for layer in inner.layers[prefix.done : until]:
            hidden = layer(hidden, mask, cache=at)
        mx.eval(hidden)
        self._prefixes[id(batch)] = _Prefix(done=until, hidden=hidden)
        return hidden


def _attention(model: Module, batch: Batch) -> tuple[mx.array, TreePositions]:
    """Mask and positions of a batch, as `row_forward`'s tree form has them."""
    visible = mx.array(batch.visible())
    dtype = model.model.embed_tokens(mx.array([0])).dtype
    mask = mx.where(visible, 0.0, -1e9).astype(dtype) if is_cpu() else visible
    return mask, TreePositions(mx.array(batch.positions))


def _finish(model: Module, hidden: mx.array, done: int, mask: mx.array, at: TreePositions) -> mx.array:
    for layer in model.model.layers[done:]:
        hidden = layer(hidden, mask, cache=at)
    result: mx.array = model.model.norm(hidden)
    return result
