"""Which probe texts share their wording: instances of one template are a cluster, not independent probes."""

import re
from collections.abc import Mapping, Sequence

import numpy as np

ALIKE = 0.6
"""Shared words over all words (Jaccard) from which two texts count as one wording."""
_WORD = re.compile(r"\w+")


def wording_clusters(texts: Sequence[str], *, alike: float = ALIKE) -> list[int]:
    """A number for each text; texts that are alike have the same, and so have texts that a chain of these links."""
    words = [set(_WORD.findall(text.lower())) for text in texts]
    column = {word: i for i, word in enumerate(dict.fromkeys(word for found in words for word in sorted(found)))}
    table = np.zeros((len(texts), len(column)), dtype=np.float32)
    for row, found in enumerate(words):
        table[row, [column[word] for word in found]] = 1.0
    shared = table @ table.T
    sizes = table.sum(axis=1)
    together = shared >= alike * np.maximum(sizes[:, None] + sizes - shared, 1.0)
    np.fill_diagonal(together, val=True)
    return _components(together)


def clusters_by_key(texts: Mapping[str, str]) -> dict[str, int]:
    """Key -> number of its text's cluster."""
    return dict(zip(texts, wording_clusters(list(texts.values())), strict=True))


def _components(together: np.ndarray) -> list[int]:
    label = np.full(len(together), -1)
    for start in range(len(together)):
        if label[start] >= 0:
            continue
        label[start], front = start, [start]
        while front:
            reached = np.flatnonzero(together[front].any(axis=0) & (label < 0))
            label[reached] = start
            front = reached.tolist()
    _, numbers = np.unique(label, return_inverse=True)
    return [int(number) for number in numbers]
