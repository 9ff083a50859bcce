"""Residual activations of any mlx_lm model: read after chosen layers, or changed there.

"Layer l" always means the residual stream after layer l, from 0.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import mlx.core as mx
import numpy as np
from mlx.nn.layers.base import Module
from numpy.typing import NDArray

from rhodb.errors import InputError
from runners.backend.device import is_cpu
from runners.backend.fastmath import fast_math
from runners.backend.models import LoadedModel
from runners.backend.passes import CPU_BUDGET, GPU_BUDGET

Change = Callable[[mx.array], mx.array]
"""Residual stream (R, L, D) -> residual stream."""
Floats = NDArray[np.float32]
Ids = tuple[int, ...]
Pool = Literal["last", "all"]
"""The last token of a text, or the mean over all its tokens."""


class _Tapped(Module):
    """A decoder layer whose output goes through a function; everything else about it is the layer's own."""

    def __init__(self, layer: Module, after: Change) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.layer = layer
        self._after = after

    def __call__(self, *args: Any, **kwargs: Any) -> mx.array:
        return self._after(self.layer(*args, **kwargs))

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("layer"), name)


@contextmanager
def changed(model: Module, changes: Mapping[int, Change]) -> Iterator[None]:
    """Inside the block each named layer's output goes through its function. InputError for a layer there is not."""
    layers = model.model.layers  # some models' own `layers` is a copy of the list
    for index in changes:
        if not 0 <= index < len(layers):
            raise InputError(f"layer {index} is out of range: the model has layers 0 to {len(layers) - 1}")
    originals = {index: layers[index] for index in changes}
    try:
        for index, change in changes.items():
            layers[index] = _Tapped(layers[index], change)
        yield
    finally:
        for index, layer in originals.items():
            layers[index] = layer


def residuals(loaded: LoadedModel, texts: Sequence[Ids], layers: Sequence[int]) -> Iterator[tuple[int, list[Floats]]]:
    """(index of a text, its activations (L, D) after each of the layers), batch by batch, not in order."""
    seen: dict[int, mx.array] = {}

    def recorder(index: int) -> Change:
        def record(hidden: mx.array) -> mx.array:
            seen[index] = hidden
            return hidden

        return record

    with fast_math(loaded.model), changed(loaded.model, {index: recorder(index) for index in layers}):
        for batch in _batches(texts):
            tokens = np.zeros((len(batch), max(len(texts[i]) for i in batch)), np.int32)
            for row, i in enumerate(batch):
                tokens[row, : len(texts[i])] = texts[i]
            mx.eval(loaded.model.model(mx.array(tokens)))
            found = [np.array(seen[index].astype(mx.float32)) for index in layers]
            for row, i in enumerate(batch):
                yield i, [states[row, : len(texts[i])] for states in found]


def pooled(loaded: LoadedModel, texts: Sequence[Ids], layers: Sequence[int], pool: Pool) -> dict[int, Floats]:
    """Layer -> (N, D) one activation a text."""
    rows: dict[int, list[Floats]] = {}
    for index, states in residuals(loaded, texts, layers):
        rows[index] = [s[-1] if pool == "last" else s.mean(axis=0) for s in states]
    return {layer: np.stack([rows[i][k] for i in range(len(texts))]) for k, layer in enumerate(layers)}


def _batches(texts: Sequence[Ids]) -> Iterator[list[int]]:
    """Indices of texts of similar length, at most a budget of padded tokens at a time. Right padding needs no mask."""
    budget = CPU_BUDGET if is_cpu() else GPU_BUDGET
    batch: list[int] = []
    for index in sorted(range(len(texts)), key=lambda i: -len(texts[i])):
        if batch and len(texts[batch[0]]) * (len(batch) + 1) > budget:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
