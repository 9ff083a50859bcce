"""Time and memory of `rhodb ingest` as a process, imports included.

    python benchmarks/bench_ingest.py [--layout steering|alignment] [--runs 100000] [--runs-per-file N]

Writes synthetic runs in a legacy layout, as one file or as files of `--runs-per-file` runs, ingests them into a new
warehouse and prints JSON. A run of a steering sweep makes 16 scores (eight behaviors, each with its "rho" and its
retention), a training run 8. The yardstick is what Python's json module alone needs to parse the same text.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import rhodb

BEHAVIORS = ("factual", "toxicity", "bias", "sycophancy", "reasoning", "refusal", "deception", "overrefusal")


def alignment(first: int, runs: int) -> dict[str, Any]:
    """One file of training runs; values differ from run to run."""
    baseline = {name: 0.1 + 0.01 * i for i, name in enumerate(BEHAVIORS)}
    entries = [
        {
            "condition": "rho-guided",
            "seed": number,
            "rho_weight": 0.2,
            "margin": 0.1,
            "quick_scores": {name: baseline[name] + (number * 31 + i) % 1009 / 1009 for i, name in enumerate(baseline)},
            "train_ce_loss": 1.5,
            "train_rho_loss": 0.1,
            "train_steps": 100,
            "elapsed_seconds": 60.0,
        }
        for number in range(first, first + runs)
    ]
    return {"model": "lab/model", "backend": "mlx", "baseline_quick": baseline, "runs": entries}


def steering(first: int, runs: int) -> dict[str, Any]:
    """One file of a steering sweep: a hundred layers at each α."""
    entries = [
        {
            "layer": number % 100,
            "depth_pct": number % 100 / 100,
            "alpha": number // 100 / 8,
            "elapsed_s": 12.5,
            "results": {name: audit(number * 31 + i) for i, name in enumerate(BEHAVIORS)},
        }
        for number in range(first, first + runs)
    ]
    untouched = {name: {"rho": 0.5, "total": 150} for name in BEHAVIORS}
    norms = {str(layer): 20.0 + layer for layer in range(100)}
    return {"model_id": "lab/model", "alpha": 4.0, "baselines": untouched, "vector_norms": norms, "sweep": entries}


def audit(number: int) -> dict[str, float]:
    right = number % 151
    return {"rho": number % 1009 / 1009, "retention": right / 150, "positive_count": right, "total": 150}


LAYOUTS: dict[str, Callable[[int, int], dict[str, Any]]] = {"alignment": alignment, "steering": steering}
COUNTS = "SELECT (SELECT count(*) FROM runs) AS runs, (SELECT count(*) FROM behavior_scores) AS scores"


def main() -> None:
    """Write, parse, ingest, count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layout", choices=LAYOUTS, default="steering")
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--runs-per-file", type=int)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        tree, db = Path(name) / options.layout, Path(name) / "master.db"
        tree.mkdir()
        size = options.runs_per_file or options.runs
        # In a process of its own: the peak of a child counts what its parent held when it was started.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as other:
            parse_s = other.submit(write_and_parse, tree, options.layout, options.runs, size).result()
        measured = {"files": len(list(tree.iterdir())), "parse_cpu_s": parse_s, **ingest(tree, db)}
        with rhodb.open(str(db)) as wh:
            print(json.dumps({**wh.rows(COUNTS)[0], **measured}, indent=2))


def write_and_parse(tree: Path, layout: str, runs: int, size: int) -> float:
    """CPU seconds that the json module takes for the files."""
    for first in range(0, runs, size):
        value = LAYOUTS[layout](first, min(size, runs - first))
        (tree / f"heatmap_{first}.json").write_text(json.dumps(value))
    start = time.process_time()
    for file in tree.iterdir():
        json.loads(file.read_text())
    return round(time.process_time() - start, 1)


def ingest(tree: Path, db: Path) -> dict[str, float]:
    """Wall and CPU seconds and the peak memory of the command."""
    command = [sys.executable, "-m", "rhodb", "ingest", str(tree), "--db", str(db)]
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, "NO_COLOR": "1"})
    _, status, used = os.wait4(process.pid, 0)
    wall, cpu = time.perf_counter() - start, used.ru_utime + used.ru_stime
    if status:
        raise SystemExit(f"rhodb ingest ended with status {status}")
    return {"wall_s": round(wall, 1), "cpu_s": round(cpu, 1), "peak_mib": round(used.ru_maxrss / 1024)}


if __name__ == "__main__":
    main()
