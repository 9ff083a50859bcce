"""`rhodb export`, `rhodb import`, `rhodb merge`, `rhodb rebuild`: data out, in and together."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rhodb.cli.lazy import make_app
from rhodb.cli.options import DbOption, JsonOption, example
from rhodb.cli.output import emit_json, note
from rhodb.errors import InputError

if TYPE_CHECKING:
    from rhodb.transfer import MergeReport
    from rhodb.transfer.merge import Policy

export_app = make_app("Write the warehouse, a table, a view or a query to files.")
import_app = make_app("Bring an export of another warehouse in.")
merge_app = make_app("Bring another warehouse in.")
rebuild_app = make_app("Make the warehouse anew from its spool and sources.", no_args_is_help=False)

MOST_SHOWN = 20

ConflictOption = Annotated[
    str | None,
    typer.Option(metavar="keep|replace", help="Runs that came out differently there.  [default: write nothing]"),
]


@export_app.command(
    **example(
        "rhodb export results/export --format parquet",
        "rhodb export scores.csv --table v_scores",
        'rhodb export means.jsonl --sql "SELECT behavior, avg(value) AS mean FROM behavior_scores GROUP BY behavior"',
    )
)
def export(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="New folder for everything; or the file to write.")],
    *,
    db: DbOption = None,
    table: Annotated[str | None, typer.Option("--table", help="Only this table or view.")] = None,
    sql: Annotated[str | None, typer.Option("--sql", help="Only the rows of this SELECT.")] = None,
    format: Annotated[  # noqa: A002
        str | None, typer.Option("--format", help="csv, jsonl or parquet.  [default: the file's ending; jsonl]")
    ] = None,
) -> None:
    """Write everything into a folder that `rhodb import` reads, or a table, view or query into one file."""
    from rhodb.transfer import export_all, export_query
    from rhodb.warehouse import Warehouse

    with Warehouse.open(db, create=False, read_only=True) as wh:
        if table is None and sql is None:
            done = export_all(wh, path, format=format or "jsonl")
        else:
            done = export_query(wh, path, table=table, sql=sql, format=format)
    typer.echo(f"{sum(done.rows.values())} rows of {len(done.rows)} tables written to {done.path}")


@import_app.command("import", **example("rhodb import results/export", "rhodb --db new.db import results/export"))
def import_(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="An export of `rhodb export FOLDER`.")],
    *,
    db: DbOption = None,
    on_conflict: ConflictOption = None,
    json: JsonOption = False,
) -> None:
    """Bring an export in, all of it or nothing; what the warehouse holds already is added once only."""
    from rhodb.transfer import load_export
    from rhodb.transfer.load import read_manifest
    from rhodb.warehouse import Warehouse

    read_manifest(folder)  # what is wrong with it is said before a warehouse is made
    with Warehouse.open(db) as wh:
        _print_merge(load_export(wh, folder, on_conflict=_policy(on_conflict)), json=json)


@merge_app.command(**example("rhodb merge /mnt/other-lab/master.db", "rhodb merge other.db --on-conflict keep"))
def merge(
    other: Annotated[str, typer.Argument(metavar="OTHER", help="The other warehouse: path or URL.")],
    *,
    db: DbOption = None,
    on_conflict: ConflictOption = None,
    json: JsonOption = False,
) -> None:
    """Bring another warehouse in, in one transaction: runs are matched by their identity."""
    from rhodb.location import locate
    from rhodb.transfer import merge as run_merge
    from rhodb.warehouse import Warehouse

    if locate(db) == locate(other):
        raise InputError(f"{other} is this warehouse itself: name another one")
    with Warehouse.open(other, create=False, read_only=True) as theirs, Warehouse.open(db) as wh:
        _print_merge(run_merge(wh, theirs, on_conflict=_policy(on_conflict)), json=json)


def _policy(word: str | None) -> "Policy":
    from rhodb.ingest.driver import check_policy

    return check_policy(word)


def _print_merge(report: "MergeReport", *, json: bool) -> None:
    if json:
        emit_json(vars(report) | {"conflicts": [vars(conflict) for conflict in report.conflicts]})
    else:
        added = ", ".join(f"{n} {table}" for table, n in report.added.items() if n) or "nothing"
        typer.echo(f"added: {added}")
        typer.echo(
            f"runs: {report.already} there already, {report.finished} finished, {report.replaced} replaced, "
            f"{report.skipped} not finished there and left out"
        )
    for conflict in report.conflicts[:MOST_SHOWN]:
        note(f"conflict: {conflict}")
    if not report.written:
        note(
            f"nothing was written, because {len(report.conflicts)} runs came out differently there: "
            "say --on-conflict keep or replace"
        )
        raise typer.Exit(1)


@rebuild_app.command(**example("rhodb rebuild", "rhodb rebuild old-results/", "rhodb rebuild --without 3f2a91c0"))
def rebuild(
    paths: Annotated[
        list[Path] | None, typer.Argument(metavar="[PATH]...", help="Further result files or folders to ingest.")
    ] = None,
    *,
    without: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Do without a run's old rows (its uuid, or 8 characters of it), which is then made from spool and "
            "files alone; or without a table's unreadable rows. May be repeated.",
        ),
    ] = None,
    db: DbOption = None,
) -> None:
    """Make the warehouse anew from what can be read of it, its spool and its files; nothing is lost silently.

    Every row of the old warehouse is carried over; spool and files fill in what is missing or cannot be read. If
    anything would be missing all the same, the old warehouse stays, and what it is is said. A copy is kept.
    """
    from rhodb.rebuild import rebuild as run_rebuild

    done = run_rebuild(db, paths or (), without=without or ())
    typer.echo(
        f"{done.kept} runs carried over, {len(done.recovered.inserted)} more from the spool, "
        f"{done.ingested.total('added')} more from files"
    )
    for path, reason in (*done.recovered.damaged, *done.recovered.failed):
        note(f"not used: {path}: {reason}")
    for file in done.ingested.problems:
        note(f"not used: {file.path}: {file.reason}")
    for gone in done.gone:
        note(f"{gone} is not there any more: its runs are carried over")
    for loss in done.missing:
        note(f"missing: {loss}")
    if not done.replaced:
        note("nothing was changed: find a backup or a file that holds what is missing, or name it with --without")
        raise typer.Exit(1)
    if done.copy is not None:
        typer.echo(f"the old database is kept as {done.copy}")
