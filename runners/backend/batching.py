"""Training groups: rows that share a forward pass, which of their tokens are scored, and with what weight.

A group's cross-entropies are one matrix product, `weights @ token_ce`, whatever the rows: a mean over a whole text,
over an answer only, or a batch's share of L_SFT; and its transpose takes their gradient back to the tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from runners.backend.rows import Batch, Row, Side, make_batches, pair_rows, single_row

Contrast = Literal["text", "answer"]

_UNLIMITED = 2**31


@dataclass(frozen=True, kw_only=True)
class Group:
    """One forward pass. N scored tokens, K cross-entropies."""

    batch: Batch
    positions: NDArray[np.int32]
    """(N,) index into the batch's flattened hidden states that predict the scored tokens."""
    targets: NDArray[np.int32]
    """(N,) the scored tokens."""
    weights: NDArray[np.float32]
    """(K, N). An SFT group has K = 1, its share of L_SFT; a contrast group two a pair: positive, negative."""
    is_contrast: bool


Pair = tuple[Side, Side]
"""Positive and negative text."""


def sft_groups(texts: Sequence[Side], *, budget: int | None = None, multiple: int = 1) -> list[Group]:
    """The SFT batch as groups whose cross-entropies add up to the mean over all scored tokens of the batch.

    `budget`: at most so many padded tokens a group (but at least one text); None puts all into one. Row lengths
    are rounded up to a `multiple`.
    """
    scored = sum(len(text.ids) - 1 for text in texts)
    rows = [single_row(index, text) for index, text in enumerate(texts)]
    weight = {index: (0, np.full(len(text.ids) - 1, 1.0 / scored, np.float32)) for index, text in enumerate(texts)}
    batches = make_batches(rows, budget=budget or _UNLIMITED, multiple=multiple)
    return [_group(batch, weight, 1, is_contrast=False) for batch in batches]


def contrast_groups(
    pairs: Sequence[Pair], *, contrast: Contrast, trees: bool, one_each: bool, multiple: int = 1
) -> list[Group]:
    """Contrast groups, one a pair or one of all pairs; cross-entropies are means over a text's scored tokens.

    `contrast` answer scores the tokens from `answer_from` on, where there is one. `trees`: the model's forward
    pass accepts tree rows, so that a shared beginning is computed once.
    """
    groups = []
    for members in [[pair] for pair in pairs] if one_each else [list(pairs)]:
        rows: list[Row] = []
        weight = {}
        for index, (positive, negative) in enumerate(members):
            own = (2 * index, positive, 2 * index + 1, negative)
            rows += pair_rows(*own) if trees else [single_row(*own[:2]), single_row(*own[2:])]
            for k, side in ((own[0], positive), (own[2], negative)):
                weight[k] = (k, _mean_weights(side, contrast))
        (batch,) = make_batches(rows, budget=_UNLIMITED, multiple=multiple)
        groups.append(_group(batch, weight, 2 * len(members), is_contrast=True))
    return groups


def _mean_weights(side: Side, contrast: Contrast) -> NDArray[np.float32]:
    """Weights of a text's terms (tokens from the second on) that make the mean over the scored ones."""
    weights = np.zeros(len(side.ids) - 1, np.float32)
    first = side.answer_from - 1 if contrast == "answer" and side.answer_from else 0
    weights[first:] = 1.0 / (len(weights) - first)
    return weights


def _group(batch: Batch, weight: dict[int, tuple[int, NDArray[np.float32]]], count: int, *, is_contrast: bool) -> Group:
    """`weight`: index of a text -> (which of the `count` cross-entropies it adds to, weights of its terms)."""
    length = batch.tokens.shape[1]
    positions = np.concatenate([index * length + row.sources for index, row in enumerate(batch.rows)])
    targets = np.concatenate([row.targets for row in batch.rows])
    weights = np.zeros((count, len(targets)), np.float32)
    start = 0
    for row in batch.rows:
        for text, terms in row.members:
            k, values = weight[text]
            weights[k, start + terms] += values
        start += len(row.targets)
    used = weights.any(axis=0)
    return Group(
        batch=batch,
        positions=positions[used].astype(np.int32),
        targets=targets[used].astype(np.int32),
        weights=weights[:, used],
        is_contrast=is_contrast,
    )
