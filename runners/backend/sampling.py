"""What a training run sees and when: the order of texts, the sampled pairs, the swapped labels."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from runners.backend.scoring import PairText
from runners.seeds import DATA_ORDER, LABEL_SWAPS, PAIR_SAMPLING, SeedStreams


def text_batches(count: int, *, epochs: float, batch_size: int, streams: SeedStreams) -> list[list[int]]:
    """Indices of each step's texts: every epoch a new permutation, cut into batches (the last may be short).

    The epochs follow each other without a gap; a fractional epoch ends early. At least one text.
    """
    rng = streams.generator(DATA_ORDER)
    total = max(1, round(count * epochs))
    order: list[int] = []
    while len(order) < total:
        order += rng.permutation(count).tolist()
    order = order[:total]
    return [order[start : start + batch_size] for start in range(0, total, batch_size)]


class PairSampler:
    """Draws each step's pairs: one a behavior in turn, uniformly within the behavior's pool.

    With `per_step` no multiple of the number of behaviors, the behaviors that are served once more are drawn
    anew at every step. `shuffle`: the labels of each drawn pair are swapped with probability 1/2, from a stream of
    its own, so that the pairs are those of a run without swaps.
    """

    def __init__(
        self,
        pools: Mapping[str, Sequence[PairText]],
        *,
        per_step: int,
        shuffle: bool,
        streams: SeedStreams,
    ) -> None:
        self._pools = [pools[behavior] for behavior in sorted(pools)]
        self._per_step, self._shuffle = per_step, shuffle
        self._pairs = streams.generator(PAIR_SAMPLING)
        self._swaps = streams.generator(LABEL_SWAPS)
        self.drawn = 0
        self.swapped = 0

    def draw(self) -> list[PairText]:
        """The next step's pairs, with swapped labels where the coin said so."""
        return [self._maybe_swapped(pool[int(self._pairs.integers(len(pool)))]) for pool in self._turn()]

    def _turn(self) -> Iterator[Sequence[PairText]]:
        rounds, rest = divmod(self._per_step, len(self._pools))
        for _ in range(rounds):
            yield from self._pools
        for index in np.sort(self._pairs.permutation(len(self._pools))[:rest]):
            yield self._pools[index]

    def _maybe_swapped(self, pair: PairText) -> PairText:
        self.drawn += 1
        if not self._shuffle or self._swaps.random() < 0.5:
            return pair
        self.swapped += 1
        return replace(pair, positive=pair.negative, negative=pair.positive)
