"""Truncated singular value decompositions of a model's projections, put in place and taken out again.

Attention's q, k and o projections tolerate truncation; v and the MLP do not and are never offered.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import mlx.core as mx
import numpy as np
from mlx.nn.layers.base import Module
from mlx.nn.layers.linear import Linear
from mlx.nn.layers.quantized import QuantizedLinear
from numpy.typing import NDArray

from rhodb.errors import InputError
from runners.backend.lora import layer_keys
from runners.backend.models import LoadedModel

Matrix = NDArray[np.floating[Any]]

TARGETS: Final = ("q_proj", "k_proj", "o_proj")
RANDOM_FROM, RANDOM_SHARE = 1024, 0.34
"""The randomised way is taken from this smaller side on, up to this share of the rank: below, it is no faster."""
_OVERSAMPLING, _POWER_ITERATIONS = 16, 2


@dataclass(frozen=True, kw_only=True)
class Compression:
    """What a compression did."""

    n_matrices: int
    relative_error: float
    """Root of the summed squared Frobenius errors over that of the matrices."""
    requantized: bool


def rank_of(shape: tuple[int, ...], ratio: float) -> int:
    """Singular values kept: the share `ratio` of them, rounded, at least 1. InputError outside (0, 1]."""
    if not 0 < ratio <= 1:
        raise InputError(f"a compression ratio must be in (0, 1], got {ratio:g}")
    return max(1, round(ratio * min(shape)))


def truncate_exact(matrix: Matrix, rank: int) -> Matrix:
    """Best approximation of this rank (Eckart and Young 1936), as the projection on the leading singular vectors of the
    shorter side: eigenvectors of W Wᵀ, several times as fast as an SVD."""
    if matrix.shape[0] > matrix.shape[1]:
        return np.ascontiguousarray(truncate_exact(matrix.T, rank).T)
    _, vectors = np.linalg.eigh(matrix @ matrix.T)
    leading = vectors[:, matrix.shape[0] - rank :]
    result: Matrix = leading @ (leading.T @ matrix)
    return result


def truncate_random(matrix: Matrix, rank: int, rng: np.random.Generator) -> Matrix:
    """The same by a random projection with power iterations (Halko, Martinsson and Tropp 2011, algorithm 4.4)."""
    width = min(rank + _OVERSAMPLING, *matrix.shape)
    basis: Matrix = matrix @ rng.standard_normal((matrix.shape[1], width), dtype=np.float32)
    for _ in range(_POWER_ITERATIONS):
        basis = matrix @ np.linalg.qr(matrix.T @ np.linalg.qr(basis)[0])[0]
    basis = np.linalg.qr(basis)[0]
    result: Matrix = basis @ truncate_exact(basis.T @ matrix, rank)
    return result


def truncate(matrix: Matrix, rank: int) -> Matrix:
    """Approximation of this rank by the way that is faster for the shape; the random one is always seeded alike."""
    if rank >= min(matrix.shape):
        return matrix
    if min(matrix.shape) >= RANDOM_FROM and rank <= RANDOM_SHARE * min(matrix.shape):
        return truncate_random(matrix, rank, np.random.default_rng(0))
    return truncate_exact(matrix, rank)


@contextmanager
def compressed(loaded: LoadedModel, ratio: float, *, requantize: bool = False) -> Iterator[Compression]:
    """Inside the block the q, k and o projections of every layer have the share `ratio` of their singular values.

    A ratio of 1 changes nothing. Quantised projections become plain ones, or are quantised again as before.
    """
    rank_of((1, 1), ratio)
    keys = layer_keys(loaded.model, TARGETS) if ratio < 1 else []
    replaced: list[tuple[Module, str, Module]] = []
    squares = [0.0, 0.0]
    try:
        for layer in loaded.model.layers:
            for key in keys:
                parent, name = _parent(layer, key)
                old = getattr(parent, name)
                dense = _dense(old)
                matrix = np.array(dense.weight.astype(mx.float32))
                low = truncate(matrix, rank_of(matrix.shape, ratio))
                squares[0] += float(np.square(matrix - low).sum())
                squares[1] += float(np.square(matrix).sum())
                dense.weight = mx.array(low).astype(dense.weight.dtype)
                setattr(parent, name, _quantized(dense, old) if requantize else dense)
                replaced.append((parent, name, old))
        mx.eval(loaded.model.parameters())
        yield Compression(
            n_matrices=len(replaced),
            relative_error=(squares[0] / squares[1]) ** 0.5 if squares[1] else 0.0,
            requantized=requantize and any(isinstance(old, QuantizedLinear) for _, _, old in replaced),
        )
    finally:
        for parent, name, old in replaced:
            setattr(parent, name, old)


def _parent(layer: Module, key: str) -> tuple[Module, str]:
    *path, name = key.split(".")
    for part in path:
        layer = getattr(layer, part)
    return layer, name


def _dense(old: Any) -> Linear:
    """A plain layer of the same matrix and bias."""
    weight = old.weight
    if isinstance(old, QuantizedLinear):
        weight = mx.dequantize(weight, old.scales, old.biases, group_size=old.group_size, bits=old.bits)
    layer = Linear(1, 1, bias="bias" in old)
    layer.weight = weight
    if "bias" in old:
        layer.bias = old.bias
    layer.freeze()
    return layer


def _quantized(dense: Linear, old: Module) -> Module:
    if not isinstance(old, QuantizedLinear):
        return dense
    quantized: Module = QuantizedLinear.from_linear(dense, group_size=old.group_size, bits=old.bits)
    return quantized
