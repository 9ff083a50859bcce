"""`rhodb analyze`: list the studies and run one. Heavy packages are imported only when a study runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rhodb.cli import landscape, studies
from rhodb.cli.lazy import make_app
from rhodb.cli.options import CsvOption, DbOption, JsonOption, MarkdownOption, example, output_format
from rhodb.cli.output import console, emit, note

if TYPE_CHECKING:
    from analysis.answers import Answer, AnswerOptions
    from analysis.findings import Result

app = make_app("Analyse what the warehouse holds, with honest small-sample statistics.")
landscape.register(app)
studies.register(app)

TOLD = 10
"""Sentences printed below a table."""

ModelOption = Annotated[str | None, typer.Option("--model", help="Only runs on this model (key).")]
SplitOption = Annotated[
    str, typer.Option("--split", help="Probes that the scores rest on: eval, train or none (unsplit runs).")
]
BehaviorOption = Annotated[
    list[str] | None, typer.Option("--behavior", help="Only this behavior; may be repeated.  [default: all]")
]
AlphaOption = Annotated[float, typer.Option("--alpha", help="Error level of the verdicts; intervals cover 1 - alpha.")]
WhereOption = Annotated[
    str | None,
    typer.Option("--where", metavar="SQL", help='SQL condition on the run, e.g. "seed < 1000 AND lora_rank = 8".'),
]


@app.command("list", **example("rhodb analyze list"))
def list_studies(json: JsonOption = False) -> None:
    """List the studies."""
    from analysis.registry import STUDIES

    rows = [{"study": name, "summary": summary} for name, (_, summary) in STUDIES.items()]
    emit(rows, format=output_format(json=json))


InputsOption = Annotated[
    str,
    typer.Option(
        "--inputs",
        help="published (the notes' figures), db (this warehouse's runs) or auto: db where it has what is needed.",
    ),
]
SamplesOption = Annotated[int, typer.Option("--samples", help="Monte Carlo samples and bootstrap draws.")]
OneMetricOption = Annotated[str, typer.Option("--metric", help="Metric of the warehouse's runs to analyse.")]
RhoWeightOption = Annotated[
    float | None, typer.Option("--rho-weight", help="λ at which γ varies.  [default: the one with most margins]")
]
FiguresOption = Annotated[
    Path | None, typer.Option("--figures", metavar="DIR", help="Write the figures (PNG and SVG) into this folder.")
]
DrawSeedOption = Annotated[int, typer.Option("--seed", help="Seed of the random draws (42 repeats the notes').")]
NumberOption = Annotated[
    int | None,
    typer.Option(
        "--explain", metavar="N", help="Print the evidence of quantity N: inputs, SQL, method. 0: the whole query."
    ),
]


@app.command(
    **example(
        "rhodb analyze gamma",
        "rhodb analyze gamma --inputs published --samples 1000000 --figures figures",
        "rhodb analyze gamma --inputs db --behavior refusal --json",
        "rhodb analyze gamma --explain 3",
    )
)
def gamma(
    *,
    inputs: InputsOption = "auto",
    samples: SamplesOption = 10_000,
    behavior: BehaviorOption = None,
    rho_weight: RhoWeightOption = None,
    model: ModelOption = None,
    metric: OneMetricOption = "gap",
    split: SplitOption = "eval",
    alpha: AlphaOption = 0.05,
    seed: DrawSeedOption = 42,
    where: WhereOption = None,
    figures: FiguresOption = None,
    explain: NumberOption = None,
    json: JsonOption = False,
    csv: CsvOption = False,
    markdown: MarkdownOption = False,
    db: DbOption = None,
) -> None:
    """The margin at which an effect changes sign: intervals, amplification, sensitivity, phase diagram."""
    form = output_format(json=json, csv=csv, markdown=markdown)
    from analysis.answers import AnswerOptions

    options = AnswerOptions(
        inputs=inputs,
        samples=samples,
        behaviors=tuple(behavior or ()),
        rho_weight=rho_weight,
        model=model,
        metrics=(metric,),
        split=split,
        alpha=alpha,
        seed=seed,
        where=where,
    )
    _show_answer(_answer("gamma", options, db), form, explain, figures)


@app.command(
    **example(
        "rhodb analyze ushape",
        "rhodb analyze ushape --inputs db --behavior factual --figures figures",
        "rhodb analyze ushape --inputs published --json",
    )
)
def ushape(
    *,
    inputs: InputsOption = "auto",
    samples: SamplesOption = 10_000,
    behavior: BehaviorOption = None,
    model: ModelOption = None,
    metric: OneMetricOption = "gap",
    split: SplitOption = "eval",
    seed: DrawSeedOption = 42,
    where: WhereOption = None,
    figures: FiguresOption = None,
    explain: NumberOption = None,
    json: JsonOption = False,
    csv: CsvOption = False,
    markdown: MarkdownOption = False,
    db: DbOption = None,
) -> None:
    """The dose with the smallest variance over seeds: fit of the U-shape, its uncertainty, and its rivals."""
    form = output_format(json=json, csv=csv, markdown=markdown)
    from analysis.answers import AnswerOptions

    options = AnswerOptions(
        inputs=inputs,
        samples=samples,
        behaviors=tuple(behavior or ()),
        model=model,
        metrics=(metric,),
        split=split,
        seed=seed,
        where=where,
    )
    _show_answer(_answer("ushape", options, db), form, explain, figures)


@app.command(
    "probe-noise",
    **example(
        "rhodb analyze probe-noise",
        "rhodb analyze probe-noise --inputs db --behavior bias --figures figures",
        "rhodb analyze probe-noise --inputs published --samples 100000 --json",
    ),
)
def probe_noise(
    *,
    inputs: InputsOption = "auto",
    samples: SamplesOption = 10_000,
    behavior: BehaviorOption = None,
    rho_weight: RhoWeightOption = None,
    model: ModelOption = None,
    split: SplitOption = "eval",
    seed: DrawSeedOption = 42,
    where: WhereOption = None,
    figures: FiguresOption = None,
    explain: NumberOption = None,
    json: JsonOption = False,
    csv: CsvOption = False,
    markdown: MarkdownOption = False,
    db: DbOption = None,
) -> None:
    """Noise from the choice of probes: standard errors, its share in γ*, paired and unpaired, and power."""
    form = output_format(json=json, csv=csv, markdown=markdown)
    from analysis.answers import AnswerOptions

    options = AnswerOptions(
        inputs=inputs,
        samples=samples,
        behaviors=tuple(behavior or ()),
        rho_weight=rho_weight,
        model=model,
        split=split,
        seed=seed,
        where=where,
    )
    _show_answer(_answer("probe-noise", options, db), form, explain, figures)


def _answer(study: str, options: "AnswerOptions", db: str | None) -> "Answer":
    """Run a study of quantities; the published figures that come with rhodb are copied in first where they miss."""
    from analysis.registry import load_answer_study
    from rhodb.warehouse import Warehouse

    if options.inputs != "db":
        copy_published(db)
    with Warehouse.open(db, create=False, read_only=True) as wh:
        return load_answer_study(study).run(wh, options)


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

    from analysis.render.table import tables

    out = console()
    for table in tables(result):
        out.print(table)
    told = [finding for finding in result.findings if finding.verdict in ("supported", "artefact")]
    for finding in told[:TOLD]:
        out.print(f"{finding.number}. {finding.sentence}")
    if len(told) > TOLD:
        out.print(f"... and {len(told) - TOLD} more: every finding's sentence is in --json and --csv")
    counts = Counter(finding.verdict for finding in result.findings)
    out.print("Verdicts: " + ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common()) + ".")
    out.print(result.caption)
    out.print(f"Evidence of a finding: rhodb analyze {result.study} --explain N")
