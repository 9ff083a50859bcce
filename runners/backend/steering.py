"""Steering vectors, and scoring under them without computing the layers below again."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import mlx.core as mx
import numpy as np

from rhodb.errors import InputError
from runners.backend.activations import Change, Floats, LayerStack, Pool, changed, check_layers, pooled
from runners.backend.forward import Form
from runners.backend.models import LoadedModel
from runners.backend.passes import Progress, plan_batches, text_losses
from runners.backend.proof import proven
from runners.backend.rows import Batch, make_batches, single_row
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
    mean: Floats = differences.mean(axis=0, dtype=np.float64).astype(np.float32)
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


@dataclass(frozen=True, kw_only=True)
class _Prefix:
    """The residual stream of a batch (R, L, D) after its first `done` layers."""

    done: int
    hidden: mx.array


class PrefixScorer:
    """Scores the same pairs under many changes; the residual stream below the changed layer is kept between calls.

    Asked for ascending layers, it runs every layer below only once. Memory: one activation a token, N * D * 4 bytes.
    Where a model's layers cannot be left out like that, which is tried out, it scores from the input each time.
    """

    def __init__(self, loaded: LoadedModel, pairs: Sequence[PairText], *, max_tokens: int) -> None:
        self._loaded, self._pairs, self._max_tokens = loaded, pairs, max_tokens
        self._sides = pair_sides(loaded, pairs, max_tokens)
        self._batches: dict[Form, list[Batch]] = {}
        self._prefixes: dict[int, _Prefix] = {}
        self._leaves_out: dict[int, bool] = {}

    @property
    def cached_bytes(self) -> int:
        return sum(prefix.hidden.nbytes for prefix in self._prefixes.values())

    def score(self, layer: int, change: Change, on_progress: Progress | None = None) -> list[PairScore]:
        """Like `score_pairs` with the layer's output changed."""
        check_layers(self._loaded.model, [layer])
        with proven(self._loaded, self._sides, self._max_tokens) as forward:
            stack = LayerStack.of(forward)
            if stack is not None and self._can_leave_out(stack, layer + 1):
                return self._from_prefix(stack, layer, change, on_progress)
        with changed(self._loaded.model, {layer: change}):
            return score_pairs(self._loaded, self._pairs, max_tokens=self._max_tokens, on_progress=on_progress)

    def _from_prefix(
        self, stack: LayerStack, layer: int, change: Change, on_progress: Progress | None
    ) -> list[PairScore]:
        forward = stack.forward
        if forward.form not in self._batches:
            self._batches[forward.form] = plan_batches(self._sides, paired=forward.trees)

        def hidden(batch: Batch) -> mx.array:
            known = self._prefixes.get(id(batch))
            if known is None or known.done > layer + 1:
                known = _Prefix(done=0, hidden=mx.zeros(0))
            kept: list[mx.array] = [known.hidden]  # of a layer that was changed before, and is changed otherwise now

            def keep(stream: mx.array) -> mx.array:
                kept[0] = stream
                return change(stream)

            if known.done == layer + 1:
                return stack.run(batch, done=known.done, stream=change(known.hidden))
            states = stack.run(batch, done=known.done, stream=known.hidden, after={layer: keep})
            mx.eval(kept)
            self._prefixes[id(batch)] = _Prefix(done=layer + 1, hidden=kept[0])
            return states

        losses = text_losses(replace(forward, body=hidden), self._batches[forward.form], len(self._sides), on_progress)
        return in_pairs(side_scores(self._sides, losses))

    def _can_leave_out(self, stack: LayerStack, done: int) -> bool:
        """Whether the stream after `done` layers is all that the others need: tried out on the shortest text."""
        if done not in self._leaves_out:
            shortest = min(self._sides, key=lambda side: len(side.ids))
            (batch,) = make_batches([single_row(0, shortest)], budget=2**31)
            self._leaves_out[done] = stack.leaves_out(batch, done)
        return self._leaves_out[done]
