"""`rhodb plan FILE`: what a study of several experiments consists of, how far it is, and how long it will take."""

from pathlib import Path
from typing import Annotated

import typer

from rhodb.cli.lazy import make_app
from rhodb.cli.options import DbOption, JsonOption, example
from rhodb.cli.output import doing

app = make_app("", no_args_is_help=True)


@app.command("plan", **example("rhodb plan study.toml", "rhodb run --plan study.toml"))
def plan(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="TOML with a table [[run]] for each experiment.")],
    db: DbOption = None,
    json: JsonOption = False,
) -> None:
    """Show the cells of a plan of several experiments with their states and times; run nothing."""
    from rhodb.cli.run_output import print_plan
    from rhodb.vectors import WarehouseVectors
    from runners.landscape_vectors import kept_in
    from runners.plans import PlanSession, read_plan

    runs = read_plan(file)
    with kept_in(WarehouseVectors(db, keep=False)):
        with doing("loading models and probes"):
            session = PlanSession(runs)
        print_plan(session, db, json=json)
