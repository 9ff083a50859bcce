"""Training shared by several processes through MLX's own `mx.distributed`: gradients are averaged over the ranks.

The ranks draw the same random numbers and walk through the same steps. Of the micro-batches that one update averages,
each rank computes every size-th; then gradients and losses are summed over the ranks, so that every rank makes the same
update as one process would. `accumulation` is therefore the number of micro-batches to share.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.utils import tree_map
from numpy.typing import NDArray

from rhodb.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """This process among those that train together; one alone has size 1."""

    rank: int = 0
    size: int = 1

    def mine(self, position: int) -> bool:
        """Whether this rank computes the micro-batch at a position (from 0) of its group."""
        return position % self.size == self.rank

    def total(self, tree: Any) -> Any:
        """The sum of a tree of arrays over the ranks."""
        summed = tree_map(mx.distributed.all_sum, tree)
        mx.eval(summed)
        return summed

    def gathered(self, rows: Sequence[Sequence[float]]) -> NDArray[np.float64]:
        """The sum over the ranks of tables in which each rank filled in its own rows, others being 0."""
        return np.array(self.total(mx.array(np.asarray(rows, dtype=np.float32))), dtype=np.float64)

    def announced(self, number: float) -> float:
        """What rank 0 says, where all others say 0."""
        return float(np.array(self.total(mx.array(number if self.rank == 0 else 0.0))))

    def check(self, accumulation: int) -> None:
        """Raises InputError where there are not enough micro-batches for every rank."""
        if accumulation < self.size:
            raise InputError(
                f"{self.size} processes cannot share an update of {accumulation} micro-batch(es): "
                f"give --accumulation {self.size} or more"
            )


def launched_ranks() -> Ranks:
    """The ranks that `mlx.launch` started this process among; size 1 without it."""
    if "MLX_RANK" not in os.environ:
        return Ranks()
    group = mx.distributed.init()
    return Ranks(rank=group.rank(), size=group.size())
