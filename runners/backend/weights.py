"""A model's weights by name, to compute with and to put in place: matrices of quantised layers are expanded in float32.

Arithmetic on packed integers is never meant, so a quantised matrix is one tensor (`Packed`) and not three.
"""

import hashlib
import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import mlx.core as mx
import numpy as np
from mlx.nn.layers.base import Module
from mlx.nn.layers.embedding import Embedding
from mlx.nn.layers.linear import Linear
from mlx.nn.layers.quantized import QuantizedEmbedding, QuantizedLinear
from mlx.utils import tree_flatten, tree_unflatten
from mlx_lm.models.mla import MultiLinear, QuantizedMultiLinear
from mlx_lm.models.switch_layers import QuantizedSwitchLinear, SwitchLinear
from numpy.typing import NDArray

from rhodb.errors import InputError
from runners.backend.models import LoadedModel

Array = NDArray[np.float32]

_PARTS: Final = ("weight", "scales", "biases", "global_scale")
"""Arrays of a quantised layer that together are its matrix; `bias`, where it has one, is a tensor of its own."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Packed:
    """The matrix of a quantised layer."""

    arrays: Mapping[str, mx.array]
    """Its `weight` and `scales`, and where the mode has them `biases` and `global_scale`."""
    group_size: int
    bits: int
    mode: str
    dtype: mx.Dtype
    """In which the layer computes, and its expanded matrix is kept."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the matrix that it stands for."""
        *rows, columns = self.arrays["weight"].shape
        return (*rows, columns * 32 // self.bits)

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self.arrays.values())

    def expanded(self) -> mx.array:
        """The matrix in float32."""
        a = {n: v.astype(mx.float32) if v.dtype in _FLOATS else v for n, v in self.arrays.items()}
        expand = partial(mx.dequantize, group_size=self.group_size, bits=self.bits, mode=self.mode, dtype=mx.float32)
        scale = a.get("global_scale")
        if scale is None or scale.ndim == 0:
            return expand(a["weight"], a["scales"], a.get("biases"), global_scale=scale)
        experts = zip(a["weight"], a["scales"], scale, strict=True)
        return mx.stack([expand(w, s, global_scale=g) for w, s, g in experts])

    def packed_again(self, matrix: Array) -> "Packed":
        """Another matrix, quantised as this one is."""
        if "global_scale" in self.arrays:
            raise InputError("matrices with a global scale cannot be quantised again here; leave --requantize out")
        parts = mx.quantize(mx.array(matrix).astype(self.dtype), self.group_size, self.bits, mode=self.mode)
        return replace(self, arrays=dict(zip(_PARTS, parts, strict=False)))


_FLOATS: Final = (mx.float16, mx.bfloat16, mx.float32)

Tensor = mx.array | Packed
Tensors = dict[str, Tensor]
"""Name of a parameter, as in mlx_lm, -> tensor."""


def model_tensors(model: Module) -> Tensors:
    """Every weight of a model, shared with it."""
    flat: dict[str, mx.array] = dict(tree_flatten(model.parameters()))
    packed = {path: module for path, module in named_modules(model) if "scales" in module and hasattr(module, "bits")}
    plain = [array for name, array in flat.items() if name.rpartition(".")[0] not in packed]
    floats = [array.dtype for array in plain if array.dtype in _FLOATS]
    tensors: Tensors = dict(flat)
    for path, module in packed.items():
        arrays = {part: array for part in _PARTS if (array := tensors.pop(f"{path}.{part}", None)) is not None}
        scales = arrays["scales"].dtype
        tensors[f"{path}.weight"] = Packed(
            arrays=arrays,  # type: ignore[arg-type]
            group_size=module.group_size,
            bits=module.bits,
            mode=module.mode,
            dtype=scales if scales in _FLOATS else floats[0] if floats else mx.float32,
        )
    return tensors


def dense(tensor: Tensor) -> Array:
    """A tensor as float32 numbers."""
    return np.array(tensor.expanded() if isinstance(tensor, Packed) else tensor.astype(mx.float32))


class Changes:
    """Tensors to put in a model's place, and how much of their change the types that they are stored in round away."""

    def __init__(self, *, requantize: bool = False) -> None:
        """`requantize`: what was quantised is quantised again in the same way; else it stays expanded."""
        self.tensors: Tensors = {}
        self.requantized = 0
        """Matrices that were quantised again."""
        self._requantize, self._changed, self._lost = requantize, 0.0, 0.0

    def add(self, name: str, old: Tensor, before: Array, after: Array) -> None:
        """Let `after` (exact) take the place of `old`, whose numbers are `before`."""
        if self._requantize and isinstance(old, Packed):
            new: Tensor = old.packed_again(after)
            self.requantized += 1
        else:
            new = mx.array(after).astype(old.dtype)
        self.tensors[name] = new
        self._changed += _squares(after - before)
        self._lost += _squares(dense(new) - after)

    @property
    def lost(self) -> float | None:
        """Frobenius norm of all rounding over that of all changes; None without a change."""
        return (self._lost / self._changed) ** 0.5 if self._changed else None


@contextmanager
def in_place(loaded: LoadedModel, changes: Mapping[str, Tensor]) -> Iterator[None]:
    """Inside the block the model computes with these tensors instead of its own; afterwards with the very same arrays
    and layers as before. A quantised layer whose tensor is given unpacked is an unquantised one meanwhile.

    Raises InputError for a quantised layer of a kind that has no unquantised form here.
    """
    model = loaded.model
    own, modules = model_tensors(model), dict(named_modules(model))
    with ExitStack() as undo:
        for name, tensor in changes.items():
            path, _, leaf = name.rpartition(".")
            old, module = own[name], modules[path]
            if isinstance(old, Packed) and isinstance(tensor, mx.array):
                modules[path] = unpacked_layer(path, module, tensor)
                undo.callback(_set_module, model, path, module)
                _set_module(model, path, modules[path])
            elif isinstance(old, Packed) and isinstance(tensor, Packed):
                for part, array in tensor.arrays.items():
                    undo.callback(setattr, module, part, module[part])
                    setattr(module, part, array)
            else:
                undo.callback(setattr, module, leaf, module[leaf])
                setattr(module, leaf, tensor)
        mx.eval(model.parameters())
        yield


def weights_digest(model: Module) -> str:
    """SHA-256 of a model's layers and of every bit of its weights: what a borrower has to leave as it was."""
    sha = hashlib.sha256()
    for path, module in named_modules(model):
        sha.update(f"{path} {type(module).__qualname__}\n".encode())
    flat: Any = tree_flatten(model.parameters())
    for name, array in sorted(flat):
        sha.update(f"{name} {array.dtype} {array.shape}\n".encode())
        sha.update(np.array(array.view(mx.uint8) if array.ndim else array.astype(mx.float32)).tobytes())
    return sha.hexdigest()


def not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Names of the tensors that hold NaN or infinity."""
    return [name for name, tensor in tensors.items() if not _finite(tensor)]


def named_modules(model: Module) -> list[tuple[str, Module]]:
    """Every layer with its path, in a fixed order."""
    modules: list[tuple[str, Module]] = model.named_modules()
    return sorted(modules, key=lambda item: item[0])


def tensor_bytes(tensors: Mapping[str, Tensor], expanded: Collection[str] = ()) -> int:
    """Memory of all tensors; or of those in `expanded`, unpacked in the type that they compute in."""
    if not expanded:
        return sum(tensor.nbytes for tensor in tensors.values())
    return sum(math.prod(tensors[name].shape) * tensors[name].dtype.size for name in expanded)


def check_floats(name: str, tensor: Tensor) -> None:
    """Raises InputError for a tensor of integers that no quantised layer of MLX explains."""
    if not isinstance(tensor, Packed) and tensor.dtype not in _FLOATS:
        raise InputError(f"tensor {name} holds {tensor.dtype}, packed in a way unknown here: it cannot be changed")


def layer_paths(model: Module) -> list[str]:
    """Path of each of the model's blocks, from the bottom."""
    paths = {id(module): path for path, module in named_modules(model)}
    return [paths[id(layer)] for layer in model.layers]


def _squares(values: Array) -> float:
    return float(np.sum(np.square(values), dtype=np.float64))


def _finite(tensor: Tensor) -> bool:
    arrays = tensor.arrays.values() if isinstance(tensor, Packed) else (tensor,)
    return all(bool(mx.isfinite(a).all().item()) for a in arrays if a.dtype in _FLOATS)


def _set_module(model: Module, path: str, module: Module) -> None:
    model.update_modules(tree_unflatten([(path, module)]))


def unpacked_layer(path: str, module: Module, weight: mx.array) -> Module:
    """The unquantised form of a quantised layer with this matrix; other tensors (a bias) are shared with it."""
    build = _PLAIN.get(type(module))
    if build is None:
        raise InputError(f"layer {path} is a {type(module).__name__}, which rhodb cannot replace by an unquantised one")
    layer: Module = build()
    layer.weight = weight
    if "bias" in module:
        layer.bias = module.bias
    layer.freeze()
    return layer


_PLAIN: Final[Mapping[type, Any]] = {
    QuantizedLinear: lambda: Linear(1, 1, bias=False),
    QuantizedEmbedding: lambda: Embedding(1, 1),
    QuantizedSwitchLinear: lambda: SwitchLinear(1, 1, 1, bias=False),
    QuantizedMultiLinear: lambda: MultiLinear(1, 1, 1),
}
"""Kind of quantised layer -> an empty layer of its unquantised kind."""
