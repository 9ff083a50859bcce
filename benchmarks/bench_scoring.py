"""Probe scoring with the embedded model on the real probe mix: the plain way against rhodb's scorer.

    python benchmarks/bench_scoring.py [--pairs 100] [--shipped-pairs 6] [--repeats 3]

1. plain, MLX's shipped BLAS: one text a forward pass (a subset, in a process of its own, because it is slow)
2. plain, OpenBLAS: the same on all pairs
3. rhodb: `score_pairs`

2 and 3 take turns in one process; the fastest of the repeats counts. Peak memory is that of a process that only
scores (3). Prints one JSON object at the end. On a machine with busy neighbours all figures are too low, those with
several BLAS threads most of all.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import time
from typing import Any


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--shipped-pairs", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", choices=("shipped", "compare", "memory"), help="one part, in this process")
    options = parser.parse_args()
    if options.only == "shipped":
        import mlx.core  # noqa: F401 (first, so that MLX keeps its own BLAS)
    if options.only:
        print(json.dumps(PARTS[options.only](options)))
        return
    shipped, compare, memory = (_child(part, options) for part in ("shipped", "compare", "memory"))
    report = {
        **compare,
        **memory,
        "texts_per_s": {"plain_shipped_blas": shipped["texts_per_s"], **compare["texts_per_s"]},
        "shipped_blas": shipped["blas"],
    }
    rate = report["texts_per_s"]
    report["ratio_to_plain_shipped_blas"] = rate["rhodb"] / rate["plain_shipped_blas"]
    report["ratio_to_plain_openblas"] = rate["rhodb"] / rate["plain_openblas"]
    print(json.dumps(report, indent=2))


def _child(part: str, options: argparse.Namespace) -> dict[str, Any]:
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in vars(options).items() if name != "only"]
    command = [sys.executable, __file__, "--only", part, *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def shipped(options: argparse.Namespace) -> dict[str, Any]:
    """Texts/s of the plain way without OpenBLAS."""
    from runners.backend.blas import blas_info
    from runners.backend.scoring import score_plain

    loaded, pairs = _material(options.shipped_pairs)
    score_plain(loaded, pairs[:1])
    seconds = _seconds(lambda: score_plain(loaded, pairs))
    return {"texts_per_s": 2 * len(pairs) / seconds, "blas": blas_info().name}


def compare(options: argparse.Namespace) -> dict[str, Any]:
    """Texts/s of the plain way and of the scorer with OpenBLAS, their agreement, and the share of sgemm's peak."""
    from runners.backend import scoring
    from runners.backend.blas import blas_info, verify_blas
    from runners.backend.device import device_name
    from runners.backend.passes import plan_batches

    loaded, pairs = _material(options.pairs)
    scoring.score_pairs(loaded, pairs[:4])
    scoring.score_plain(loaded, pairs[:2])
    plain_seconds, fast_seconds = [], []
    for _ in range(options.repeats):
        fast_seconds.append(_seconds(lambda: results.update(fast=scoring.score_pairs(loaded, pairs))))
        plain_seconds.append(_seconds(lambda: results.update(plain=scoring.score_plain(loaded, pairs))))
    plain, fast = min(plain_seconds), min(fast_seconds)
    peak = max(verify_blas().mlx_gflops for _ in range(8))
    batches = plan_batches(scoring.pair_sides(loaded, pairs, 256), paired=True)
    computed = sum(len(row) for batch in batches for row in batch.rows)
    tokens = sum(side.tokens for score in results["fast"] for side in (score.positive, score.negative))
    # Every weight of this model (its embedding is also its head) takes part in one product a position.
    gflop = 2e-9 * loaded.record.n_parameters * computed
    differences = [
        abs(a.ce - b.ce)
        for x, y in zip(results["fast"], results["plain"], strict=True)
        for a, b in ((x.positive, y.positive), (x.negative, y.negative))
    ]
    return {
        "device": device_name(),
        "blas": blas_info().name,
        "threads": blas_info().threads,
        "pairs": len(pairs),
        "tokens": tokens,
        "positions_computed": computed,
        "texts_per_s": {"plain_openblas": 2 * len(pairs) / plain, "rhodb": 2 * len(pairs) / fast},
        "seconds": {"plain_openblas": plain_seconds, "rhodb": fast_seconds},
        "sgemm_peak_gflops": peak,
        "share_of_sgemm_peak": gflop / fast / peak,
        "largest_difference_nats": max(differences),
    }


def memory(options: argparse.Namespace) -> dict[str, Any]:
    """Peak resident memory of loading the model and scoring, MiB."""
    from runners.backend.scoring import score_pairs

    loaded, pairs = _material(options.pairs)
    score_pairs(loaded, pairs)
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return {"peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit}


PARTS = {"shipped": shipped, "compare": compare, "memory": memory}
results: dict[str, Any] = {}


def _material(count: int) -> tuple[Any, list[Any]]:
    """The embedded model and `count` pairs drawn from all probe sets with a fixed seed."""
    from runners.backend.models import load_model
    from runners.backend.scoring import PairText
    from runners.probes import load_probe_sets

    probes = [p for probe_set in load_probe_sets() for p in probe_set.probes if p.kind == "pair"]
    random.Random(0).shuffle(probes)
    pairs = [PairText(prompt=p.prompt, positive=p.positive, negative=p.negative) for p in probes[:count] if p.negative]
    return load_model("smollm2-135m"), pairs


def _seconds(action: Any) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
