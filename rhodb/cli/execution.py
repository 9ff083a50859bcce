"""What `rhodb run` does with a session: print its plan or execute it, here, on ranks or on a cluster, and report."""

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from rhodb.cli.output import note
from rhodb.cli.run_output import print_plan, print_report
from runners.registry import load_runner

if TYPE_CHECKING:
    from rhodb.records import Provenance
    from runners.cells import Session
    from runners.executor import Executor

MakeExecutor = Callable[..., "Executor"]


@dataclass(frozen=True, kw_only=True)
class Invocation:
    """The options that every experiment and every plan is run with."""

    db: str | None
    json: bool
    dry_run: bool = False
    retry_failed: bool = False


def run_experiment(
    name: str, given: Mapping[str, Any], invocation: Invocation, *, preset: str | None, config: Path | None
) -> None:
    """Resolve the configuration, then print the plan or run it."""
    from rhodb.vectors import WarehouseVectors
    from runners.config import resolve
    from runners.landscape_vectors import kept_in

    runner = load_runner(name)
    resolved = resolve(runner.config, preset=preset, file=config, options=given)
    with kept_in(WarehouseVectors(invocation.db, keep=not invocation.dry_run)):
        session = runner.prepare(resolved)
        if invocation.dry_run:
            print_plan(session, invocation.db, json=invocation.json)
        else:
            _run(session, invocation)


def run_plan(plan: Path, invocation: Invocation, *, workers: int, cluster: str | None) -> None:
    """Run a plan here, or on a cluster of processes or machines."""
    from rhodb.vectors import WarehouseVectors
    from runners.landscape_vectors import kept_in
    from runners.plans import PlanSession, read_plan

    runs = read_plan(plan)
    with kept_in(WarehouseVectors(invocation.db)):
        session = PlanSession(runs)
        if not workers and cluster is None:
            _run(session, invocation)
            return
        from runners.cluster import ClusterExecutor, connected

        with connected(workers, cluster) as client:
            _run_and_report(session, invocation, partial(ClusterExecutor, runs=runs, client=client))


def provenance() -> "Provenance":
    """What this process runs with."""
    from runners.backend.blas import load_openblas
    from runners.backend.device import device_name
    from runners.provenance import collect

    blas = load_openblas()
    return collect(device=device_name(), blas=f"{blas.name}, {blas.threads} threads, {blas.kernel}")


def _run(session: "Session", invocation: Invocation) -> None:
    """In this process. Under mlx.launch, rank 0 runs the session and the others join it."""
    from runners.executor import Executor

    if "MLX_RANK" not in os.environ:
        _run_and_report(session, invocation, Executor)
        return
    from runners.backend.data_parallel import launched_ranks
    from runners.ranks import Leading, follow

    ranks = launched_ranks()
    if ranks.rank > 0:
        follow(session, ranks)
        return
    leading = Leading(session, ranks)
    try:
        _run_and_report(leading, invocation, Executor)
    finally:
        leading.end()


def _run_and_report(session: Any, invocation: Invocation, make: MakeExecutor) -> None:
    """Execute what is not done, and say how everything stands. Exit code 1 where something failed, 130 after Ctrl-C."""
    from rhodb.warehouse import Warehouse
    from runners.reporting import make_reporter

    with Warehouse.open(invocation.db) as warehouse:
        reporter = make_reporter(session.seconds_per_work())
        executor = make(session, warehouse, reporter, provenance=provenance(), retry_failed=invocation.retry_failed)
        try:
            with _terminate_as_interrupt():
                report = executor.run()
        except KeyboardInterrupt:
            reporter.close()
            note("interrupted: what was finished is stored; the same command goes on from here")
            raise typer.Exit(130) from None
        finally:
            reporter.close()
        print_report(report, warehouse, session.cells, json=invocation.json)
    if report.failed or report.spooled:
        raise typer.Exit(1)


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
