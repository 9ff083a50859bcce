"""`rhodb ingest`: other programs' result files into the warehouse."""

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rhodb.cli.lazy import make_app
from rhodb.cli.options import DbOption, JsonOption, example
from rhodb.cli.output import doing, emit, emit_json, note

if TYPE_CHECKING:
    from rhodb.ingest import FileReport, IngestReport

app = make_app("Read older result files, and other tools' results, into the warehouse.")

MOST_SHOWN = 5
"""Conflicts, repeats and warnings of a file that are printed; --json has them all."""


@app.command(
    **example(
        "rhodb ingest results/",
        "rhodb ingest old/alignment/ablation.json --dry-run",
        "rhodb ingest results/ --on-conflict replace",
    )
)
def ingest(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Result files, or folders that hold them.")],
    *,
    db: DbOption = None,
    on_conflict: Annotated[
        str | None,
        typer.Option(
            metavar="keep|replace",
            help="A changed file has other results for a run: keep the old, or replace them.  [default: refuse]",
        ),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Write nothing if anything is broken.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would happen; write nothing.")] = False,
    json: JsonOption = False,
) -> None:
    """Read result files: each whole or not at all, the same contents once. Exit code 1 if any was refused."""
    from rhodb.ingest.driver import check_policy

    policy = check_policy(on_conflict)
    with doing("reading the files"):
        report = _ingest(paths, db, on_conflict=policy, strict=strict, dry_run=dry_run)
    if json:
        emit_json(_as_json(report))
    else:
        _print(report, dry_run=dry_run)
    if report.problems:
        raise typer.Exit(1)


def _ingest(paths: list[Path], db: str | None, *, dry_run: bool, **options: Any) -> "IngestReport":
    """A dry run on a warehouse that is not there yet uses one in a temporary folder."""
    import tempfile

    from rhodb.ingest import ingest as run
    from rhodb.ingest.files import find
    from rhodb.location import locate
    from rhodb.place import Kind, look
    from rhodb.warehouse import Warehouse

    list(find(paths))  # what is missing or no file is said before a warehouse is made
    place = locate(db).asked
    if dry_run and place is not None and look(place).kind is Kind.FREE:
        with tempfile.TemporaryDirectory() as folder, Warehouse.open(Path(folder) / "dry.db") as wh:
            return run(wh, paths, dry_run=True, **options)
    with Warehouse.open(db) as wh:
        return run(wh, paths, dry_run=dry_run, **options)


def _as_json(report: "IngestReport") -> dict[str, Any]:
    return {
        "written": report.written,
        "added": report.total("added"),
        "files": [asdict(file) | {"path": str(file.path)} for file in report.files],
    }


def _print(report: "IngestReport", *, dry_run: bool) -> None:
    counts = ("read", "added", "already", "completed", "repeated", "replaced", "missing", "extra")
    formats = list(dict.fromkeys(file.format for file in report.files if file.format))
    rows = []
    for name in formats:
        files = [file for file in report.files if file.format == name]
        rows.append(
            {"format": name, "files": len(files)}
            | {count: sum(getattr(file, count) for file in files) for count in counts}
            | {"failed runs": sum(len(file.failed_runs) for file in files)}
        )
    if rows:
        emit(rows)
    for file in report.files:
        _print_file(file)
    passed = [file for file in report.files if file.status == "passed over"]
    for file in passed[:MOST_SHOWN]:
        note(f"passed over: {file.path}: {file.reason}")
    if len(passed) > MOST_SHOWN:
        note(f"passed over: and {len(passed) - MOST_SHOWN} more, listed by --json")
    states = Counter(file.status for file in report.files)
    typer.echo(", ".join(f"{n} files {state}" for state, n in states.items()) or "no result files found")
    if dry_run:
        note("dry run: nothing was written")
    elif not report.written:
        note("--strict: nothing was written, because of the problems above")


def _print_file(file: "FileReport") -> None:
    if file.status == "conflict" and file.reason:
        note(f"conflict: {file.path}: {file.reason}")
    if file.status == "broken":
        note(f"broken: {file.path}: {file.json_path or 'the file'}: {file.reason}")
    for failed in file.failed_runs:
        note(f"failed run: {file.path}: {failed}")
    for title, found in (("conflict", file.conflicts), ("repeat", file.repeats), ("note", file.warnings)):
        for one in found[:MOST_SHOWN]:
            note(f"{title}: {file.path}: {one}")
        if len(found) > MOST_SHOWN:
            note(f"{title}: {file.path}: and {len(found) - MOST_SHOWN} more")
