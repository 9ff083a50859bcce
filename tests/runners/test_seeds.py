"""Named streams: reproducible, independent of each other, and different for every seed."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runners import seeds
from runners.seeds import SeedStreams

NAMES = [seeds.DATA_ORDER, seeds.PAIR_SAMPLING, seeds.LABEL_SWAPS, seeds.LORA_INIT, seeds.SFT_SELECTION, seeds.MLX]


@given(st.integers(0, 2**32 - 1))
def test_a_stream_is_the_same_every_time_and_no_two_are_alike(seed):
    def drawn(name):
        return tuple(SeedStreams(seed).generator(name).integers(0, 2**62, size=3))

    assert [drawn(name) for name in NAMES] == [drawn(name) for name in NAMES]
    assert len({drawn(name) for name in NAMES}) == len(NAMES)


def test_another_seed_gives_other_numbers():
    first = {SeedStreams(seed).integer(seeds.DATA_ORDER) for seed in range(1000)}
    assert len(first) == 1000


def test_streams_of_neighbouring_seeds_are_uncorrelated():
    draws = np.array([SeedStreams(seed).generator(seeds.PAIR_SAMPLING).normal(size=2000) for seed in range(8)])
    correlations = np.corrcoef(draws)[np.triu_indices(8, 1)]
    assert np.abs(correlations).max() < 4 / np.sqrt(2000)


def test_the_global_generators_are_seeded():
    def drawn(seed):
        SeedStreams(seed).seed_globals()
        return random.random(), np.random.random()

    assert drawn(1) == drawn(1) != drawn(2)


def test_a_negative_seed_is_refused():
    with pytest.raises(ValueError, match="must be >= 0"):
        SeedStreams(-1)
