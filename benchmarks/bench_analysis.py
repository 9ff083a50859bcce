"""Time and memory of `rhodb analyze anomalies --json` as a process, imports included, on made warehouses.

    python benchmarks/bench_analysis.py [--runs 50000] [--strata 2500] [--behaviors 4] [--sample DB] [--study anomalies]

Warehouses of an eighth, a quarter, a half and all of `--runs`, in `--strata` strata (of 5 seeds each unless told
otherwise, so that there are many small ones) and no effect anywhere: for
each setting (model, learning rate) sft-only, rho-guided at 4 λ x 2 γ, contrastive-only and shuffled-pairs. Each is
answered twice: computed, and read from what was stored (where it is not too large to be stored). Prints one JSON
object; `cpu_s` is user and system time, which busy neighbours change less than wall time. `--sample`: a warehouse of
your own instead (a copy is used, so that nothing is stored in it).
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice, product
from pathlib import Path

import numpy as np

from rhodb.records import canonical_json, digest
from rhodb.rows import bulk_insert
from rhodb.warehouse import Warehouse

SEEDS = (42, 123, 456, 789, 1337)
BEHAVIORS = ("factual", "toxicity", "bias", "sycophancy", "reasoning", "refusal", "deception", "overrefusal")
MODELS = 10
ARMS = (
    ("sft-only", 0.0, None),
    *(("rho-guided", weight, margin) for weight in (0.1, 0.2, 0.5, 1.0) for margin in (0.0, 0.1)),
    ("contrastive-only", 0.2, 0.1),
    ("shuffled-pairs", 0.2, 0.1),
)
NOISE = 0.05
"""SD over seeds, nats/token."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=50_000)
    parser.add_argument("--strata", type=int, help="at the full number of runs; a fifth of it by default")
    parser.add_argument("--behaviors", type=int, default=4, choices=range(2, len(BEHAVIORS) + 1))
    parser.add_argument("--study", default="anomalies")
    parser.add_argument("--sample", type=Path)
    options = parser.parse_args()
    seeds = options.runs // options.strata if options.strata else len(SEEDS)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "master.db"
        if options.sample:
            shutil.copy(options.sample, path)
            print(json.dumps(measure(path, options.study), indent=2))
            return
        report = []
        for part in (8, 4, 2, 1):
            path.unlink(missing_ok=True)
            runs = fill(path, options.runs // part, BEHAVIORS[: options.behaviors], seeds=seeds)
            report.append({"runs": runs, "strata": -(-runs // seeds)} | measure(path, options.study))
        print(json.dumps(report, indent=2))


def fill(path: Path, count: int, behaviors: tuple[str, ...], *, seeds: int = len(SEEDS)) -> int:
    """A new warehouse with about `count` alignment runs, `seeds` a stratum, and a baseline a model; how many runs."""
    rng = np.random.default_rng(0)
    cells = list(islice(_cells(seeds), count))
    values = rng.normal(0.2, NOISE, size=(len(cells), len(behaviors))).tolist()
    with Warehouse.open(path) as wh, wh.write() as connection:
        bulk_insert(connection, "models", ["id", "key", "source", "fingerprint"],
                    [(m, f"model-{m}", "made", digest(str(m))) for m in range(1, MODELS + 1)])  # fmt: skip
        columns = ["id", "uuid", "kind", "model_id", "seed", "config", "config_hash", "baseline_run_id", "state",
                   "attempt", "planned_at", "finished_at", "notes"]  # fmt: skip
        runs = [
            (m, f"baseline-{m}", "baseline", m, 0, "{}", "h", None, "done", 1, "t", "t", "{}")
            for m in range(1, MODELS + 1)
        ]
        arms, scores = [], []
        for number, ((model, lr, (condition, weight, margin), seed), row) in enumerate(
            zip(cells, values, strict=True), 101
        ):
            config = canonical_json({"condition": condition, "rho_weight": weight, "margin": margin, "lr": lr})
            runs.append((number, f"run-{number}", "alignment", model, seed, config, digest(config), model, "done", 1,
                         "t", "t", "{}"))  # fmt: skip
            arms.append((number, condition, weight, margin, lr))
            scores += [(number, b, "gap", "eval", v, 0.01, 100) for b, v in zip(behaviors, row, strict=True)]
        scores += [(m, b, "gap", "eval", 0.1, 0.01, 100) for m in range(1, MODELS + 1) for b in behaviors]
        bulk_insert(connection, "runs", columns, runs)
        bulk_insert(connection, "alignment_runs", ["run_id", "condition", "rho_weight", "margin", "lr"], arms)
        names = ["run_id", "behavior", "metric", "split", "value", "se", "n"]
        bulk_insert(connection, "behavior_scores", names, sorted(scores))
    return len(cells)


def _cells(seeds: int) -> Iterator[tuple[int, float, tuple[str, float, float | None], int]]:
    """Model, learning rate, arm and seed, setting after setting."""
    for step in range(1, 100_000):
        yield from product((step % MODELS + 1,), (1e-6 * step,), ARMS, (*SEEDS, *range(1, seeds))[:seeds])


def measure(path: Path, study: str) -> dict[str, float]:
    """Wall and CPU seconds and peak memory of a first and of a second call; how many looks and MiB of JSON."""
    first, output = _call(path, study)
    again, _ = _call(path, study)
    # Read by another process: Linux counts the memory that a parent ever had as the peak of its next child, too.
    read = "import json, sys; found = json.load(sys.stdin); print(found['looks'], len(found['findings']))"
    with output.open() as source:
        told = subprocess.run([sys.executable, "-c", read], stdin=source, capture_output=True, text=True, check=True)
    looks, findings = map(int, told.stdout.split())
    report = {"looks": looks, "findings": findings, "json_mib": round(output.stat().st_size / 2**20)}
    return report | first | {f"stored_{key}": value for key, value in again.items()}


def _call(path: Path, study: str) -> tuple[dict[str, float], Path]:
    output = path.with_name("out.json")
    command = [
        sys.executable,
        "-c",
        "from rhodb.cli.main import main; main()",
        "--db",
        str(path),
        "analyze",
        study,
        "--json",
    ]
    start = time.perf_counter()
    with output.open("w") as sink:
        process = subprocess.Popen(command, stdout=sink)
        _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    cpu = usage.ru_utime + usage.ru_stime
    return {"wall_s": round(wall, 2), "cpu_s": round(cpu, 2), "peak_mib": round(usage.ru_maxrss / 1024)}, output


if __name__ == "__main__":
    main()
