"""The commands of `rhodb analyze` for studies of findings: summaries, detectors, quality, all of them, and diff."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rhodb.cli.options import CsvOption, DbOption, JsonOption, MarkdownOption, example, output_format
from rhodb.cli.output import console, emit, note

if TYPE_CHECKING:
    from analysis.findings import Result
    from analysis.study import StudyOptions
    from rhodb.warehouse import Warehouse

COMMANDS: dict[str, str] = {
    "effects": "Differences between conditions per behavior and metric, with intervals and exact tests.",
    "ablation": "Mean change per condition and behavior over seeds, with intervals.",
    "dose-response": "How behaviors follow λ: trends, reversals of single seeds, seeds and models compared.",
    "variance": "Standard deviation over seeds by λ and behavior, and whether it changes with λ.",
    "stress": "Refusal rates of jailbreaks and benign prompts by condition, with differences to the untouched model.",
    "anomalies": "Patterns that stand out, and what makes them: ten detectors, corrected together for all their looks.",
    "quality": "What is wrong with the warehouse's rows: impossible scores, pooled strata, copies, gaps, bad training.",
}
"""Name -> help. A test compares them with the registry, which cannot be loaded for --help."""
ALL = tuple(COMMANDS)

ModelOption = Annotated[str | None, typer.Option("--model", help="Only runs on this model (key).")]
MetricOption = Annotated[
    list[str] | None, typer.Option("--metric", help="Metric to analyse; may be repeated.  [default: gap]")
]
SplitOption = Annotated[
    str | None,
    typer.Option(
        "--split", help="Probes that the scores rest on: eval, train or none.  [default: eval where there is any]"
    ),
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
FiguresOption = Annotated[
    Path | None, typer.Option("--figures", metavar="DIR", help="Write the figures (PNG and SVG) into this folder.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for name, summary in COMMANDS.items():
        own = ("", " --explain 3", " --figures figures", " --json")
        examples = tuple(f"rhodb analyze {name}{options}" for options in own)
        app.command(name, help=summary, **example(*examples))(_command(name))
    app.command("all", **example("rhodb analyze all", "rhodb analyze all --figures figures"))(everything)
    app.command("diff", **example("rhodb analyze diff anomalies"))(diff)


def _command(name: str) -> Callable[..., None]:
    def command(
        *,
        model: ModelOption = None,
        metric: MetricOption = None,
        split: SplitOption = None,
        behavior: BehaviorOption = None,
        alpha: AlphaOption = 0.05,
        correction: CorrectionOption = "holm",
        seed: SeedOption = 0,
        where: WhereOption = None,
        figures: FiguresOption = None,
        explain: ExplainOption = None,
        json: JsonOption = False,
        csv: CsvOption = False,
        markdown: MarkdownOption = False,
        db: DbOption = None,
    ) -> None:
        from rhodb.cli.analyze import _show

        form = output_format(json=json, csv=csv, markdown=markdown)
        given = {"model": model, "metric": metric, "behavior": behavior, "alpha": alpha, "correction": correction,
                 "seed": seed, "where": where}  # fmt: skip
        result, _ = answer(name, given, split, db)
        if figures is not None:
            _draw(result, figures)
        _show(result, form, explain)

    return command


def everything(
    *,
    model: ModelOption = None,
    metric: MetricOption = None,
    split: SplitOption = None,
    alpha: AlphaOption = 0.05,
    correction: CorrectionOption = "holm",
    figures: FiguresOption = None,
    json: JsonOption = False,
    db: DbOption = None,
) -> None:
    """Every study of findings in turn: how many of each verdict, and what is supported or refused."""
    from collections import Counter

    given = {"model": model, "metric": metric, "alpha": alpha, "correction": correction}
    results = [answer(name, given, split, db)[0] for name in ALL]
    if json:
        from json import dumps

        typer.echo(dumps([result.to_json() for result in results], indent=2, ensure_ascii=False, allow_nan=False))
        return
    rows: list[dict[str, Any]] = []
    for result in results:
        if figures is not None:
            _draw(result, figures)
        counts = Counter(finding.verdict for finding in result.findings)
        rows.append({"study": result.study, "findings": len(result.findings), "looks": result.looks} | dict(counts))
    columns = list(dict.fromkeys(key for row in rows for key in row))
    emit([{key: row.get(key, 0) for key in columns} for row in rows], format="table")
    out = console()
    for result in results:
        for finding in [f for f in result.findings if f.verdict in ("supported", "artefact")][:5]:
            out.print(f"{result.study} {finding.number}. {finding.sentence}")
    out.print("p is adjusted within each study. Each by itself: rhodb analyze STUDY")


def diff(
    study: Annotated[str, typer.Argument(help="Study whose last two stored results are compared.")],
    *,
    model: ModelOption = None,
    metric: MetricOption = None,
    split: SplitOption = None,
    behavior: BehaviorOption = None,
    alpha: AlphaOption = 0.05,
    correction: CorrectionOption = "holm",
    seed: SeedOption = 0,
    where: WhereOption = None,
    json: JsonOption = False,
    csv: CsvOption = False,
    markdown: MarkdownOption = False,
    db: DbOption = None,
) -> None:
    """What moved since the last result of a study over other rows."""
    from rhodb.errors import UnknownNameError

    form = output_format(json=json, csv=csv, markdown=markdown)
    if study not in ALL:
        raise UnknownNameError("study", study, ALL)
    given = {"model": model, "metric": metric, "behavior": behavior, "alpha": alpha, "correction": correction,
             "seed": seed, "where": where}  # fmt: skip
    _, options = answer(study, given, split, db)

    from analysis.stored import last_two, moved
    from rhodb.warehouse import Warehouse

    with Warehouse.open(db, create=False, read_only=True) as wh:
        found = last_two(wh, study, options)
    if len(found) < 2:
        note("note: only one result is stored with these options: there is nothing to compare it with yet")
        emit([], format=form)
        return
    (when_new, new), (when_old, old) = found
    rows = moved(old, new)
    note(f"note: {when_old} against {when_new}: {len(rows)} of {len(new.findings)} looks moved")
    emit(rows, format=form)


def answer(name: str, given: dict[str, Any], split: str | None, db: str | None) -> "tuple[Result, StudyOptions]":
    """A study's result for the warehouse as it is: read where it is stored, else computed and stored."""
    from analysis.registry import load_study
    from analysis.stored import MOST_STORED, store, too_large
    from analysis.stored import answer as ask
    from rhodb.errors import DatabaseError
    from rhodb.warehouse import Warehouse

    study = load_study(name)
    with Warehouse.open(db, create=False, read_only=True) as wh:
        options = _options(given, split or _usual_split(wh))
        answered = ask(wh, study, options)
    if too_large(answered.result):
        note(f"note: the result is not stored: it has more than {MOST_STORED} findings")
    elif not answered.from_store:
        try:
            with Warehouse.open(db, create=False) as wh:
                store(wh, options, answered)
        except DatabaseError as error:
            note(f"note: the result is not stored: {error}")
    return answered.result, options


def _options(given: dict[str, Any], split: str) -> "StudyOptions":
    from analysis.study import StudyOptions, correction_of

    return StudyOptions(
        model=given.get("model"),
        metrics=tuple(given.get("metric") or ("gap",)),
        split=split,
        behaviors=tuple(given.get("behavior") or ()),
        alpha=given.get("alpha", 0.05),
        correction=correction_of(given.get("correction", "holm")),
        seed=given.get("seed", 0),
        where=given.get("where"),
    )


def _usual_split(wh: "Warehouse") -> str:
    """eval, but none where no score rests on an eval split."""
    there = wh.rows("SELECT EXISTS (SELECT 1 FROM behavior_scores WHERE split = 'eval') AS known")
    return "eval" if there and there[0]["known"] else "none"


def _draw(result: "Result", folder: Path) -> None:
    from analysis.finding_figures import draw

    for path in draw(result, folder):
        note(f"figure: {path}")
