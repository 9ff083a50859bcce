"""A steering sweep with kept prefix activations against scoring from the input, layers spread evenly.

Run: OPENBLAS_NUM_THREADS=1 python benchmarks/bench_steering.py [pairs per behavior [distance of layers]]
Both ways alternate layer by layer, in one process, over the same pairs of the real probe mix.
"""

import sys
import time
from collections.abc import Callable

from runners.backend.activations import changed
from runners.backend.models import load_model
from runners.backend.scoring import PairScore, score_pairs
from runners.backend.steering import PrefixScorer, added, difference_vectors
from runners.probes import load_probe_sets, pair_behaviors, select_pairs
from runners.scoring_session import pair_text

COUNT, STEP = (int(value) for value in (*sys.argv[1:3], *("4", "1")[len(sys.argv) - 1 :]))
LAYERS = tuple(range(0, 30, STEP))


def difference(first: list[PairScore], second: list[PairScore]) -> float:
    """Largest difference in cross-entropy, nats/token."""
    return max(
        max(abs(a.positive.ce - b.positive.ce), abs(a.negative.ce - b.negative.ce))
        for a, b in zip(first, second, strict=True)
    )


def timed(work: Callable[[], list[PairScore]]) -> tuple[float, list[PairScore]]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


loaded = load_model("smollm2-135m")
sets = load_probe_sets()
uses = select_pairs(sets, behaviors=pair_behaviors(sets), split="hash", per_behavior=COUNT)
pairs = [pair_text(use) for use in uses]
vectors = difference_vectors(loaded, pairs[:8], LAYERS, "mean-last", max_tokens=256)
changes = {layer: added(vectors[layer], 4.0) for layer in LAYERS}


def from_input(layer: int) -> list[PairScore]:
    with changed(loaded.model, {layer: changes[layer]}):
        return score_pairs(loaded, pairs, max_tokens=256)


score_pairs(loaded, pairs[:4], max_tokens=256)
scorer = PrefixScorer(loaded, pairs, max_tokens=256)
slow = fast = worst = 0.0
for layer in LAYERS:
    seconds, plain = timed(lambda layer=layer: from_input(layer))
    slow += seconds
    seconds, kept = timed(lambda layer=layer: scorer.score(layer, changes[layer]))
    fast += seconds
    worst = max(worst, difference(plain, kept))
print(f"{len(pairs)} pairs, {len(LAYERS)} layers, largest difference {worst:.1e} nats/token")
print(f"from the input {slow:.2f} s, with prefixes {fast:.2f} s, ratio {slow / fast:.2f}")
print(f"kept activations {scorer.cached_bytes / 2**20:.1f} MiB")
