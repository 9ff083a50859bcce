"""Time and memory of `rhodb report` as a process, imports and page included.

    python benchmarks/bench_report.py [--sample FOLDER] [--runs 50000]

Ingests the sample tree (the 328 rows of the notes), makes a warehouse of `--runs` runs as bench_analysis.py does, and
writes the HTML report of each into a temporary folder. Prints JSON; `cpu_s` is user and system time of all processes,
which busy neighbours change little, `wall_s` is what a person waits. `peak_mib` is the most memory that all processes
of the report had together (pages that they share counted once on Linux). `--runs 0` leaves the large warehouse out.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from bench_analysis import BEHAVIORS, fill

EVERY_S = 0.2
"""Seconds between two readings of memory."""
SAMPLE = Path(__file__).resolve().parents[2] / "shared" / "legacy_sample"


def measure(db: Path, folder: Path) -> dict[str, Any]:
    """One report, written by a process of its own."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    peak = 0
    start = time.perf_counter()
    page = folder / "report.html"
    command = [sys.executable, "-m", "rhodb", "report", "--db", str(db), "--out", str(page), "--json"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    ) as process:
        while process.poll() is None:
            peak = max(peak, together(process.pid))
            time.sleep(EVERY_S)
        printed = process.communicate()[0]
    if process.returncode:
        raise SystemExit(f"rhodb report failed with exit code {process.returncode}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    said = json.loads(printed)
    return {
        "wall_s": round(time.perf_counter() - start, 2),
        "cpu_s": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 2),
        "peak_mib": round(peak / 2**20),
        "page_mb": round(page.stat().st_size / 1e6, 2),
        "numbers": said["numbers"],
        "addresses": said["addresses"],
    }


def together(pid: int) -> int:
    """Bytes that a process and its children have now."""
    found = 0
    with suppress(psutil.NoSuchProcess):  # one that ended meanwhile
        process = psutil.Process(pid)
        for one in (process, *process.children(recursive=True)):
            memory = one.memory_full_info()
            found += memory.pss if hasattr(memory, "pss") else memory.uss
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=Path, default=SAMPLE)
    parser.add_argument("--runs", type=int, default=50_000)
    options = parser.parse_args()
    report: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sample = folder / "sample.db"
        ingest = [sys.executable, "-m", "rhodb", "--db", str(sample), "ingest", str(options.sample)]
        subprocess.run(ingest, capture_output=True, check=True)
        report["sample"] = measure(sample, folder)
        if options.runs:
            runs = fill(folder / "large.db", options.runs, BEHAVIORS[:4])
            report["large"] = {"runs": runs} | measure(folder / "large.db", folder)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
