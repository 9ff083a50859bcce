"""What an adapter is made of: changes of parameters, and the slots that its configuration has for them."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

import mlx.core as mx
import numpy as np

from runners.backend.weights import Array

Kind = Literal["lora", "dora", "full"]


@dataclass(frozen=True, kw_only=True)
class LowRank:
    """W becomes W + scale B A; with a magnitude (DoRA; Liu et al. 2024) its rows are then given these norms."""

    a: mx.array
    """(r, in), or (experts, r, in)."""
    b: mx.array
    """(out, r), or (experts, out, r)."""
    scale: float
    magnitude: mx.array | None = None
    """(out,)"""

    def applied(self, weight: Array) -> Array:
        """The changed matrix, in float32."""
        update = np.float32(self.scale) * (numbers(self.b) @ numbers(self.a))
        changed: Array = weight + update
        if self.magnitude is not None:
            norms = np.linalg.norm(changed, axis=-1, keepdims=True)
            changed = numbers(self.magnitude)[:, None] / norms * changed
        return changed


@dataclass(frozen=True, kw_only=True)
class Whole:
    """W becomes another tensor."""

    tensor: mx.array

    def applied(self, weight: Array) -> Array:
        return numbers(self.tensor)


Change = LowRank | Whole


@dataclass(frozen=True, kw_only=True)
class Slot:
    """A change that an adapter of this configuration has: its tensors in the file, and what they make."""

    parameter: str
    tensors: Mapping[str, tuple[str, tuple[int, ...]]]
    """Part (a, b, m, ...) -> name in the file and shape."""
    build: Callable[[Mapping[str, mx.array]], Change]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What an adapter's configuration says that there is."""

    kind: Kind
    written_by: str
    base: str | None
    """The model it was trained on, as it names it."""
    slots: tuple[Slot, ...]
    optional: frozenset[str] = frozenset()
    """Tensors that may be absent without the adapter being partial."""


def low_rank(parts: Mapping[str, mx.array], *, scale: float, transposed: Collection[str] = ()) -> LowRank:
    """The update of parts `a`, `b` and maybe `m`, of which some lie transposed in the file."""
    a, b = (parts[part].T if part in transposed else parts[part] for part in ("a", "b"))
    return LowRank(a=a, b=b, scale=scale, magnitude=parts.get("m"))


def low_rank_slot(
    parameter: str,
    tensors: Mapping[str, tuple[str, tuple[int, ...]]],
    *,
    scale: float,
    transposed: Collection[str] = (),
) -> Slot:
    """A slot of a low-rank update."""
    build = partial(low_rank, scale=scale, transposed=transposed)
    return Slot(parameter=parameter, tensors=tensors, build=build)


def numbers(array: mx.array) -> Array:
    """As float32."""
    return np.array(array.astype(mx.float32))
