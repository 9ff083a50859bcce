"""Many small tables at once: what NumPy costs a call is paid once a shape, and random arrangements are drawn once."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt

from analysis.stats.results import Array, finite

K = TypeVar("K", bound=Hashable)
Places = npt.NDArray[np.intp]

Stages = tuple[tuple[int, float], ...]
STAGES: Final[Stages] = ((199, 0.1), (1_999, 0.02), (9_999, 0.0))
"""Random arrangements after which a test stops, if its p so far exceeds the bound beside them."""
QUICK: Final[Stages] = ((199, 0.1), (999, 0.0))
"""As a seed is left out: of twenty computations the largest p is told."""
DRAWS: Final = STAGES[-1][0]


def places_of(kinds: Iterable[K]) -> Mapping[K, list[int]]:
    """Kind -> the places at which it stands."""
    found: dict[K, list[int]] = defaultdict(list)
    for place, kind in enumerate(kinds):
        found[kind].append(place)
    return found


def by_shape(tables: Sequence[Array]) -> Iterator[tuple[list[int], Array]]:
    """The places of the tables of each shape, and these tables as one stack. ValueError where one is not finite."""
    for places in places_of(table.shape for table in tables).values():
        yield places, finite(np.array([tables[place] for place in places], dtype=np.float64), "a table")


def random_orders(count: int, n: int, rng: np.random.Generator) -> Places:
    """Random orders of n things, one a row."""
    return rng.permuted(np.broadcast_to(np.arange(n), (count, n)), axis=1)


def staged(tests: int, extreme: Callable[[Places, int], Places], stages: Stages = STAGES) -> tuple[Places, Places]:
    """Monte Carlo in stages: of each test, how many random arrangements were as extreme as the data, out of how many.

    `extreme(which, count)` draws `count` arrangements, the same ones for all the tests that it names, and counts for
    each those as extreme. p is (1 + hits) / (1 + draws) (Phipson & Smyth 2010). Tests that share arrangements stay
    valid one by one, and so does stopping: whatever alpha, a p of at most alpha is only reported where the p after the
    first stage whose bound is below alpha was at most alpha, too.
    """
    hits, draws = np.zeros(tests, dtype=np.intp), np.zeros(tests, dtype=np.intp)
    going, done = np.arange(tests), 0
    for goal, bound in stages:
        if not going.size:
            break
        hits[going] += extreme(going, goal - done)
        draws[going] = done = goal
        going = going[1 + hits[going] <= bound * (1 + goal)]
    return hits, draws
