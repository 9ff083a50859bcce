"""Every random choice of a run comes from its seed, through the named streams made here, and nowhere else.

A stream is named by its purpose (`"data order"`, `"lora init"`, ...), so that adding a consumer never
shifts the numbers that another one draws.
"""

import hashlib
import random

import numpy as np

PYTHON = "python"
NUMPY = "numpy"
MLX = "mlx"
LORA_INIT = "lora init"
SFT_SELECTION = "sft selection"
DATA_ORDER = "data order"
PAIR_SAMPLING = "pair sampling"
LABEL_SWAPS = "label swaps"
TEXT_ORDER = "text order"


class SeedStreams:
    """Independent named random streams derived from one run seed (>= 0)."""

    def __init__(self, seed: int) -> None:
        if seed < 0:
            raise ValueError(f"seed must be >= 0, got {seed}")
        self.seed = seed

    def sequence(self, name: str) -> np.random.SeedSequence:
        """The seed sequence of a stream: the run's seed together with a hash of the stream's name."""
        digest = hashlib.sha256(name.encode()).digest()
        return np.random.SeedSequence([self.seed, int.from_bytes(digest[:8], "big")])

    def generator(self, name: str) -> np.random.Generator:
        """A fresh NumPy generator at the start of the named stream."""
        return np.random.default_rng(self.sequence(name))

    def integer(self, name: str) -> int:
        """One 32-bit integer from the stream, for libraries that take a number as their seed."""
        return int(self.sequence(name).generate_state(1)[0])

    def seed_globals(self) -> None:
        """Seed the global generators of python and NumPy, for library code that reads them.

        MLX's own is seeded by the backend (`mlx.core.random.seed(streams.integer(MLX))`), which alone
        imports MLX.
        """
        random.seed(self.integer(PYTHON))
        np.random.seed(self.integer(NUMPY))
