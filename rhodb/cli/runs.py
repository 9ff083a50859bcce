"""`rhodb runs`: list, show and compare runs; recover spooled outcomes."""

from typing import Annotated, Any

import typer

from rhodb.cli.lazy import make_app
from rhodb.cli.options import CsvOption, DbOption, JsonOption, MarkdownOption, example, output_format
from rhodb.cli.output import emit, emit_json, note

app = make_app("List, show and compare runs; recover spooled outcomes.")

UuidArgument = Annotated[str, typer.Argument(metavar="RUN", help="Beginning of the run's uuid.")]


@app.command("list", **example("rhodb runs list", "rhodb runs list --kind alignment --seed 42 --csv"))
def list_command(
    *,
    db: DbOption = None,
    kind: Annotated[str | None, typer.Option(help="Only runs of this kind, e.g. alignment.")] = None,
    state: Annotated[str | None, typer.Option(help="Only runs in this state.")] = None,
    model: Annotated[str | None, typer.Option(help="Only runs of this model.")] = None,
    condition: Annotated[str | None, typer.Option(help="Only runs of this condition.")] = None,
    seed: Annotated[int | None, typer.Option(help="Only runs with this seed.")] = None,
    limit: Annotated[int, typer.Option(help="At most so many runs, the newest.")] = 50,
    json: JsonOption = False,
    csv: CsvOption = False,
    markdown: MarkdownOption = False,
) -> None:
    """List runs, newest first."""
    from rhodb.location import locate
    from rhodb.query import list_runs

    chosen = output_format(json=json, csv=csv, markdown=markdown)
    # One more than asked for tells whether there are more.
    rows = list_runs(
        locate(db),
        kind=kind,
        state=state,
        model=model,
        condition=condition,
        seed=seed,
        limit=limit + 1 if limit > 0 else limit,
    )
    more, rows = len(rows) > limit, rows[:limit]
    if chosen in ("table", "markdown"):
        rows = [row | {"run": row["run"][:8], "error": _first_line(row["error"])} for row in rows]
    emit(rows, format=chosen, columns=LIST_COLUMNS)
    if more:
        note(f"only the newest {limit} runs are shown: --limit shows more")


LIST_COLUMNS = (
    "run",
    "kind",
    "condition",
    "model",
    "seed",
    "rho_weight",
    "margin",
    "state",
    "attempt",
    "seconds",
    "finished_at",
    "error",
)


def _first_line(text: str | None) -> str | None:
    return text.strip().splitlines()[0][:80] if text and text.strip() else text


@app.command(**example("rhodb runs show 3f2a91c0", "rhodb runs show 3f2a --json"))
def show(
    run: UuidArgument,
    db: DbOption = None,
    json: JsonOption = False,
    csv: CsvOption = False,
    markdown: MarkdownOption = False,
) -> None:
    """Show a run's configuration, provenance, probe sets and scores. --csv and --markdown print its scores."""
    from rhodb.query import show_run
    from rhodb.warehouse import Warehouse

    chosen = output_format(json=json, csv=csv, markdown=markdown)
    with Warehouse.open(db, read_only=True) as wh:
        found = show_run(wh, run)
    if chosen == "json":
        emit_json(vars(found))
    elif chosen != "table":
        emit(found.scores, format=chosen, columns=SCORE_COLUMNS)
    else:
        _echo_fields(found.run)
        _echo_fields(found.family)
        _echo_fields({f"rows in {table}": n for table, n in found.counts.items()})
        emit(found.probe_sets, columns=("behavior", "name", "package", "package_version", "probes", "fingerprint"))
        emit(found.scores, columns=SCORE_COLUMNS)


SCORE_COLUMNS = ("behavior", "metric", "split", "value", "se", "n", "baseline_value", "delta")


def _echo_fields(fields: dict[str, Any]) -> None:
    import json as json_module

    for name, value in fields.items():
        shown = json_module.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value
        typer.echo(f"{name:<18} {'—' if shown is None else shown}")


@app.command(**example("rhodb runs diff 3f2a91c0 77b01e5d", "rhodb runs diff 3f2a 77b0 --json"))
def diff(
    a: Annotated[str, typer.Argument(metavar="A", help="Beginning of one run's uuid.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Beginning of the other's.")],
    *,
    db: DbOption = None,
    json: JsonOption = False,
    csv: CsvOption = False,
    markdown: MarkdownOption = False,
) -> None:
    """Compare two runs: what differs in configuration and provenance, and their scores (difference b - a)."""
    from rhodb.query import diff_runs
    from rhodb.warehouse import Warehouse

    chosen = output_format(json=json, csv=csv, markdown=markdown)
    with Warehouse.open(db, read_only=True) as wh:
        found = diff_runs(wh, a, b)
    if chosen == "json":
        emit_json(vars(found))
        return
    if chosen == "table":
        typer.echo(f"a {found.a}\nb {found.b}")
        for title, rows in (("configuration", found.settings), ("provenance", found.provenance)):
            typer.echo(f"\n{title}: {'same' if not rows else ''}")
            if rows:
                emit(rows, columns=("what", "a", "b"))
        typer.echo("\nscores")
    emit(found.scores, format=chosen, columns=("behavior", "metric", "split", "a", "b", "difference"))


@app.command(**example("rhodb runs recover"))
def recover(db: DbOption = None, json: JsonOption = False) -> None:
    """Insert finished runs that were spooled while the warehouse was locked, full or missing."""
    from rhodb.spool import recover as recover_spool
    from rhodb.warehouse import Warehouse

    with Warehouse.open(db) as wh:
        report = recover_spool(wh)
    problems = [(path, reason, "damaged") for path, reason in report.damaged]
    problems += [(path, reason, "not inserted") for path, reason in report.failed]
    if json:
        emit_json(vars(report))
    else:
        typer.echo(f"{len(report.inserted)} runs inserted, {len(report.already)} were there already")
    for path, reason, what in problems:
        note(f"{what}: {path}: {reason}")
    if problems:
        raise typer.Exit(1)
