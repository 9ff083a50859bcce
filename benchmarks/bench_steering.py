"""A steering sweep with kept prefix activations against scoring from the input, layers spread evenly.

Run: OPENBLAS_NUM_THREADS=1 python benchmarks/bench_steering.py [pairs per behavior [number of layers]]
Both ways alternate layer by layer, in one process, over the same pairs of the real probe mix; the layers are spread
evenly as `rhodb run steering` does it. `bound` is the ratio if a kept prefix cost nothing at all: the head and the
layers above the steered one are left, whose costs are measured here, too. CPU time, of all threads.
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

COUNT, N_LAYERS = (int(value) for value in (*sys.argv[1:3], *("4", "30")[len(sys.argv) - 1 :]))
LAYERS = tuple(sorted({round(i * 29 / (N_LAYERS - 1)) for i in range(N_LAYERS)}))


def difference(first: list[PairScore], second: list[PairScore]) -> float:
    """Largest difference in cross-entropy, nats/token."""
    return max(
        max(abs(a.positive.ce - b.positive.ce), abs(a.negative.ce - b.negative.ce))
        for a, b in zip(first, second, strict=True)
    )


def timed(work: Callable[[], list[PairScore]]) -> tuple[float, list[PairScore]]:
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def bound(by_layer: dict[int, float], whole: float) -> float:
    """Steered after the last layer, only the head is left; what it takes less than the whole pass is the layers'."""
    head = by_layer[max(by_layer)]
    a_layer = (whole / len(by_layer) - head) / 30
    once, above = 30 * a_layer, sum((29 - layer) * a_layer + head for layer in by_layer)
    return whole / (once + above)


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
slow = sweep = worst = 0.0
again: dict[int, float] = {}
for layer in LAYERS:
    seconds, plain = timed(lambda layer=layer: from_input(layer))
    slow += seconds
    seconds, kept = timed(lambda layer=layer: scorer.score(layer, changes[layer]))
    sweep += seconds
    worst = max(worst, difference(plain, kept))
    again[layer], _ = timed(lambda layer=layer: scorer.score(layer, changes[layer]))
more = sum(again.values())
print(f"{len(pairs)} pairs, {len(LAYERS)} layers, largest difference {worst:.1e} nats/token")
print(f"a sweep: {slow:.2f} s from the input, {sweep:.2f} s with prefixes, ratio {slow / sweep:.2f}", end=" ")
print(f"(bound {bound(again, slow):.2f})")
print(f"each further α or control of a layer: {more:.2f} s for all, ratio {slow / more:.2f}")
print(f"kept activations {scorer.cached_bytes / 2**20:.1f} MiB")
