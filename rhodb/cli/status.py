"""`rhodb status`: what is planned, running, interrupted, failed and done."""

import typer

from rhodb.cli.lazy import make_app
from rhodb.cli.options import DbOption, JsonOption, example
from rhodb.cli.output import emit, emit_json

app = make_app("", no_args_is_help=False)


@app.command("status", **example("rhodb status", "rhodb --db lab.db status --json"))
def status(db: DbOption = None, json: JsonOption = False) -> None:
    """Show what is planned, running (where, when last heard of), interrupted and failed, and the time left."""
    from rhodb.status import status as look
    from rhodb.warehouse import Warehouse

    with Warehouse.open(db, create=False, read_only=True) as warehouse:
        found = look(warehouse)
    if json:
        emit_json(vars(found))
        return
    if found.runs:
        rows = [{**run, "run": run["run"][:8]} for run in found.runs]
        emit(rows, columns=[c for c in rows[0] if any(row[c] is not None for row in rows)])
    typer.echo(", ".join(f"{count} {state}" for state, count in found.counts.items()))
    if found.seconds_left is None:
        typer.echo("time left: unknown, since no run of these kinds is done yet")
    elif found.runs:
        from runners.reporting import duration

        more = f", and {found.not_judged} runs of unknown duration" if found.not_judged else ""
        typer.echo(f"time left: about {duration(found.seconds_left)} for one process{more}")
