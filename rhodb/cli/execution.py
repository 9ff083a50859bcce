"""What `rhodb run` does: print the plan, or have workers here, ranks or a cluster execute it, and report."""

import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer

from rhodb.cli.output import doing, note
from rhodb.cli.preflight import check_machine, check_memory
from rhodb.cli.run_output import measured_rate, print_plan, print_report
from rhodb.errors import InputError
from runners.registry import load_runner

if TYPE_CHECKING:
    from rhodb.records import Provenance
    from runners.cells import Session
    from runners.executor import Planner, Report
    from runners.plans import PlannedRun
    from runners.reporting import LiveReporter, PlainReporter

MakePlanner = Callable[..., "Planner"]
RANKS: Final = "MLX_RANK"
"""Set by mlx.launch for each process that it starts."""


@dataclass(frozen=True, kw_only=True)
class Invocation:
    """The options that every experiment and every plan is run with."""

    db: str | None
    json: bool
    dry_run: bool = False
    retry_failed: bool = False
    workers: int | None = None
    """Processes on this machine; None chooses."""


def run_experiment(
    name: str, given: Mapping[str, Any], invocation: Invocation, *, preset: str | None, config: Path | None
) -> None:
    """Resolve the configuration, then print the plan or run it."""
    from rhodb.vectors import WarehouseVectors
    from runners.config import resolve
    from runners.landscape_vectors import kept_in
    from runners.plans import PlannedRun

    runner = load_runner(name)
    resolved = resolve(runner.config, preset=preset, file=config, options=given)
    check_machine(invocation.db)
    if not (invocation.dry_run or RANKS in os.environ):
        _run_on_workers([PlannedRun(runner=name, config=resolved)], invocation, is_plan=False)
        return
    if invocation.dry_run:
        # As a worker measures: two threads of OpenBLAS beside a busy neighbour took 229 s for what one did in 27 s.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    with kept_in(WarehouseVectors(invocation.db, keep=not invocation.dry_run)):
        with doing("loading the model and probes"):
            session = runner.prepare(resolved)
        if invocation.dry_run:
            print_plan(session, invocation.db, json=invocation.json)
        else:
            _run_on_ranks(session, invocation)


def run_plan(plan: Path, invocation: Invocation, *, cluster: str | None) -> None:
    """Run a plan here, or on a cluster of machines."""
    from rhodb.vectors import WarehouseVectors
    from runners.landscape_vectors import kept_in
    from runners.plans import PlanSession, read_plan

    runs = read_plan(plan)
    check_machine(invocation.db)
    if cluster is None and RANKS not in os.environ:
        _run_on_workers(runs, invocation, is_plan=True)
        return
    with kept_in(WarehouseVectors(invocation.db)):
        if cluster is None:
            _run_on_ranks(PlanSession(runs), invocation)
        else:
            _run_on_cluster(runs, cluster, invocation)


def _run_on_workers(runs: Sequence["PlannedRun"], invocation: Invocation, *, is_plan: bool) -> None:
    """In processes on this machine; this one plans and writes."""
    from runners.coordinator import Coordinator
    from runners.resources import BLAS_TOLD
    from runners.workers import ProcessPool

    with ProcessPool(runs, is_plan=is_plan, db=invocation.db, workers=invocation.workers) as pool:
        with doing("loading the model and probes, planning, measuring this machine's speed"):
            session = pool.describe()
        check_memory(session.peak_bytes - session.resident_bytes)
        os.environ[BLAS_TOLD] = "1"
        _run_and_report(session, invocation, session.provenance, partial(Coordinator, pool=pool))


def _run_on_cluster(runs: Sequence["PlannedRun"], address: str, invocation: Invocation) -> None:
    """On the workers of a Dask scheduler; this process plans and writes."""
    from runners.cluster import DaskPool, connected
    from runners.coordinator import Coordinator
    from runners.plans import PlanSession
    from runners.provenance import of_this_process

    provenance = of_this_process()
    session = PlanSession(runs)
    with connected(address) as client:
        pool = DaskPool(client, runs, provenance)
        _run_and_report(session, invocation, provenance, partial(Coordinator, pool=pool))


def _run_on_ranks(session: "Session", invocation: Invocation) -> None:
    """Under mlx.launch: rank 0 runs the session in its own process, and the others join it."""
    from runners.backend.data_parallel import launched_ranks
    from runners.executor import Executor
    from runners.provenance import of_this_process
    from runners.ranks import Leading, follow

    if invocation.workers is not None:
        raise InputError("--workers does not go with mlx.launch, whose ranks share each cell: leave it out")
    ranks = launched_ranks()
    if ranks.rank > 0:
        follow(session, ranks)
        return
    leading = Leading(session, ranks)
    try:
        _run_and_report(leading, invocation, of_this_process(), Executor)
    finally:
        leading.end()


def _run_and_report(session: Any, invocation: Invocation, provenance: "Provenance", make: MakePlanner) -> None:
    """Execute what is not done, and say how everything stands. Exit code 1 where something failed, 130 after Ctrl-C."""
    from rhodb.warehouse import Warehouse
    from runners.reporting import make_reporter

    rate = measured_rate(session)
    with Warehouse.open(invocation.db) as warehouse:
        reporter = make_reporter(rate)
        planner = make(session, warehouse, reporter, provenance=provenance, retry_failed=invocation.retry_failed)
        report = run_to_its_end(planner, reporter)
        print_report(report, warehouse, session.cells, json=invocation.json)
    if report.failed or report.spooled:
        raise typer.Exit(1)


def run_to_its_end(planner: "Planner", reporter: "PlainReporter | LiveReporter") -> "Report":
    """What became of the cells. After Ctrl-C the sentence that says how to go on, and exit code 130."""
    try:
        with _terminate_as_interrupt():
            return planner.run()
    except KeyboardInterrupt:
        reporter.close()
        note("interrupted: what was finished is stored; the same command goes on from here")
        raise typer.Exit(130) from None
    finally:
        reporter.close()


@contextmanager
def _terminate_as_interrupt() -> Iterator[None]:
    """SIGTERM (a scheduler's or shell's `kill`) ends a run as Ctrl-C does: the cell is given back."""

    def interrupt(_signal: int, _frame: Any) -> None:
        raise KeyboardInterrupt

    before: Callable[[int, Any], Any] | int | None = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
