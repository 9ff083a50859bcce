"""Truncated singular value decompositions of a model's projections, put in place and taken out again.

Attention's q, k and o projections tolerate truncation; v and the MLP do not and are never offered.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from rhodb.errors import InputError
from runners.backend.lora import layer_keys
from runners.backend.models import LoadedModel
from runners.backend.weights import Changes, dense, in_place, layer_paths, model_tensors

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
    lost: float | None
    """What the stored types round away of the change, as a share of it (`weights.Changes.lost`)."""


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
    tensors = model_tensors(loaded.model)
    keys = layer_keys(loaded.model, TARGETS) if ratio < 1 else []
    changes = Changes(requantize=requantize)
    squares = [0.0, 0.0]
    for name in (f"{path}.{key}.weight" for path in layer_paths(loaded.model) for key in keys):
        matrix = dense(tensors[name])
        low = truncate(matrix, rank_of(matrix.shape, ratio))
        squares[0] += float(np.square(matrix - low).sum())
        squares[1] += float(np.square(matrix).sum())
        changes.add(name, tensors[name], matrix, low)
    with in_place(loaded, changes.tensors):
        yield Compression(
            n_matrices=len(changes.tensors),
            relative_error=(squares[0] / squares[1]) ** 0.5 if squares[1] else 0.0,
            requantized=changes.requantized > 0,
            lost=changes.lost,
        )
