"""`rhodb run ablation` of this build against the last one without worker processes, as whole commands.

    python benchmarks/bench_workers.py [--base FOLDER] [--parts quiet,busy,cell,peak] [--small]

quiet   README's main job (`--seeds 42,123`, quick), in turn; target: at most 0.55 of the base's wall time, 4 GiB.
busy    the same beside two processes that do nothing but compute; target: at most 2.2 times its own quiet time.
cell    a baseline and a single rho-guided cell, which leave nothing to do in parallel; target: no slower.
peak    the share of what both cores' sgemm could do that the products of `quiet` make up.

The base is the git worktree of c074ac7 with only its BLAS package exchanged, since the one that it names runs on few
CPUs. Without --base it is made in a temporary folder, with an environment of its own. --small trains on 16 texts and
scores 4 probes of a behavior, where the whole job would take too long.

Prints a line a measurement: wall seconds, CPU seconds of all processes, and their memory together (PSS, so that shared
pages count once).
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

HERE = Path(__file__).resolve().parents[1]
BASE_COMMIT = "c074ac7"
OLD_BLAS, NEW_BLAS = "cmeel-openblas", "ngsolve-openblas"
EVERY_S = 0.5
MAIN = ("--seeds", "42,123")
CELL = ("--seeds", "42", "--conditions", "rho-guided")
SMALL = ("--sft-size", "16", "--probes-per-behavior", "4")
SPIN = "while True: pass"
FLOPS = """
from runners.backend.blas import verify_blas
from runners.config import resolve
from runners.registry import load_runner
from mlx.utils import tree_flatten
import json, sys

runner = load_runner("ablation")
session = runner.prepare(resolve(runner.config, preset=None, file=None, options=json.loads(sys.argv[1])))
weights = sum(w.size for _, w in tree_flatten(session.loaded.model.parameters()) if w.ndim == 2)
tokens = sum(cell.score_work + 2 / 3 * cell.train_work for cell in session.cells)
print(2 * weights * tokens / 1e9, verify_blas(size=2048).openblas_gflops)
"""
"""GFLOP of a job and GFLOP/s of one thread. A trained token costs two passes: adapters need no gradient of weights."""


@dataclass(frozen=True)
class Measured:
    wall: float
    cpu: float
    mib: float

    def __str__(self) -> str:
        return f"{self.wall:7.1f} s wall  {self.cpu:7.1f} s CPU  {self.mib:6.0f} MiB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, help="a worktree of the base, with its environment in .venv")
    parser.add_argument("--parts", default="quiet,busy,cell,peak")
    parser.add_argument("--builds", default="base,new", help="to measure; ratios need both; default: %(default)s")
    parser.add_argument("--small", action="store_true")
    given = parser.parse_args()
    parts = given.parts.split(",")
    extra = SMALL if given.small else ()
    with base_build(given.base) as base:
        builds = {name: {"base": base, "new": HERE}[name] for name in given.builds.split(",")}
        found: dict[tuple[str, str], Measured] = {}

        def measure(part: str, options: Sequence[str]) -> None:
            for name, build in builds.items():
                found[part, name] = run(build, [*options, *extra])
                print(f"{part:6} {name:5} {found[part, name]}", flush=True)

        if {"quiet", "busy", "peak"} & {*parts}:
            measure("quiet", MAIN)
            print_ratio(found, "quiet", 0.55)
        if "peak" in parts:
            gflop, rate = products(extra)
            share = gflop / found["quiet", "new"].wall / (2 * rate)
            print(f"peak: {gflop:.0f} GFLOP, {rate:.0f} GFLOP/s a core: {share:.0%} of two cores' sgemm", flush=True)
        if "cell" in parts:
            measure("cell", CELL)
            print_ratio(found, "cell", 1.0)
        if "busy" in parts:
            with neighbours(2):
                measure("busy", MAIN)
            for name in builds:
                times = found["busy", name].wall / found["quiet", name].wall
                print(f"busy: {name} takes {times:.1f} times its quiet time (target 2.2)", flush=True)


def print_ratio(found: dict[tuple[str, str], Measured], part: str, target: float) -> None:
    if {(part, "base"), (part, "new")} <= found.keys():
        ratio = found[part, "new"].wall / found[part, "base"].wall
        print(f"{part}: {ratio:.2f} of the base's wall time (target {target})", flush=True)


def run(build: Path, options: Sequence[str]) -> Measured:
    """One ablation by a build, in an empty folder."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    peak = 0
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        command = [str(build / ".venv/bin/python"), "-m", "rhodb", "run", "ablation", *options]
        with (Path(folder) / "log").open("w") as log:
            process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
            while process.poll() is None:
                peak = max(peak, memory(process.pid))
                time.sleep(EVERY_S)
        wall = time.perf_counter() - start
        if process.returncode != 0:
            sys.exit(f"{' '.join(command)} failed:\n{(Path(folder) / 'log').read_text()[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Measured(wall, cpu, peak / 2**20)


def memory(pid: int) -> int:
    """Bytes of a process and its descendants."""
    total = 0
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        for process in [root, *root.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                total += getattr(process.memory_full_info(), "pss", 0) or process.memory_info().rss
    return total


def products(extra: Sequence[str]) -> tuple[float, float]:
    """GFLOP of the main job's matrix products, as its texts ask for them, and GFLOP/s of one core."""
    given = (*MAIN, *extra)
    options = {name[2:].replace("-", "_"): value for name, value in zip(given[::2], given[1::2], strict=True)}
    command = [str(HERE / ".venv/bin/python"), "-c", FLOPS, json.dumps(options)]
    gflop, rate = subprocess.run(command, capture_output=True, text=True, check=True, cwd=HERE).stdout.split()
    return float(gflop), float(rate)


@contextmanager
def neighbours(count: int) -> Iterator[None]:
    """Inside the block so many processes keep a core busy each."""
    processes = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


@contextmanager
def base_build(given: Path | None) -> Iterator[Path]:
    """The base's worktree: the given one, or a new one that is taken away afterwards."""
    if given is not None:
        yield given.resolve()
        return
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "base"
        git("worktree", "add", "--detach", str(tree), BASE_COMMIT)
        try:
            for file in ("pyproject.toml", "runners/backend/blas.py"):
                text = (tree / file).read_text().replace(OLD_BLAS, NEW_BLAS).replace(f"{NEW_BLAS}>=0.3.29", NEW_BLAS)
                text = text.replace('file.name == "libopenblas.so"', 'file.name.startswith("libopenblas")')
                (tree / file).write_text(text)
            subprocess.run(["uv", "sync", "--quiet"], cwd=tree, check=True)
            yield tree
        finally:
            git("worktree", "remove", "--force", str(tree))


def git(*arguments: str) -> Any:
    return subprocess.run(["git", "-C", str(HERE), *arguments], check=True, capture_output=True)


if __name__ == "__main__":
    main()
