"""The ways through a model: rows that share beginnings, rows of their own, or mlx_lm's whole call."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal

import mlx.core as mx
import numpy as np
from mlx.nn.layers.base import Module
from mlx_lm.models.cache import KVCache, RotatingKVCache, make_prompt_cache

from runners.backend.anatomy import Anatomy
from runners.backend.rows import Batch

Body = Callable[[Batch], mx.array]
"""Batch (R, L) -> hidden states (R, L, D) after the last norm."""

Form = Literal["tree", "rows", "whole"]
"""tree: pairs as tree rows, through the model's body, and its head at chosen positions; rows: the same, a text a row;
whole: the logits of all positions by one call, nothing shared or replaced."""
FAST_FORMS: Final[tuple[Form, ...]] = ("tree", "rows")
"""Fastest first."""

Operations = Callable[[Module], AbstractContextManager[None]]
"""Puts fast operations into a model for the length of a block, as `fastmath.fast_math` does."""


@contextmanager
def nothing_replaced(_: Module) -> Iterator[None]:
    """Operations that leave the model's own in place."""
    yield


@dataclass(frozen=True, kw_only=True)
class Forward:
    """One way from tokens to logits, ready for use."""

    model: Module
    form: Form
    anatomy: Anatomy | None
    """None in the form `whole`, in which the hidden states are the logits already."""
    caches: int = 0
    """Layers that are told of tree rows by their caches."""
    body: Body | None = None
    """Stands in for the model's own body."""

    @property
    def trees(self) -> bool:
        """It accepts tree rows."""
        return self.form == "tree"

    def hidden(self, batch: Batch) -> mx.array:
        """Hidden states (R, L, D) of a batch, after the last norm.

        In the form `rows`, right padding needs no mask: attention is causal, and nobody asks for what padding yields.
        """
        if self.body is not None:
            return self.body(batch)
        whole: Module = self.model if self.anatomy is None else self.anatomy.body
        return self.through(whole, batch)

    def logits(self, states: mx.array) -> mx.array:
        """Hidden states (N, D) -> logits (N, V)."""
        return states if self.anatomy is None else self.anatomy.logits(states)

    def through(self, body: Module, batch: Batch) -> mx.array:
        """What a module like the model's own makes of a batch."""
        tokens = mx.array(batch.tokens)
        if self.anatomy is None:
            logits: mx.array = body(tokens)
            return logits
        # Some bodies have no default for their caches.
        states: mx.array = body(tokens, cache=[TreeRows(batch)] * self.caches if self.trees else None)
        return states


@contextmanager
def opened(
    model: Module, anatomy: Anatomy | None, form: Form, *, max_positions: int, operations: Operations
) -> Iterator[Forward]:
    """One way through a model. No text is longer than `max_positions`; `anatomy` may be None for `whole` only.

    Inside the block of the tree form the model's rotary embeddings are wrapped. Raises one of `anatomy.FAILURES`, here
    or when it is used, where the form does not fit the model.
    """
    if form == "whole" or anatomy is None:
        yield Forward(model=model, form="whole", anatomy=None)
        return
    with ExitStack() as stack:
        stack.enter_context(operations(model))
        caches = 0
        if form == "tree":
            caches = _cached_layers(model)
            stack.enter_context(_positioned_ropes(model, max_positions))
        yield Forward(model=model, form=form, anatomy=anatomy, caches=caches)


def _cached_layers(model: Module) -> int:
    """How many caches a model's body takes. ValueError where they are more than keys and values: it has a memory of
    what it read in order, and cannot read two branches."""
    caches: list[Any] = make_prompt_cache(model)
    if not caches or not all(isinstance(cache, KVCache | RotatingKVCache) for cache in caches):
        raise ValueError("its layers keep a state that is no list of keys and values")
    return len(caches)


class TreeRows:
    """Stands where mlx_lm's bodies expect a layer's cache: it has the rows' own positions and masks.

    A body asks its caches for `make_mask`, a layer for `offset`, which it passes to `rope`, and `update_and_fetch`.
    """

    def __init__(self, batch: Batch) -> None:
        self.positions = mx.array(batch.positions)
        self._batch = batch
        self._masks: dict[int | None, mx.array] = {}
        self._rotations: dict[bytes, tuple[mx.array, mx.array]] = {}

    @property
    def offset(self) -> "TreeRows":
        return self

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        return keys, values

    def make_mask(self, length: int, *, window_size: int | None = None, return_array: bool = False) -> mx.array:
        """(R, 1, L, L), true where a position sees another: of its branch, not later, within the window."""
        assert length == self.positions.shape[1]
        if window_size not in self._masks:
            self._masks[window_size] = mx.array(self._batch.visible(window_size))
        return self._masks[window_size]

    def rotation(self, table: "RotationTable") -> tuple[mx.array, mx.array]:
        """Factors of these positions, each (R, 1, L, D)."""
        if table.key not in self._rotations:
            factors, partners = table.parts
            self._rotations[table.key] = (factors[self.positions][:, None], partners[self.positions][:, None])
        return self._rotations[table.key]


class RotationTable:
    """What a rotary embedding does at each position, read off the embedding itself.

    Whatever its base and scaling, it maps the pair (a, b) of a position to (a cos - b sin, a sin + b cos), so its
    images of unit vectors are the cosines and sines.
    """

    def __init__(self, rope: Module, dims: int, length: int) -> None:
        traditional = bool(getattr(rope, "traditional", False))
        first = np.arange(dims) % 2 == 0 if traditional else np.arange(dims) < dims // 2
        image = np.array(rope(mx.broadcast_to(mx.array(first.astype(np.float32)), (1, 1, length, dims)))[0, 0])
        cosines, sines = image[:, first], image[:, ~first]
        factors, partners = np.empty_like(image), np.empty_like(image)
        factors[:, first], factors[:, ~first] = cosines, cosines
        partners[:, first], partners[:, ~first] = -sines, sines
        self.traditional, self.dims = traditional, dims
        self.key = image.tobytes()
        self.parts = (mx.array(factors), mx.array(partners))

    def rotate(self, x: mx.array, at: TreeRows) -> mx.array:
        """x (R, H, L, D) rotated to the positions of its rows; dimensions beyond the embedding's stay as they are."""
        if x.shape[-1] > self.dims:
            turned = self.rotate(x[..., : self.dims], at)
            return mx.concatenate([turned, x[..., self.dims :]], axis=-1)
        factors, partners = at.rotation(self)
        if self.traditional:
            pairs = x.reshape(*x.shape[:-1], -1, 2)
            swapped = mx.stack([pairs[..., 1], pairs[..., 0]], axis=-1).reshape(x.shape)
        else:
            half = x.shape[-1] // 2
            swapped = mx.concatenate([x[..., half:], x[..., :half]], axis=-1)
        return (x * factors + swapped * partners).astype(x.dtype)


class _PositionedRope(Module):
    """A layer's rotary embedding that also takes `TreeRows` as its offset."""

    def __init__(self, rope: Module, table: RotationTable) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.rope = rope
        self._table = table

    def __call__(self, x: mx.array, offset: Any = 0) -> mx.array:
        if isinstance(offset, TreeRows):
            return self._table.rotate(x, offset)
        rotated: mx.array = self.rope(x, offset=offset)
        return rotated


@contextmanager
def _positioned_ropes(model: Module, max_positions: int) -> Iterator[None]:
    """Inside the block the model's rotary embeddings take `TreeRows`. ValueError for one that is not understood."""
    tables: dict[bytes, RotationTable] = {}  # layers nearly always rotate alike: one table for all
    wrapped: list[tuple[Module, Module, _PositionedRope]] = []
    for layer in model.modules():
        rope = layer.get("rope")
        if not isinstance(rope, Module):
            continue
        dims = getattr(rope, "dims", getattr(rope, "dim", None))
        if dims is None:
            raise ValueError(f"its rotary embedding {type(rope).__name__} does not say how many dimensions it turns")
        table = RotationTable(rope, dims, max_positions)
        wrapped.append((layer, rope, _PositionedRope(rope, tables.setdefault(table.key, table))))
    try:
        for layer, _, positioned in wrapped:
            layer.rope = positioned
        yield
    finally:
        for layer, rope, _ in wrapped:
            layer.rope = rope
