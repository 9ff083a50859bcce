"""`rhodb analyze`: list the studies and run one. Heavy packages are imported only when a study runs."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rhodb.cli import landscape, studies
from rhodb.cli import study_options as options
from rhodb.cli.kept import kept
from rhodb.cli.lazy import make_app
from rhodb.cli.options import JsonOption, example, output_format
from rhodb.cli.output import console, emit, note
from rhodb.place import for_folder

if TYPE_CHECKING:
    from analysis.answers import Answer, AnswerOptions
    from analysis.findings import Result

app = make_app("Analyse what the warehouse holds, with honest small-sample statistics.")
landscape.register(app)
studies.register(app)

TOLD = 10
"""Sentences printed below a table."""


@app.command("list", **example("rhodb analyze list"))
def list_studies(json: JsonOption = False) -> None:
    """List the studies."""
    from analysis.registry import STUDIES

    rows = [{"study": name, "summary": summary} for name, (_, summary) in STUDIES.items()]
    emit(rows, format=output_format(json=json))


_COMMON = (options.DRAW_SEED, options.WHERE, options.FIGURES, options.explain("quantity"), *options.FORMS, options.DB)
ANSWERS: dict[str, tuple[str, tuple[options.Option, ...]]] = {
    "gamma": (
        "The margin at which an effect changes sign: intervals, amplification, sensitivity, phase diagram.",
        (options.INPUTS, options.SAMPLES, options.BEHAVIOR, options.RHO_WEIGHT, options.MODEL, options.ONE_METRIC,
         options.SPLIT, options.ALPHA, *_COMMON),
    ),
    "ushape": (
        "The dose with the smallest variance over seeds: fit of the U-shape, its uncertainty, and its rivals.",
        (options.INPUTS, options.SAMPLES, options.BEHAVIOR, options.MODEL, options.ONE_METRIC, options.SPLIT,
         *_COMMON),
    ),
    "probe-noise": (
        "Noise from the choice of probes: standard errors, its share in γ*, paired and unpaired, and power.",
        (options.INPUTS, options.SAMPLES, options.BEHAVIOR, options.RHO_WEIGHT, options.MODEL, options.SPLIT,
         *_COMMON),
    ),
}  # fmt: skip
"""Studies of quantities: name -> help and options."""
EXAMPLES = {
    "gamma": ("", " --inputs published --samples 1000000 --figures figures", " --inputs db --behavior refusal --json",
              " --explain 3"),
    "ushape": ("", " --inputs db --behavior factual --figures figures", " --inputs published --json"),
    "probe-noise": ("", " --inputs db --behavior bias --figures figures",
                    " --inputs published --samples 100000 --json"),
}  # fmt: skip


def _study(name: str, *, db: str | None, figures: Path | None, explain: int | None, **given: Any) -> None:
    figures = for_folder(figures) if figures is not None else None
    form = options.form_of(given)
    answer, _ = answer_of(name, given, db, drawing=figures is not None)
    _show_answer(answer, form, explain, figures)


def answer_of(
    name: str, given: Mapping[str, Any], db: str | None, *, drawing: bool = False
) -> "tuple[Answer, AnswerOptions]":
    """A study's quantities: read where they are stored, else computed and stored.

    The published figures that come with rhodb are copied in first where they miss.
    """
    from analysis import stored
    from analysis.answers import AnswerOptions
    from analysis.registry import load_answer_study

    known = {key: given[key] for key in AnswerOptions.__dataclass_fields__ if given.get(key) is not None}
    metric = given.get("metric") or "gap"
    chosen = AnswerOptions(
        **known, behaviors=tuple(given.get("behavior") or ()),
        metrics=(metric,) if isinstance(metric, str) else tuple(metric),
    )  # fmt: skip
    if chosen.inputs != "db":
        copy_published(db)
    study = load_answer_study(name)
    return kept(db, lambda wh: (stored.answer_quantities(wh, study, chosen, drawing=drawing), chosen))


def diff(study: str, *, db: str | None, **given: Any) -> None:
    """What moved from one stored result of a study to the next."""
    from analysis.documents import moved
    from analysis.registry import STUDIES
    from analysis.stored import last_two
    from rhodb.errors import UnknownNameError
    from rhodb.warehouse import Warehouse

    form = options.form_of(given)
    if study not in STUDIES:
        raise UnknownNameError("study", study, tuple(STUDIES))
    ask = answer_of if study in ANSWERS else landscape.answer if study in landscape.COMMANDS else studies.answer
    chosen: Any = ask(study, given, db)[1]
    with Warehouse.open(db, create=False, read_only=True) as wh:
        found = last_two(wh, study, chosen)
    if len(found) < 2:
        note("note: only one result is stored with these options: there is nothing to compare it with yet")
        emit([], format=form)
        return
    (when_new, new), (when_old, old) = found
    rows, compared = moved(old, new)
    note(f"note: {when_old} against {when_new}: {len(rows)} of {compared} results moved")
    emit(rows, format=form, columns=list(dict.fromkeys(key for row in rows for key in row)))


for _name, (_summary, _options) in ANSWERS.items():
    options.add_command(
        app, _name, partial(_study, _name), _options, summary=_summary,
        examples=tuple(f"rhodb analyze {_name}{more}" for more in EXAMPLES[_name]),
    )  # fmt: skip
options.add_command(
    app, "diff", diff,
    (options.MODEL, options.METRICS, options.USUAL_SPLIT, options.BEHAVIOR, options.ALPHA, options.CORRECTION,
     options.ANY_SEED, options.WHERE, options.IGNORE, options.INPUTS, options.SAMPLES, options.RHO_WEIGHT,
     options.THRESHOLD, options.TOP, options.PERMUTATIONS, *options.FORMS, options.DB),
    summary="What moved since the last result of a study over other rows.",
    examples=("rhodb analyze diff anomalies", "rhodb analyze diff gamma --inputs db", "rhodb analyze diff landscape"),
    argument=("study", Annotated[str, typer.Argument(help="Study whose last two stored results are compared.")]),
)  # fmt: skip


def copy_published(db: str | None) -> None:
    """Copy the published figures that come with rhodb into the warehouse where they miss, and say so."""
    from rhodb import published
    from rhodb.warehouse import Warehouse

    shipped = published.read_folder()
    wh = Warehouse.peek(db)
    current = wh is not None and published.is_current(wh, shipped)
    if wh is not None:
        wh.close()
    if not current:
        with Warehouse.open(db) as opened:
            copied = published.insert_values(opened, shipped)
            added = f"{copied.added + copied.changed} published figures copied into {opened.location}"
        note(f"note: {added} (table published_values)")


def _show_answer(answer: "Answer", form: str, explain: int | None, figures: Path | None) -> None:
    """Quantities to stdout in the form asked for, sentences and how to read it below; messages to stderr."""
    from analysis.render import answers

    for path in _draw(answer, figures) if figures is not None else ():
        note(f"figure: {path}")
    if explain is not None:
        typer.echo(answers.evidence(answer, explain))
        return
    renderers = {"json": answers.to_json, "csv": answers.to_csv, "markdown": answers.to_markdown}
    if form in renderers:
        typer.echo(renderers[form](answer))
        return
    out = console()
    for table in answers.tables(answer):
        out.print(table)
    for sentence in answer.conclusions:
        out.print(f"- {sentence}")
    hidden = sum(quantity.detail for quantity in answer.quantities)
    out.print(answer.caption)
    out.print(
        f"{hidden} more quantities in --json, --csv, --markdown. Evidence: rhodb analyze {answer.study} --explain N"
    )
    for message in answer.messages:
        note(f"note: {message}")


def _draw(answer: "Answer", folder: Path) -> "list[Path]":
    from importlib import import_module

    module = import_module(f"analysis.{answer.study.replace('-', '_')}.figures")
    paths: list[Path] = module.draw(answer.drawing, folder)
    return paths


def _show(result: "Result", form: str, explain: int | None) -> None:
    """The result to stdout in the form asked for; what the reader has to know beside it to stderr."""
    from analysis.render import text

    if explain is not None:
        typer.echo(text.evidence(result, explain))
        return
    if form == "json":
        for piece in text.to_json(result):
            typer.echo(piece, nl=False)
        typer.echo()
        return
    renderers = {"csv": text.to_csv, "markdown": text.to_markdown}
    if form in renderers:
        typer.echo(renderers[form](result))
        return
    _show_table(result)
    for message in result.messages:
        note(f"note: {message}")


def _show_table(result: "Result") -> None:
    """Tables, the sentences of what is supported or refused (at most ten), and how to read it all."""
    if not result.findings:
        return
    from collections import Counter

    from analysis.findings import CLEAR_VERDICTS
    from analysis.render.table import tables

    out = console()
    for table in tables(result):
        out.print(table)
    told = [finding for finding in result.findings if finding.verdict in CLEAR_VERDICTS]
    for finding in told[:TOLD]:
        out.print(f"{finding.number}. {finding.sentence}")
    if len(told) > TOLD:
        out.print(f"... and {len(told) - TOLD} more: every finding's sentence is in --json and --csv")
    counts = Counter(finding.verdict for finding in result.findings)
    out.print("Verdicts: " + ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common()) + ".")
    out.print(result.caption)
    out.print(f"Evidence of a finding: rhodb analyze {result.study} --explain N")
