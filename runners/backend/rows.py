"""From texts to model input: truncation, a pair's shared beginning, rows, and batches of similar rows.

A row holds one text, or a pair as a tree `[shared | rest of A | rest of B]` in which B's positions go on from the
shared part and neither branch sees the other. The last token of a text is only ever a target, so it is no input.
Hence every position of a row predicts something.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ids = tuple[int, ...]
Ints = NDArray[np.int32]

SHARED, FIRST, SECOND, PADDING = 0, 1, 2, 3
"""Segments of a row."""

_ATTENTION_FREE_LENGTH = 700
"""Row length at which attention costs as much as all matrix products (SmolLM2 on one CPU core, measured)."""

_PART, _SIMILAR = 4, 0.85
"""A batch that has a fourth of its budget takes no row shorter than this share of its longest."""


@dataclass(frozen=True, kw_only=True)
class Side:
    """A text to be scored: its tokens and where its answer begins. Scored are ids[1:]."""

    ids: Ids
    answer_from: int | None
    """Index of the answer's first token; None without a prompt."""
    truncated: bool = False


@dataclass(frozen=True, kw_only=True)
class Row:
    """Input of one or two texts. L positions, K terms (scored tokens, those of the shared part once)."""

    tokens: Ints
    positions: Ints
    segments: Ints
    sources: Ints
    """(K,) position in the row that predicts the term."""
    targets: Ints
    """(K,) the predicted token."""
    members: tuple[tuple[int, Ints], ...]
    """(index of the side, its terms in the order of its text)."""

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Rows padded on the right to one length. Arrays (R, L)."""

    rows: tuple[Row, ...]
    tokens: Ints
    positions: Ints
    segments: Ints

    def visible(self, window: int | None = None) -> NDArray[np.bool_]:
        """(R, 1, L, L): position i sees j if j is not later and is shared or of the same branch.

        `window`: and j is less than so many positions before i.
        """
        segments, length = self.segments, self.tokens.shape[1]
        branch = (segments[:, None, :] == SHARED) | (segments[:, None, :] == segments[:, :, None])
        visible: NDArray[np.bool_] = branch & np.tri(length, dtype=bool)
        if window is not None:
            visible &= self.positions[:, :, None] - self.positions[:, None, :] < window
        return visible[:, None]

    def real(self) -> Ints:
        """(N,) flat indices of the positions that are not padding, row by row."""
        return np.flatnonzero(self.segments.reshape(-1) != PADDING).astype(np.int32)


def truncate(side: Side, limit: int) -> Side:
    """Keep the first `limit` tokens."""
    if len(side.ids) <= limit:
        return side
    return Side(ids=side.ids[:limit], answer_from=side.answer_from, truncated=True)


def truncate_pair(first: Side, second: Side, limit: int, *, fixed: int) -> tuple[Side, Side]:
    """Keep at most `limit` tokens of each text, but never lose a whole answer.

    Where an answer would fall beyond the limit, both prompts lose the same number of tokens on the left (after
    `fixed` leading tokens such as BOS), as many as it takes for the longer text, leaving one token before the answers.
    """
    starts = [side.answer_from for side in (first, second) if side.answer_from is not None]
    if starts and max(starts) >= limit:
        longest = max(len(first.ids), len(second.ids))
        cut = min(longest - limit, min(starts) - max(fixed, 1))
        first, second = (_cut_prompt(side, cut, fixed) for side in (first, second))
    return truncate(first, limit), truncate(second, limit)


def _cut_prompt(side: Side, cut: int, fixed: int) -> Side:
    assert side.answer_from is not None
    return Side(ids=side.ids[:fixed] + side.ids[fixed + cut :], answer_from=side.answer_from - cut, truncated=True)


def single_row(index: int, side: Side) -> Row:
    """One text as a row."""
    n = len(side.ids) - 1
    steps = np.arange(n, dtype=np.int32)
    return Row(
        tokens=np.array(side.ids[:-1], np.int32),
        positions=steps,
        segments=np.zeros(n, np.int32),
        sources=steps,
        targets=np.array(side.ids[1:], np.int32),
        members=((index, steps),),
    )


def tree_row(first_index: int, first: Side, second_index: int, second: Side) -> Row:
    """Two texts with a common beginning (at least one token) as a row."""
    shared = common_prefix(first.ids, second.ids)
    stem = min(shared, max(len(first.ids), len(second.ids)) - 1)
    branches = [(FIRST, first.ids[shared:]), (SECOND, second.ids[shared:])]
    tokens: list[int] = list(first.ids[:stem])
    positions, segments = list(range(stem)), [SHARED] * stem
    sources, targets = list(range(shared - 1)), list(first.ids[1:shared])
    members = []
    for segment, rest in branches:
        terms = [*range(shared - 1), *range(len(targets), len(targets) + len(rest))]
        members.append(np.array(terms, np.int32))
        inputs = rest[:-1]
        sources += [shared - 1, *range(len(tokens), len(tokens) + len(inputs))] if rest else []
        targets += rest
        tokens += inputs
        positions += range(shared, shared + len(inputs))
        segments += [segment] * len(inputs)
    return Row(
        tokens=np.array(tokens, np.int32),
        positions=np.array(positions, np.int32),
        segments=np.array(segments, np.int32),
        sources=np.array(sources, np.int32),
        targets=np.array(targets, np.int32),
        members=((first_index, members[0]), (second_index, members[1])),
    )


def pair_rows(first_index: int, first: Side, second_index: int, second: Side) -> list[Row]:
    """A tree row where sharing saves work, else two rows."""
    apart = [single_row(first_index, first), single_row(second_index, second)]
    if common_prefix(first.ids, second.ids) == 0:
        return apart
    together = tree_row(first_index, first, second_index, second)
    return [together] if _cost(len(together)) < sum(_cost(len(row)) for row in apart) else apart


def common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    """Number of leading tokens that are equal."""
    for index, (a, b) in enumerate(zip(first, second, strict=False)):
        if a != b:
            return index
    return min(len(first), len(second))


def make_batches(rows: Sequence[Row], *, budget: int, multiple: int = 1) -> list[Batch]:
    """Batches of rows of similar length, longest first: at most `budget` padded tokens each, or one row.

    Lengths are rounded up to a `multiple`, which keeps the number of different shapes small. The order within
    equal lengths is the order given, so that the same rows always make the same batches.
    """
    batches: list[Batch] = []
    pending: list[Row] = []
    for row in sorted(rows, key=len, reverse=True):
        size = _round_up(len(pending[0]), multiple) * len(pending) if pending else 0
        full = pending and size + _round_up(len(pending[0]), multiple) > budget
        if full or (size > budget // _PART and len(row) < _SIMILAR * len(pending[0])):
            batches.append(_pad(pending, multiple))
            pending = []
        pending.append(row)
    return [*batches, _pad(pending, multiple)] if pending else batches


def _pad(rows: list[Row], multiple: int) -> Batch:
    shape = (len(rows), _round_up(len(rows[0]), multiple))
    tokens, positions = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    segments = np.full(shape, PADDING, np.int32)
    for index, row in enumerate(rows):
        tokens[index, : len(row)] = row.tokens
        positions[index, : len(row)] = row.positions
        segments[index, : len(row)] = row.segments
    return Batch(rows=tuple(rows), tokens=tokens, positions=positions, segments=segments)


def _cost(length: int) -> int:
    return length * (_ATTENTION_FREE_LENGTH + length)


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
