"""`rhodb analyze`: list the studies and run one. Heavy packages are imported only when a study runs."""

from typing import TYPE_CHECKING, Annotated

import typer

from rhodb.cli.lazy import make_app
from rhodb.cli.options import CsvOption, DbOption, JsonOption, MarkdownOption, example, output_format
from rhodb.cli.output import console, emit, note

if TYPE_CHECKING:
    from analysis.findings import Result
    from analysis.study import StudyOptions

app = make_app("Analyse what the warehouse holds, with honest small-sample statistics.")

TOLD = 10
"""Sentences printed below a table."""

ModelOption = Annotated[str | None, typer.Option("--model", help="Only runs on this model (key).")]
MetricOption = Annotated[
    list[str] | None, typer.Option("--metric", help="Metric to analyse; may be repeated.  [default: gap]")
]
SplitOption = Annotated[
    str, typer.Option("--split", help="Probes that the scores rest on: eval, train or none (unsplit runs).")
]
BehaviorOption = Annotated[
    list[str] | None, typer.Option("--behavior", help="Only this behavior; may be repeated.  [default: all]")
]
AlphaOption = Annotated[float, typer.Option("--alpha", help="Error level of the verdicts; intervals cover 1 - alpha.")]
CorrectionOption = Annotated[
    str, typer.Option("--correction", help="Correction for the number of looks: holm, bh or none.")
]
SeedOption = Annotated[int, typer.Option("--seed", help="Seed of Monte Carlo tests (exact tests need none).")]
WhereOption = Annotated[
    str | None,
    typer.Option("--where", metavar="SQL", help='SQL condition on the run, e.g. "seed < 1000 AND lora_rank = 8".'),
]
ExplainOption = Annotated[
    int | None,
    typer.Option(
        "--explain", metavar="N", help="Print the evidence of finding N: SQL, runs, method. 0: the whole query."
    ),
]


@app.command("list", **example("rhodb analyze list"))
def list_studies(json: JsonOption = False) -> None:
    """List the studies."""
    from analysis.registry import STUDIES

    rows = [{"study": name, "summary": summary} for name, (_, summary) in STUDIES.items()]
    emit(rows, format=output_format(json=json))


@app.command(
    **example(
        "rhodb analyze effects",
        "rhodb analyze effects --metric gap --metric rho --behavior toxicity",
        'rhodb analyze effects --where "margin > 0" --json',
        "rhodb analyze effects --explain 3",
    )
)
def effects(
    *,
    model: ModelOption = None,
    metric: MetricOption = None,
    split: SplitOption = "eval",
    behavior: BehaviorOption = None,
    alpha: AlphaOption = 0.05,
    correction: CorrectionOption = "holm",
    seed: SeedOption = 0,
    where: WhereOption = None,
    explain: ExplainOption = None,
    json: JsonOption = False,
    csv: CsvOption = False,
    markdown: MarkdownOption = False,
    db: DbOption = None,
) -> None:
    """Differences between conditions per behavior and metric, with intervals and exact tests."""
    form = output_format(json=json, csv=csv, markdown=markdown)
    from analysis.study import StudyOptions, correction_of

    options = StudyOptions(
        model=model,
        metrics=tuple(metric or ("gap",)),
        split=split,
        behaviors=tuple(behavior or ()),
        alpha=alpha,
        correction=correction_of(correction),
        seed=seed,
        where=where,
    )
    _show(_run("effects", options, db), form, explain)


def _run(study: str, options: "StudyOptions", db: str | None) -> "Result":
    from analysis.registry import load_study
    from rhodb.warehouse import Warehouse

    with Warehouse.open(db, create=False, read_only=True) as wh:
        return load_study(study).run(wh, options)


def _show(result: "Result", form: str, explain: int | None) -> None:
    """The result to stdout in the form asked for; what the reader has to know beside it to stderr."""
    from analysis.render import text

    if explain is not None:
        typer.echo(text.evidence(result, explain))
        return
    renderers = {"json": text.to_json, "csv": text.to_csv, "markdown": text.to_markdown}
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
