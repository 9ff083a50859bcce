"""`rhodb doctor`: is everything here that a run needs, and if not, what to do about it."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import typer

from rhodb.cli.lazy import make_app
from rhodb.cli.options import DbOption, JsonOption, example
from rhodb.cli.output import doing, emit, emit_json
from rhodb.errors import RhodbError

GIB: Final = 2**30
NEEDED_MEMORY_GIB: Final = 4
NEEDED_DISK_GIB: Final = 1
LEAST_DISK_MIB: Final = 50
"""With less, not even one run's rows and spool file are sure to fit."""

app = make_app("Check device, BLAS, memory, model, probes and warehouse; say what to do.", no_args_is_help=False)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    what: str
    state: str
    """ok, warning or problem."""
    found: str
    advice: str = ""


@app.command(**example("rhodb doctor", "rhodb doctor --db lab.db --json"))
def doctor(db: DbOption = None, json: JsonOption = False) -> None:
    """Check device, BLAS, memory, model, probes and warehouse; say what to do about each problem."""
    findings = list(examine(db))
    if json:
        emit_json([asdict(finding) for finding in findings])
    else:
        emit([asdict(finding) for finding in findings], columns=["what", "state", "found", "advice"])
    if any(finding.state == "problem" for finding in findings):
        raise typer.Exit(1)


def examine(db: str | None) -> Iterator[Finding]:
    """Every check in turn. A check that raises a rhodb error is a problem with that error's sentence."""
    checks: dict[str, tuple[str, Callable[[], Iterator[Finding]]]] = {
        "MLX": ("measuring the speed of matrix products", _mlx),
        "memory": ("asking for free memory", lambda: iter([memory()])),
        "model": ("loading the embedded model", _model),
        "probes": ("reading the probes", _probes),
        "warehouse": ("looking at the warehouse", lambda: _warehouse(db)),
    }
    for what, (activity, check) in checks.items():
        try:
            with doing(activity):
                yield from check()
        except (RhodbError, ImportError) as error:  # without MLX, no model
            yield Finding(what=what, state="problem", found=str(error), advice="see the sentence to the left")


def _mlx() -> Iterator[Finding]:
    from runners.resources import check_mlx

    check_mlx()
    from runners.backend.blas import verify_blas
    from runners.backend.blas_library import cpu_features, cpu_name
    from runners.backend.device import device_name, is_cpu

    yield Finding(what="device", state="ok", found=device_name())
    if is_cpu():
        yield Finding(what="CPU", state="ok", found=", ".join([cpu_name(), *cpu_features()]))
        check = verify_blas()
        yield blas(f", {check.mlx_gflops:.3g} GFLOP/s a thread through MLX", in_use=check.in_use)


def blas(speed: str = "", *, in_use: bool = True) -> Finding:
    """Which BLAS serves the CPU, and why not OpenBLAS where it should; `in_use`: its speed was reached."""
    from runners.backend.blas import blas_info

    info = blas_info()
    if info.loaded and in_use:
        found = f"{info.name}, kernel {info.kernel}, {info.threads} threads{speed}"
        return Finding(what="BLAS", state="ok", found=found)
    if not info.remedy and not info.loaded:  # no OpenBLAS is needed here
        return Finding(what="BLAS", state="ok", found=info.name + speed)
    kernel = f" (its kernel: {info.kernel})" if info.kernel else ""
    return Finding(what="BLAS", state="warning", found=f"{info.name}{speed}; {info.reason}{kernel}", advice=info.remedy)


def memory(needed: int | None = None) -> Finding:
    """Free memory, against what a run needs (bytes), or else what the quick preset does."""
    import psutil

    from runners.resources import free_memory

    free = free_memory()
    found = f"{free / GIB:.1f} GiB free"
    if needed is not None and needed > free + psutil.swap_memory().free:
        advice = "close other programs, choose a smaller model, or shorten the texts with --max-length"
        return Finding(what="memory", state="problem", found=f"{found}, {needed / GIB:.1f} GiB needed", advice=advice)
    if free < NEEDED_MEMORY_GIB * GIB and needed is None:
        advice = f"the quick preset may need up to {NEEDED_MEMORY_GIB} GiB: close other programs"
        return Finding(what="memory", state="warning", found=found, advice=advice)
    return Finding(what="memory", state="ok", found=found)


def disk(folder: Path) -> Finding:
    """Room for results in a folder that need not exist yet."""
    import shutil

    there = next(above for above in (folder, *folder.parents) if above.is_dir())
    free = shutil.disk_usage(there).free
    found = f"{free / GIB:.1f} GiB free at {there}"
    if free >= NEEDED_DISK_GIB * GIB:
        return Finding(what="disk", state="ok", found=found)
    state = "warning" if free >= LEAST_DISK_MIB * 2**20 else "problem"
    return Finding(what="disk", state=state, found=found, advice="free some space, or choose another place with --db")


def _model() -> Iterator[Finding]:
    from rhodb.vocabulary import EMBEDDED_MODEL
    from runners.backend.models import load_model

    record = load_model(EMBEDDED_MODEL).record
    yield Finding(
        what="model",
        state="ok",
        found=f"{record.key}: {record.n_parameters / 1e6:.0f} M parameters, {record.n_layers} layers, {record.source}",
    )


def _probes() -> Iterator[Finding]:
    from runners.probes import load_probe_sets

    sets = load_probe_sets()
    pairs = sum(probe.kind == "pair" for s in sets for probe in s.probes)
    version = sets[0].package_version or "no version"
    yield Finding(what="probes", state="ok", found=f"{len(sets)} sets, {pairs} pairs, {sets[0].package} {version}")


def _warehouse(db: str | None) -> Iterator[Finding]:
    from rhodb.spool import Spool
    from rhodb.sql import saved_query
    from rhodb.warehouse import Warehouse

    warehouse = Warehouse.peek(db)
    if warehouse is None:
        from rhodb.engine import locate

        yield Finding(what="warehouse", state="ok", found=f"{locate(db)} does not exist yet: the first run makes it")
        return
    with warehouse:
        states = {row["state"]: row["n"] for row in warehouse.rows(saved_query("run_states"))}
        found = f"{warehouse.location}: {sum(states.values())} runs"
        found += "".join(f", {states[state]} {state}" for state in ("failed", "running") if state in states)
        yield Finding(what="warehouse", state="ok", found=f"{found}; `rhodb db check` looks deeper")
        if pending := Spool.beside(warehouse).pending():
            yield Finding(
                what="spool",
                state="warning",
                found=f"{len(pending)} finished runs are not in the warehouse yet",
                advice="run `rhodb runs recover`",
            )
        if warehouse.location.path is not None:
            yield disk(warehouse.location.path.parent)
