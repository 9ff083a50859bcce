"""How far partitions of the same texts agree. Pure functions of label arrays."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int64]
"""(N,) cluster of each text."""


def adjusted_rand(a: Labels, b: Labels) -> float:
    """Agreement of two partitions, 1 for equal ones, 0 in expectation for random ones (Hubert and Arabie 1985)."""
    together = _pairs(np.unique(np.stack([a, b]), axis=1, return_counts=True)[1])
    in_a, in_b = (_pairs(np.unique(labels, return_counts=True)[1]) for labels in (a, b))
    expected = in_a * in_b / _pairs(np.array([len(a)]))
    most = (in_a + in_b) / 2
    return 1.0 if most == expected else float((together - expected) / (most - expected))


def _pairs(counts: NDArray[np.int64]) -> float:
    return float((counts * (counts - 1) / 2).sum())


def pairwise_rand(draws: Sequence[Labels]) -> list[float]:
    """Adjusted Rand of every two draws."""
    return [adjusted_rand(a, b) for a, b in combinations(draws, 2)]


def distinct(draws: Sequence[Labels]) -> int:
    """How many different partitions there are, whatever their clusters are called."""
    return len({_numbered(labels) for labels in draws})


def _numbered(labels: Labels) -> tuple[int, ...]:
    """The labels as 0, 1, ... in the order in which they first appear."""
    _, first, codes = np.unique(labels, return_index=True, return_inverse=True)
    return tuple(np.argsort(np.argsort(first))[codes].tolist())


def recovery(main: Labels, others: Sequence[Labels]) -> dict[int, float]:
    """For each cluster of `main`, the mean over the other draws of its largest Jaccard overlap (Hennig 2007).

    1: every draw has exactly this cluster. Empty without other draws.
    """
    if not others:
        return {}
    overlaps = [_best_jaccard(main, other) for other in others]
    return {cluster: float(np.mean([found[cluster] for found in overlaps])) for cluster in overlaps[0]}


def _best_jaccard(main: Labels, other: Labels) -> dict[int, float]:
    numbers, rows = np.unique(main, return_inverse=True)
    sizes = np.bincount(rows)
    columns = np.unique(other, return_inverse=True)[1]
    other_sizes = np.bincount(columns)
    cells, counts = np.unique(np.stack([rows, columns]), axis=1, return_counts=True)
    jaccard = counts / (sizes[cells[0]] + other_sizes[cells[1]] - counts)
    best = np.zeros(len(numbers))
    np.maximum.at(best, cells[0], jaccard)
    return dict(zip(numbers.tolist(), best.tolist(), strict=True))
