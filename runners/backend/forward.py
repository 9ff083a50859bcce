"""Hidden states of rows, through any mlx_lm model; in tree form where the model's attention allows it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.nn.layers.base import Module

from runners.backend.device import is_cpu
from runners.backend.rows import Batch, Side, make_batches, single_row, tree_row

Body = Callable[[Batch], mx.array]
"""Batch (R, L) -> hidden states (R, L, D) after the last norm."""

_PROBE_TEXTS = ((5, 9, 2, 7, 3, 8), (5, 9, 2, 6, 4, 1, 2))


class TreePositions:
    """Stands where mlx_lm's layers expect a key-value cache: it hands the rows' positions to the rotary embedding.

    Layers ask a cache for `offset`, which they pass to `rope`, and for `update_and_fetch`.
    """

    def __init__(self, positions: mx.array) -> None:
        self.positions = positions
        self._rotations: dict[bytes, tuple[mx.array, mx.array]] = {}

    @property
    def offset(self) -> "TreePositions":
        return self

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        return keys, values

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
        self.traditional = traditional
        self.key = image.tobytes()
        self.parts = (mx.array(factors), mx.array(partners))

    def rotate(self, x: mx.array, at: TreePositions) -> mx.array:
        """x (R, H, L, D) rotated to the positions of its rows."""
        factors, partners = at.rotation(self)
        if self.traditional:
            pairs = x.reshape(*x.shape[:-1], -1, 2)
            swapped = mx.stack([pairs[..., 1], pairs[..., 0]], axis=-1).reshape(x.shape)
        else:
            half = x.shape[-1] // 2
            swapped = mx.concatenate([x[..., half:], x[..., :half]], axis=-1)
        return (x * factors + swapped * partners).astype(x.dtype)


class _PositionedRope(Module):
    """A layer's rotary embedding that also takes `TreePositions` as its offset."""

    def __init__(self, rope: Module, table: RotationTable) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.rope = rope
        self._table = table

    def __call__(self, x: mx.array, offset: Any = 0) -> mx.array:
        if isinstance(offset, TreePositions):
            return self._table.rotate(x, offset)
        rotated: mx.array = self.rope(x, offset=offset)
        return rotated


@contextmanager
def row_forward(model: Module, max_positions: int) -> Iterator[tuple[Body, bool]]:
    """The function that computes a batch's hidden states, and whether it accepts tree rows.

    No text is longer than `max_positions`. Whether the tree form fits a model is tried out: its result on a small
    tree must equal that of the plain forward pass. Inside the block the model's `rope` modules are wrapped.
    """
    attentions = [layer for layer in model.modules() if isinstance(layer.get("rope"), Module)]
    ropes = [(layer, layer.rope) for layer in attentions]
    try:
        fits = _attention_span(model) >= max_positions and _install(ropes, max_positions) and _tree_equals_plain(model)
        yield (_tree_body(model) if fits else _plain_body(model)), fits
    finally:
        for layer, rope in ropes:
            layer.rope = rope


def head(model: Module) -> Callable[[mx.array], mx.array]:
    """Hidden states (N, D) -> logits (N, V)."""
    projection: Callable[[mx.array], mx.array] = (
        model.lm_head if "lm_head" in model else model.model.embed_tokens.as_linear
    )
    return projection


def _plain_body(model: Module) -> Body:
    """Right padding needs no mask: attention is causal, and nobody asks for what the padding yields."""
    return lambda batch: model.model(mx.array(batch.tokens))


def _tree_body(model: Module) -> Body:
    inner = model.model
    additive = is_cpu()
    dtype = model.model.embed_tokens(mx.array([0])).dtype

    def body(batch: Batch) -> mx.array:
        visible = mx.array(batch.visible())
        mask = mx.where(visible, 0.0, -1e9).astype(dtype) if additive else visible
        at = TreePositions(mx.array(batch.positions))
        hidden = inner.embed_tokens(mx.array(batch.tokens))
        for layer in inner.layers:
            hidden = layer(hidden, mask, cache=at)
        result: mx.array = inner.norm(hidden)
        return result

    return body


def _attention_span(model: Module) -> float:
    """How far back every layer sees: the smallest window or chunk that the model's arguments name."""
    arguments = vars(model.args) if hasattr(model, "args") else {}
    spans = [
        value
        for name, value in arguments.items()
        if ("window" in name or "chunk" in name) and isinstance(value, int) and value > 1
    ]
    return min(spans, default=float("inf"))


def _install(ropes: list[tuple[Module, Module]], max_positions: int) -> bool:
    """Wrap the rotary embeddings; False, with nothing changed, if there is none or one that is not understood."""
    tables: dict[bytes, RotationTable] = {}  # layers nearly always rotate alike: one table for all
    wrapped = []
    for layer, rope in ropes:
        dims = getattr(rope, "dims", None)
        if dims is None or getattr(layer, "head_dim", dims) != dims:
            return False
        table = RotationTable(rope, dims, max_positions)
        wrapped.append((layer, _PositionedRope(rope, tables.setdefault(table.key, table))))
    for layer, rope in wrapped:
        layer.rope = rope
    return bool(wrapped)


def _tree_equals_plain(model: Module) -> bool:
    """Try the tree form on two short texts that begin alike."""
    first, second = (Side(ids=ids, answer_from=None) for ids in _PROBE_TEXTS)
    (tree,) = make_batches([tree_row(0, first, 1, second)], budget=64, multiple=8)
    try:
        states = _tree_body(model)(tree)[0]
        plain = [_plain_body(model)(make_batches([single_row(0, s)], budget=64)[0])[0] for s in (first, second)]
        mx.eval(states, plain)
    except (AttributeError, TypeError, ValueError):  # layers that want other arguments or another cache
        return False
    tolerance = 1e-3 if states.dtype == mx.float32 else 5e-2
    for (_, terms), expected in zip(tree.rows[0].members, plain, strict=True):
        found = states[mx.array(tree.rows[0].sources[terms])]
        if not mx.all(mx.abs(found - expected) <= tolerance * mx.abs(expected).max()).item():
            return False
    return True
