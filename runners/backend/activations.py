"""Residual activations of any mlx_lm model: read after chosen layers, or changed there.

"Layer l" always means the residual stream after layer l, from 0.
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import mlx.core as mx
import numpy as np
from mlx.nn.layers.base import Module
from numpy.typing import NDArray

from rhodb.errors import InputError
from runners.backend.anatomy import FAILURES, Anatomy, LayerList, layer_list
from runners.backend.device import is_cpu
from runners.backend.forward import Forward
from runners.backend.models import LoadedModel
from runners.backend.passes import CPU_BUDGET, GPU_BUDGET
from runners.backend.proof import proven
from runners.backend.rows import Batch, Side

Change = Callable[[mx.array], mx.array]
"""Residual stream (R, L, D) -> residual stream."""
Floats = NDArray[np.float32]
Ids = tuple[int, ...]
Pool = Literal["last", "all"]
"""The last token of a text, or the mean over all its tokens."""


def _stand_in(layer: Module, call: Callable[..., mx.array]) -> Module:
    """A copy of a decoder layer, of the same parts, whose call is `call(the layer's own, *arguments)`.

    It is still an instance of the layer's class, because some bodies ask for that and choose a mask by it.
    """
    kind = type(layer)
    own = kind.__call__

    def __call__(self: Module, *args: Any, **kwargs: Any) -> mx.array:  # noqa: N807
        return call(partial(own, self), *args, **kwargs)

    twin = copy.copy(layer)
    changed_kind = type(kind.__name__, (kind,), {"__call__": __call__, "__module__": kind.__module__})
    object.__setattr__(twin, "__class__", changed_kind)
    return twin


def tapped(layer: Module, after: Change) -> Module:
    """A decoder layer whose output goes through a function. Its call raises InputError where the output is not the
    residual stream."""

    def call(own: Callable[..., Any], *args: Any, **kwargs: Any) -> mx.array:
        hidden = own(*args, **kwargs)
        if not isinstance(hidden, mx.array) or hidden.ndim != 3:
            raise InputError(
                f"the layers of {type(layer).__module__} cannot be read or changed one by one: they hand on more "
                "than a residual stream"
            )
        return after(hidden)

    return _stand_in(layer, call)


def _given(layer: Module, stream: mx.array | None) -> Module:
    """In the place of a decoder layer: hands on this stream, or else the one it is given."""
    return _stand_in(layer, lambda _, hidden, *args, **kwargs: hidden if stream is None else stream)


@dataclass(frozen=True, kw_only=True)
class LayerStack:
    """A way through a model whose layers can be left out or changed in one pass, while others use the model too."""

    forward: Forward
    anatomy: Anatomy
    layers: LayerList

    @classmethod
    def of(cls, forward: Forward) -> "LayerStack | None":
        """None for a model whose body does not keep its layers itself."""
        if forward.anatomy is None:
            return None
        layers = layer_list(forward.model)
        return (
            cls(forward=forward, anatomy=forward.anatomy, layers=layers)
            if layers.owner is forward.anatomy.body
            else None
        )

    def run(
        self, batch: Batch, *, done: int = 0, stream: mx.array | None = None, after: Mapping[int, Change] | None = None
    ) -> mx.array:
        """Hidden states after the last norm, from the stream after the first `done` layers on.

        The model's own body is called, with a list of layers of its own. MLX is lazy: what comes before `stream` is
        never computed.
        """
        layers = list(self.layers.layers)
        layers[:done] = [
            _given(layer, stream if index == done - 1 else None) for index, layer in enumerate(layers[:done])
        ]
        for index, change in (after or {}).items():
            layers[index] = tapped(layers[index], change)
        body = copy.copy(self.anatomy.body)
        body[self.layers.key] = layers
        return self.forward.through(body, batch)

    def leaves_out(self, batch: Batch, done: int) -> bool:
        """Whether the stream after `done` layers is all that the others take from these: same states, same floats."""
        streams: list[mx.array] = []

        def keep(stream: mx.array) -> mx.array:
            streams.append(stream)
            return stream

        try:
            expected = self.run(batch, after={done - 1: keep})
            found = self.run(batch, done=done, stream=streams[0])
            return bool(mx.array_equal(found, expected).item())
        except (*FAILURES, InputError):
            return False


@contextmanager
def changed(model: Module, changes: Mapping[int, Change]) -> Iterator[None]:
    """Inside the block each named layer's output goes through its function. InputError for a layer there is not."""
    check_layers(model, changes)
    layers = layer_list(model).layers
    originals = {index: layers[index] for index in changes}
    try:
        for index, change in changes.items():
            layers[index] = tapped(layers[index], change)
        yield
    finally:
        for index, layer in originals.items():
            layers[index] = layer


def check_layers(model: Module, indices: Iterable[int]) -> None:
    """InputError for a layer that there is not, or a model whose layers cannot be changed one by one."""
    count = len(layer_list(model).layers)
    for index in indices:
        if not 0 <= index < count:
            raise InputError(f"layer {index} is out of range: the model has layers 0 to {count - 1}")


def residuals(loaded: LoadedModel, texts: Sequence[Ids], layers: Sequence[int]) -> Iterator[tuple[int, list[Floats]]]:
    """(index of a text, its activations (L, D) after each of the layers), batch by batch, not in order."""
    seen: dict[int, mx.array] = {}

    def recorder(index: int) -> Change:
        def record(hidden: mx.array) -> mx.array:
            seen[index] = hidden
            return hidden

        return record

    sides = [Side(ids=ids, answer_from=None) for ids in texts if len(ids) > 1]
    longest = max(map(len, texts))
    with proven(loaded, sides, longest), changed(loaded.model, {index: recorder(index) for index in layers}):
        for batch in _batches(texts):
            tokens = np.zeros((len(batch), max(len(texts[i]) for i in batch)), np.int32)
            for row, i in enumerate(batch):
                tokens[row, : len(texts[i])] = texts[i]
            _ = loaded.model(mx.array(tokens))  # MLX is lazy: what the layers do not need is never computed
            found = [np.array(seen[index].astype(mx.float32)) for index in layers]
            for row, i in enumerate(batch):
                yield i, [states[row, : len(texts[i])] for states in found]


def pooled(loaded: LoadedModel, texts: Sequence[Ids], layers: Sequence[int], pool: Pool) -> dict[int, Floats]:
    """Layer -> (N, D) one activation a text."""
    rows: dict[int, list[Floats]] = {}
    for index, states in residuals(loaded, texts, layers):
        rows[index] = [s[-1] if pool == "last" else s.mean(axis=0, dtype=np.float64).astype(np.float32) for s in states]
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
