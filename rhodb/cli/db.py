"""`rhodb db`: create, upgrade, check and locate the warehouse."""

from pathlib import Path
from typing import Annotated

import typer

from rhodb.cli.lazy import make_app
from rhodb.cli.options import CsvOption, DbOption, JsonOption, MarkdownOption, example, output_format
from rhodb.cli.output import doing, emit, note

app = make_app("Create, upgrade, check and locate the warehouse.")


@app.command(**example("rhodb db upgrade", "rhodb --db other.db db upgrade"))
def upgrade(db: DbOption = None) -> None:
    """Create the warehouse, or bring an old one to this rhodb's schema (after a backup beside it)."""
    from rhodb.location import locate
    from rhodb.migrate import current
    from rhodb.place import for_warehouse
    from rhodb.warehouse import Warehouse

    location = locate(db)
    if location.path is not None:
        for_warehouse(location.asked or location.path, create=True)
    before = current(location) if location.path is None or location.path.is_file() else None
    with doing("bringing the schema up to date"), Warehouse.open(db):
        pass
    after = current(location)
    if before == after:
        typer.echo(f"{location} is up to date (schema {after})")
    else:
        typer.echo(f"{location}: schema {before or 'none'} -> {after}")


@app.command(**example("rhodb db current", "rhodb db current --json"))
def current(
    db: DbOption = None, json: JsonOption = False, csv: CsvOption = False, markdown: MarkdownOption = False
) -> None:
    """Show where the warehouse is, its schema revision, and the one this rhodb needs."""
    from rhodb.location import locate
    from rhodb.migrate import look

    found = look(locate(db))
    emit([found], format=output_format(json=json, csv=csv, markdown=markdown))


@app.command(**example("rhodb db check", "rhodb db check --quick", "rhodb db check --json"))
def check(
    db: DbOption = None,
    quick: Annotated[bool, typer.Option("--quick", help="Do not recompute metrics from probe scores.")] = False,
    json: JsonOption = False,
    csv: CsvOption = False,
    markdown: MarkdownOption = False,
) -> None:
    """Check integrity, references, states and stored metrics; say how to repair. Exit code 1 on problems."""
    from rhodb.check import check as run_checks
    from rhodb.warehouse import Warehouse

    with doing("checking every row"), Warehouse.open(db, read_only=True) as wh:
        problems = run_checks(wh, recompute=not quick)
        place = str(wh.location)
    chosen = output_format(json=json, csv=csv, markdown=markdown)
    if chosen != "table":
        emit([vars(problem) for problem in problems], format=chosen, columns=("check", "what", "fix"))
    for problem in problems if chosen == "table" else ():
        typer.echo(f"{problem.check}: {problem.what}\n    fix: {problem.fix}")
    if problems:
        note(f"{len(problems)} problems in {place}")
        raise typer.Exit(1)
    note(f"{place} is sound")


@app.command(**example('sqlite3 "$(rhodb db path)" "SELECT count(*) FROM runs"'))
def path(db: DbOption = None) -> None:
    """Print the warehouse's path (or URL, without its password)."""
    from rhodb.location import locate

    typer.echo(str(locate(db)))


@app.command(**example("rhodb db backup", "rhodb db backup /backups/master.db"))
def backup(
    target: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="Copy to make.  [default: beside the warehouse]")
    ] = None,
    db: DbOption = None,
) -> None:
    """Copy the warehouse while it is in use, and check the copy."""
    from rhodb.maintenance import backup as run_backup
    from rhodb.warehouse import Warehouse

    with Warehouse.open(db, create=False, read_only=True) as wh:
        with doing("copying the warehouse"):
            made = run_backup(wh, target)
        typer.echo(f"backup: {made}")


@app.command(**example("rhodb db vacuum"))
def vacuum(db: DbOption = None) -> None:
    """Give unused space back to the disk and refresh the statistics that queries are planned with."""
    from rhodb.maintenance import vacuum as run_vacuum
    from rhodb.warehouse import Warehouse

    with Warehouse.open(db, create=False) as wh:
        with doing("giving space back"):
            done = run_vacuum(wh)
        typer.echo(f"{wh.location}: {done.before / 1e6:.1f} MB -> {done.after / 1e6:.1f} MB")
