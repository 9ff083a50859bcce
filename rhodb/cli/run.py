"""`rhodb run RUNNER`: options from the runner's configuration, execution by the executor, then a summary."""

import inspect
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer
from typer.main import get_command

from rhodb.cli.lazy import LazyGroup, make_app
from rhodb.cli.options import DbOption, JsonOption, example
from rhodb.cli.output import console, emit, emit_json, note, table
from rhodb.errors import InputError
from runners.registry import RUNNERS, load_runner

if TYPE_CHECKING:
    from rhodb.records import Provenance
    from rhodb.warehouse import Warehouse
    from runners.cells import Session
    from runners.config import RunConfig
    from runners.executor import Executor, Report

EXAMPLES = {
    "ablation": (
        "rhodb run ablation --seeds 42,123",
        "rhodb run ablation --preset paper --model Qwen/Qwen2.5-7B-Instruct --seeds 42,123,456,789,1337",
        "rhodb run ablation --conditions rho-guided,sft-only --rho-weight 0.5 --dry-run",
    ),
    "dose-response": ("rhodb run dose-response --rho-weights 0,0.1,0.2,0.5 --seeds 42,123,456,789,1337",),
    "margin-sweep": (
        "rhodb run margin-sweep --margins 0,0.02,0.03,0.05,0.1",
        "rhodb run margin-sweep --margins 0,0.05,0.1 --rho-weights 0.1,0.2,0.5 --seeds 42,123",
    ),
    "mixture": ("rhodb run mixture --refusal-shares 0,0.1,0.25,0.5 --seeds 42,123",),
    "duration": ("rhodb run duration --epochs 1,2,3 --checkpoints-per-epoch 2",),
    "stress-test": (
        "rhodb run stress-test --seeds 42,123,456",
        "rhodb run stress-test --prompts xstest.jsonl --judge logprob --conditions baseline,rho-guided",
    ),
    "freeze-sweep": (
        "rhodb run freeze-sweep --compress-ratios 0.7,1.0 --freeze-ratios 0,0.25,0.5,0.75,0.9",
        "rhodb run freeze-sweep --no-fine-tune --compress-ratios 0.5,0.7,0.9,1.0 --freeze-ratios 0",
    ),
    "cf90": ("rhodb run cf90 --ratio 0.7 --seeds 42,123,456",),
    "steering": (
        "rhodb run steering --layers 10:30:2 --alpha 4 --behavior sycophancy",
        "rhodb run steering --layers 15 --alpha 1,2,4,8 --method pca --controls 5",
    ),
    "attack-defense": ("rhodb run attack-defense --layer 15 --scales 0,0.5,1,2,4 --behaviors refusal,deception",),
    "hybrid": ("rhodb run hybrid --compress-ratios 0.7,1 --freeze-fractions 0.75 --sae-layers none,15",),
    "leaderboard": ("rhodb run leaderboard --models ADAPTER_FOLDER,OTHER_FOLDER --merge linear,slerp,ties",),
    "fidelity-bench": ("rhodb run fidelity-bench --categories mandela,medical,logic",),
    "landscape": (
        "rhodb run landscape",
        "rhodb run landscape --threshold 0.7 --seeds 42 --thresholds 0.7",
        "rhodb run landscape --probes my-probes --no-variants --dry-run",
    ),
}


class RunGroup(LazyGroup):
    """The runners of the registry, each with the options of its configuration."""

    table: ClassVar[Mapping[str, tuple[str, str]]] = {
        **RUNNERS,
        "rejudge": ("rhodb.cli.rejudge:app", "Judge the stored responses of all stress tests again."),
    }

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in RUNNERS:
            return super().get_command(ctx, cmd_name)
        command = get_command(build_app(cmd_name))
        command.name = cmd_name
        return command


app = make_app(
    "Run an experiment: plan its cells, execute those that are not done, store the rows.",
    cls=RunGroup,
    no_args_is_help=False,
)


@app.callback(invoke_without_command=True)
def run(
    ctx: typer.Context,
    plan: Annotated[
        Path | None, typer.Option("--plan", metavar="FILE", help="Run a plan of several experiments (see rhodb plan).")
    ] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="With --plan: run failed cells again.")] = False,
    workers: Annotated[
        int, typer.Option("--workers", min=0, help="With --plan: processes on this machine that share the cells.")
    ] = 0,
    cluster: Annotated[
        str | None, typer.Option("--cluster", metavar="ADDRESS", help="With --plan: a Dask scheduler, tcp://host:8786.")
    ] = None,
    db: DbOption = None,
    json: JsonOption = False,
) -> None:
    """Run an experiment: plan its cells, execute those that are not done, store the rows."""
    if ctx.invoked_subcommand is not None:
        if plan is not None or workers or cluster is not None:
            raise InputError(f"--plan, --workers and --cluster do not go with {ctx.invoked_subcommand}: choose one")
        return
    if plan is None:
        typer.echo(ctx.get_help())
        return
    execute_plan(plan, retry_failed=retry_failed, workers=workers, cluster=cluster, db=db, json=json)


def build_app(name: str) -> typer.Typer:
    """A one-command application for a runner; its parameters are read off the configuration model."""
    runner = load_runner(name)
    runner_app = make_app("", no_args_is_help=False)

    def command(**given: Any) -> None:
        common = {key: given.pop(key) for key in COMMON}
        execute(name, given, **common)

    parameters = [*_config_parameters(runner.config), *COMMON.values()]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    command.__doc__ = inspect.getdoc(runner)
    runner_app.command(name, **example(*EXAMPLES.get(name, (f"rhodb run {name}",))))(command)
    return runner_app


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


COMMON: Mapping[str, inspect.Parameter] = {
    p.name: p
    for p in (
        _parameter(
            "preset",
            Annotated[str | None, typer.Option(help="quick or paper  [default: quick with the embedded model]")],
            None,
        ),
        _parameter("config", Annotated[Path | None, typer.Option(help="TOML file with these options as keys.")], None),
        _parameter("dry_run", Annotated[bool, typer.Option("--dry-run", help="Print the plan, run nothing.")], False),
        _parameter(
            "retry_failed", Annotated[bool, typer.Option("--retry-failed", help="Run failed cells again.")], False
        ),
        _parameter("db", DbOption, None),
        _parameter("json", JsonOption, False),
    )
}


def _config_parameters(config: "type[RunConfig]") -> Iterator[inspect.Parameter]:
    """One option a field. Values stay text here: the model validates them, as it does those of a TOML file."""
    from runners.config import QUICK

    varied = getattr(config, "varied", {})
    for name, field in config.model_fields.items():
        if name in varied:
            continue
        option = "--" + name.replace("_", "-")
        shown = [] if field.default is None else [f"default: {_as_option(field.default)}"]
        shown += [f"quick: {_as_option(QUICK[name])}"] if name in QUICK else []
        text = f"{field.description}" + (f"  [{', '.join(shown)}]" if shown else "")
        if field.annotation is bool:
            declared = typer.Option(f"{option}/--no-{option[2:]}", help=text, show_default=False)
            yield _parameter(name, Annotated[bool | None, declared], None)
        else:
            yield _parameter(
                name, Annotated[str | None, typer.Option(option, metavar=_metavar(field.annotation), help=text)], None
            )


def _as_option(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _metavar(annotation: Any) -> str:
    text = str(annotation)
    return "LIST" if "tuple" in text else "NUMBER" if annotation in (int, float) else "TEXT"


def execute(
    name: str,
    given: Mapping[str, Any],
    *,
    preset: str | None,
    config: Path | None,
    dry_run: bool,
    retry_failed: bool,
    db: str | None,
    json: bool,
) -> None:
    """Resolve the configuration, then print the plan or run it."""
    from rhodb.vectors import WarehouseVectors
    from runners.config import resolve
    from runners.landscape_vectors import kept_in

    runner = load_runner(name)
    resolved = resolve(runner.config, preset=preset, file=config, options=given)
    with kept_in(WarehouseVectors(db, keep=not dry_run)):
        _plan_or_run(runner.prepare(resolved), dry_run=dry_run, retry_failed=retry_failed, db=db, json=json)


def _plan_or_run(
    session: "Session",
    *,
    dry_run: bool,
    retry_failed: bool,
    db: str | None,
    json: bool,
    make: "Callable[..., Executor] | None" = None,
) -> None:
    if dry_run:
        print_plan(session, db, json=json)
        return
    if "MLX_RANK" in os.environ:
        _run_ranks(session, retry_failed=retry_failed, db=db, json=json)
        return
    _run_and_report(session, retry_failed=retry_failed, db=db, json=json, make=make)


def _run_ranks(session: "Session", *, retry_failed: bool, db: str | None, json: bool) -> None:
    """Under mlx.launch: rank 0 runs the session, the others join it."""
    from runners.backend.data_parallel import launched_ranks
    from runners.ranks import Leading, follow

    ranks = launched_ranks()
    if ranks.rank > 0:
        follow(session, ranks)
        return
    leading = Leading(session, ranks)
    try:
        _run_and_report(leading, retry_failed=retry_failed, db=db, json=json, make=None)
    finally:
        leading.end()


def _run_and_report(
    session: Any,
    *,
    retry_failed: bool,
    db: str | None,
    json: bool,
    make: "Callable[..., Executor] | None",
) -> None:
    from rhodb.warehouse import Warehouse
    from runners.reporting import make_reporter

    with Warehouse.open(db) as warehouse:
        reporter = make_reporter(session.seconds_per_work())
        try:
            with _terminate_as_interrupt():
                report = _run(session, warehouse, reporter, retry_failed=retry_failed, make=make)
        except KeyboardInterrupt:
            reporter.close()
            note("interrupted: what was finished is stored; the same command goes on from here")
            raise typer.Exit(130) from None
        finally:
            reporter.close()
        _print_report(report, warehouse, _arms(session), json=json)
    if report.failed or report.spooled:
        raise typer.Exit(1)


def execute_plan(
    plan: Path, *, retry_failed: bool, workers: int, cluster: str | None, db: str | None, json: bool
) -> None:
    """Run a plan here, or on a cluster of processes or machines."""
    from rhodb.vectors import WarehouseVectors
    from runners.landscape_vectors import kept_in
    from runners.plans import PlanSession, read_plan

    runs = read_plan(plan)
    with kept_in(WarehouseVectors(db)):
        session = PlanSession(runs)
        if not workers and cluster is None:
            _plan_or_run(session, dry_run=False, retry_failed=retry_failed, db=db, json=json)
            return
        from runners.cluster import ClusterExecutor, connected

        with connected(workers, cluster) as client:
            make = partial(ClusterExecutor, runs=runs, client=client)
            _plan_or_run(session, dry_run=False, retry_failed=retry_failed, db=db, json=json, make=make)


def _run(
    session: "Session",
    warehouse: "Warehouse",
    reporter: Any,
    *,
    retry_failed: bool,
    make: "Callable[..., Executor] | None",
) -> "Report":
    from runners.executor import Executor

    make = make or Executor
    return make(session, warehouse, reporter, provenance=provenance(), retry_failed=retry_failed).run()


def provenance() -> "Provenance":
    from runners.backend.blas import load_openblas
    from runners.backend.device import device_name
    from runners.provenance import collect

    blas = load_openblas()
    return collect(device=device_name(), blas=f"{blas.name}, {blas.threads} threads, {blas.kernel}")


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


def print_plan(session: "Session", db: str | None, *, json: bool) -> None:
    """Each cell with its state in the warehouse (which is not created) and the time it should take."""
    from rhodb import store
    from rhodb.warehouse import Warehouse
    from runners.reporting import duration

    rate = session.seconds_per_work()
    warehouse = Warehouse.peek(db)
    identities = [cell.identity for cell in session.cells]
    statuses = [None] * len(identities) if warehouse is None else store.find(warehouse, identities)
    rows: list[dict[str, Any]] = [
        {
            "cell": cell.label,
            "state": status.state if status else "new",
            "seconds": 0.0 if status and status.state == "done" else round(cell.work * rate, 3),
            "config_hash": cell.identity.config_hash[:12],
        }
        for cell, status in zip(session.cells, statuses, strict=True)
    ]
    emit(rows, format="json" if json else "table")
    to_do = [row for row in rows if row["state"] != "done"]
    total = duration(sum(row["seconds"] for row in to_do))
    note(f"{len(rows)} cells, {len(to_do)} to run, about {total} on this machine; nothing was run")


def _arms(session: "Session") -> dict[str, str]:
    """uuid of each cell -> its label without the seed."""
    from rhodb.rows import run_uuid

    return {run_uuid(c.identity): c.label.removesuffix(f" seed {c.identity.seed}") for c in session.cells}


def _print_report(report: "Report", warehouse: "Warehouse", arms: Mapping[str, str], *, json: bool) -> None:
    from rhodb.summary import run_deltas, truncated_texts

    rows = run_deltas(warehouse, report.uuids, arms=arms)
    truncated, texts = truncated_texts(warehouse, report.uuids)
    if json:
        emit_json(
            {
                "warehouse": str(warehouse.location),
                "executed": report.executed,
                "already_done": report.already_done,
                "done_elsewhere": report.done_elsewhere,
                "spooled": report.spooled,
                "failed": report.failed,
                "runs": report.uuids,
                "truncated_texts": truncated,
                "deltas": rows,
            }
        )
    else:
        _print_deltas(rows)
        done = len(report.executed) + len(report.already_done) + len(report.done_elsewhere)
        typer.echo(
            f"{done} runs done ({len(report.executed)} now, {len(report.already_done)} before"
            + (f", {len(report.done_elsewhere)} by another process" if report.done_elsewhere else "")
            + f") in {warehouse.location}"
        )
        study = "effects" if rows else "list"
        typer.echo(f"next: rhodb analyze {study}   |   rhodb runs list   |   rhodb runs show UUID")
    if truncated:
        note(f"{truncated} of {texts} scored texts were longer than --max-length and were cut (probe_scores.truncated)")
    for label in report.spooled:
        note(f"kept in the spool: {label}; `rhodb runs recover` inserts it once the warehouse can be written")
    for label, error in report.failed.items():
        note(f"failed: {label}: {error}")


def _print_deltas(rows: list[dict[str, Any]]) -> None:
    """One line an arm, one column a behavior: mean ± SD over seeds of the change against the baseline."""
    if not rows:
        return
    behaviors = list(dict.fromkeys(row["behavior"] for row in rows))
    arms: dict[str, dict[str, Any]] = {}
    for row in rows:
        line = arms.setdefault(row["arm"], {"condition": row["arm"], "n": row["n"]})
        spread = "" if row["sd"] is None else f" ± {row['sd']:.3f}"
        line[row["behavior"]] = f"{row['mean']:+.3f}{spread}"
    split, metric = rows[0]["split"], rows[0]["metric"]
    title = f"Δ {metric} against the untouched model, {split} split, nats/token, mean ± SD over n seeds"
    out = table(list(arms.values()), ["condition", "n", *behaviors], title=title)
    sys.stdout.flush()
    console().print(out)
