"""`rhodb run rejudge`: stored responses before another judge."""

from typing import Annotated

import typer

from rhodb.cli.lazy import make_app
from rhodb.cli.options import DbOption, JsonOption, example
from rhodb.cli.output import emit, note

app = make_app("", no_args_is_help=False)


@app.command("rejudge", **example("rhodb run rejudge --judge rules", "rhodb run rejudge --judge logprob --json"))
def rejudge(
    judge: Annotated[str, typer.Option("--judge", help="rules or logprob")] = "rules",
    db: DbOption = None,
    json: JsonOption = False,
) -> None:
    """Judge the stored responses of all stress tests again, without generating; verdicts are runs of their own."""
    from rhodb.warehouse import Warehouse
    from runners.provenance import of_this_process
    from runners.rejudge import rejudge as judge_again

    with Warehouse.open(db, create=False) as warehouse:
        rows = judge_again(warehouse, judge, provenance=of_this_process(), message=note)
    emit(rows, format="json" if json else "table")
    note(f"{len(rows)} stress tests judged by {judge}")
