"""`rhodb report`: the whole notebook from the warehouse, checked again, or compared."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rhodb.cli.lazy import make_app
from rhodb.cli.options import DbOption, JsonOption, example
from rhodb.cli.output import console, doing, emit_json, note
from rhodb.errors import InputError, UnknownNameError
from rhodb.place import Kind, absolute, for_folder, for_output, look, write_whole

if TYPE_CHECKING:
    from analysis.report.build import Progress
    from analysis.report.context import ReportOptions
    from analysis.report.document import Report
    from analysis.report.verify import Verification
    from rhodb.warehouse import Warehouse

app = make_app(
    "Write the whole notebook from the warehouse, every number with its address; or check a saved one.",
    no_args_is_help=False,
)

FORMATS = ("html", "md", "both")
SUFFIXES = {".html": "html", ".htm": "html", ".md": "md"}
PROCESSES = 2
SHOWN = 20
"""Numbers that do not hold, printed one by one."""


@app.command(
    **example(
        "rhodb report",
        "rhodb report --out notebook.html --model smollm2-135m --metric gap --metric rho",
        "rhodb report --format both --out reports",
        "rhodb report --section ablation --section effects --format md",
        "rhodb report --verify results/report.html",
        "rhodb report --since 2026-03-01",
        "rhodb report --compare ../other/master.db",
    )
)
def report(
    *,
    out: Annotated[
        Path | None,
        typer.Option(help="File (.html or .md) or folder to write to.  [default: report.html beside the warehouse]"),
    ] = None,
    form: Annotated[
        str | None, typer.Option("--format", help="html, md or both.  [default: as --out ends, else html]")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", help="Only runs on this model (key).")] = None,
    split: Annotated[
        str | None, typer.Option("--split", help="eval, train or none.  [default: eval where there is any]")
    ] = None,
    metric: Annotated[
        list[str] | None, typer.Option("--metric", help="Metric of the tests; may be repeated.  [default: gap]")
    ] = None,
    where: Annotated[
        str | None,
        typer.Option("--where", metavar="SQL", help='SQL condition on the run, e.g. "seed < 1000 AND lora_rank = 8".'),
    ] = None,
    section: Annotated[
        list[str] | None, typer.Option("--section", metavar="KEY", help="Only this section; may be repeated.")
    ] = None,
    verify: Annotated[
        Path | None,
        typer.Option(
            "--verify", metavar="FILE", help="Recompute every number of a saved report; exit 1 if one differs."
        ),
    ] = None,
    compare: Annotated[
        str | None, typer.Option("--compare", metavar="OTHER_DB", help="Begin with what changed against it.")
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="DATE", help="Begin with what changed since then.")
    ] = None,
    json: JsonOption = False,
    db: DbOption = None,
) -> None:
    """Write the whole notebook from the warehouse, every number with its address; or check a saved one."""
    if verify is not None:
        given = {"--out": out, "--format": form, "--model": model, "--split": split, "--metric": metric,
                 "--where": where, "--section": section, "--compare": compare, "--since": since}  # fmt: skip
        extra = [name for name, value in given.items() if value]
        if extra:
            raise InputError(f"{extra[0]} does not go with --verify: a saved report is built again as it was asked for")
        _verify(verify, db, json=json)
        return
    from analysis.report.context import ReportOptions

    form = _format(form, out)
    with _warehouse(db) as wh:
        options = ReportOptions(
            model=model, split=split or _usual_split(wh), metrics=tuple(dict.fromkeys(metric or ("gap",))),
            where=where, sections=tuple(dict.fromkeys(section or ())), compare=compare, since=since,
        )  # fmt: skip
        target = _target(out, wh, form)
        _write(wh, options, target, form, json=json)


def _format(form: str | None, out: Path | None) -> str:
    """What to write. Raises InputError where --format and the name of the file disagree."""
    suffix = SUFFIXES.get(out.suffix.lower()) if out is not None else None
    if form is not None and form not in FORMATS:
        raise UnknownNameError("format", form, FORMATS)
    if form is not None and suffix is not None and form not in (suffix, "both"):
        raise InputError(f"--out {out} does not end as --format {form} says: choose one of the two")
    return form or suffix or "html"


def _target(out: Path | None, wh: "Warehouse", form: str) -> Path:
    """The file without its suffix, after a look at what stands there. Its folder is made when it is written."""
    from analysis.report import markdown, page_file

    if out is None:
        target = wh.location.folder / "report"
    else:
        out = absolute(out)
        named = out.suffix.lower() in SUFFIXES and look(out).kind is not Kind.FOLDER
        target = out.with_suffix("") if named else for_folder(out) / "report"
    if form in ("html", "both"):
        for_output(target.with_name(target.name + ".html"), page_file.is_page)
    if form in ("md", "both"):
        markdown.places(target.with_name(target.name + ".md"))
    return target


def _write(wh: "Warehouse", options: "ReportOptions", target: Path, form: str, *, json: bool) -> None:
    from analysis.report.build import build

    with _progress() as progress:
        made = build(wh, options, progress=progress, processes=PROCESSES)
    paths: list[Path] = []
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if form in ("html", "both"):
            paths.append(_page(made, target.with_name(target.name + ".html")))
    except OSError as error:
        raise InputError(f"the report cannot be written to {target.parent}: {error.strerror}") from error
    if form in ("md", "both"):
        from analysis.report import markdown

        paths += markdown.write(made, target.with_name(target.name + ".md"))
    files = [path for path in paths if path.suffix != ".png"]
    missing = [part.key for part in made.sections if part.missing]
    numbers = sum(1 for _ in made.cells())
    if json:
        emit_json({"files": [str(path) for path in paths], "sections": len(made.sections), "without_data": missing,
                   "numbers": numbers, "addresses": len(made.addresses)})  # fmt: skip
        return
    if missing:
        typer.echo(f"Sections without data, which say what to run: {', '.join(missing)}")
    counts = (
        f"{len(made.sections) - len(missing)} sections with data, {numbers} numbers, {len(made.addresses)} addresses"
    )
    typer.echo(f"{counts}.\nReport: {' '.join(str(path.resolve()) for path in files)}")


def _page(made: "Report", path: Path) -> Path:
    """One HTML file, written whole or not at all."""
    from analysis.report.page import render
    from analysis.report.page_file import is_page

    write_whole(for_output(path, is_page), render(made).encode())
    return path


def _verify(path: Path, db: str | None, *, json: bool) -> None:
    from analysis.report.verify import read, verify

    saved = read(path)
    with _warehouse(db) as wh, _progress() as progress:
        found = verify(wh, saved, progress=progress, processes=PROCESSES)
        where = str(wh.location)
    if json:
        emit_json(
            {"report": str(path), "warehouse": where, "agree": found.agree, "new": found.new,
             "mismatches": [vars(mismatch) for mismatch in found.mismatches]}
        )  # fmt: skip
    else:
        _print(found, path, where, saved.report)
    if not found.holds:
        raise typer.Exit(1)


def _print(found: "Verification", path: Path, where: str, saved: "Report") -> None:
    from rhodb import __version__

    out = console()
    for mismatch in found.mismatches[:SHOWN]:
        now = f", now {mismatch.now}" if mismatch.outcome == "differs" else ""
        now = f", its data say {mismatch.now}" if mismatch.outcome == "altered in the file" else now
        out.print(f"{mismatch.outcome}: {mismatch.place}: {mismatch.saved}{now} [{mismatch.address or 'label'}]")
    if len(found.mismatches) > SHOWN:
        out.print(f"... and {len(found.mismatches) - SHOWN} more: --json lists all")
    if saved.rhodb_version != __version__:
        note(f"note: the report was written by rhodb {saved.rhodb_version}; this is {__version__}")
    outcomes = {"differs": "differ", "cannot be found": "cannot be found", "altered in the file": "altered in the file"}
    counts = [f"{found.agree} numbers agree", *(f"{found.count(key)} {words}" for key, words in outcomes.items())]
    more = f" A report would now show {found.new} more." if found.new else ""
    verdict = "holds" if found.holds else "does not hold"
    out.print(f"{path} {verdict} against {where}: {', '.join(counts)}.{more}")


@contextmanager
def _warehouse(db: str | None) -> "Iterator[Warehouse]":
    """The warehouse, read-only; the published figures are copied in first where they miss and can be."""
    from rhodb.cli.analyze import copy_published
    from rhodb.errors import DatabaseError
    from rhodb.warehouse import Warehouse

    with Warehouse.open(db, create=False, read_only=True):
        pass  # says what is wrong before anything is written
    try:
        copy_published(db)
    except DatabaseError as error:
        note(f"note: the published figures are not copied in: {error}")
    with Warehouse.open(db, create=False, read_only=True) as wh:
        yield wh


def _usual_split(wh: "Warehouse") -> str:
    from rhodb.cli.studies import _usual_split as usual

    return usual(wh)


@contextmanager
def _progress() -> "Iterator[Progress]":
    """The section in hand; where there is no terminal, only that something is being done."""
    if not sys.stderr.isatty():
        with doing("computing the report's sections"):
            yield lambda title, number, count: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console(stderr=True), transient=True) as bar:
        task = bar.add_task("")
        yield lambda title, number, count: bar.update(task, description=title, completed=number - 1, total=count)
