"""Token rows for training: which texts share a forward pass, which tokens are scored, with what weight.

A group of texts goes through the model as one right-padded matrix. Attention is causal, so padding on the right
changes nothing before it, and padded positions are simply never scored.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Tokens = Sequence[int]


@dataclass(frozen=True, kw_only=True)
class Group:
    """Texts of one forward pass. Shapes: B rows, T columns, N scored tokens, K cross-entropies."""

    tokens: NDArray[np.int32]
    """(B, T) inputs: every text without its last token, zeros beyond its end."""
    positions: NDArray[np.int32]
    """(N,) index into the B * T hidden states that predict the scored tokens."""
    targets: NDArray[np.int32]
    """(N,) the scored tokens."""
    weights: NDArray[np.float32]
    """(K, N): cross-entropy k is `weights[k] @ token_ce`. One row for an SFT group (its share of L_SFT),
    two rows a pair (positive, negative) for a contrast group."""


@dataclass(frozen=True, kw_only=True)
class PairTokens:
    """A pair of texts as tokens, and where scoring starts (index of the first scored token, at least 1)."""

    positive: Tokens
    negative: Tokens
    positive_from: int = 1
    negative_from: int = 1


def sft_groups(texts: Sequence[Tokens], budget: int | None) -> list[Group]:
    """The SFT batch as groups whose cross-entropies add up to the mean over all scored tokens of the batch.

    `budget`: at most so many padded tokens a group (but at least one text); None puts all into one.
    """
    scored = sum(len(text) - 1 for text in texts)
    return [
        _group(members, [[1.0 / scored] * (len(text) - 1) for text in members], [1] * len(members), merge=True)
        for members in _by_length(texts, budget)
    ]


def pair_groups(pairs: Sequence[PairTokens], *, one_each: bool) -> list[Group]:
    """Contrast groups: one a pair, or one of all pairs. Cross-entropies are means over the scored tokens."""
    batches = [[pair] for pair in pairs] if one_each else [list(pairs)]
    groups = []
    for batch in batches:
        texts: list[Tokens] = []
        starts: list[int] = []
        for pair in batch:
            texts += [pair.positive, pair.negative]
            starts += [pair.positive_from, pair.negative_from]
        counts = [len(text) - start for text, start in zip(texts, starts, strict=True)]
        groups.append(_group(texts, [[1.0 / count] * count for count in counts], starts, merge=False))
    return groups


def _by_length(texts: Sequence[Tokens], budget: int | None) -> list[list[Tokens]]:
    ordered = sorted(texts, key=len)  # stable, so that the grouping is a function of the batch alone
    if budget is None:
        return [ordered]
    groups: list[list[Tokens]] = []
    for text in ordered:
        if groups and (len(groups[-1]) + 1) * len(text) <= budget:
            groups[-1].append(text)
        else:
            groups.append([text])
    return groups


def _group(texts: Sequence[Tokens], weights: Sequence[Sequence[float]], starts: Sequence[int], *, merge: bool) -> Group:
    """Pad the texts; text i is scored from token `starts[i]` on with the given weights."""
    length = max(len(text) for text in texts) - 1
    tokens = np.zeros((len(texts), length), np.int32)
    positions, targets = [], []
    for row, (text, start) in enumerate(zip(texts, starts, strict=True)):
        tokens[row, : len(text) - 1] = text[:-1]
        positions += [row * length + index - 1 for index in range(start, len(text))]
        targets += text[start:]
    matrix = np.zeros((1 if merge else len(texts), len(targets)), np.float32)
    column = 0
    for row, values in enumerate(weights):
        matrix[0 if merge else row, column : column + len(values)] = values
        column += len(values)
    return Group(
        tokens=tokens,
        positions=np.array(positions, np.int32),
        targets=np.array(targets, np.int32),
        weights=matrix,
    )
