"""The commands of `rhodb analyze` for studies of findings: summaries, detectors, quality, and all of them."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from rhodb.cli import study_options as options
from rhodb.cli.kept import kept
from rhodb.cli.output import console, emit, note
from rhodb.place import for_folder

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

OPTIONS = (
    options.MODEL, options.METRICS, options.USUAL_SPLIT, options.BEHAVIOR, options.ALPHA, options.CORRECTION,
    options.SEED, options.WHERE, options.IGNORE, options.FIGURES, options.explain("finding"), *options.FORMS,
    options.DB,
)  # fmt: skip


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for name, summary in COMMANDS.items():
        own = ("", " --explain 3", " --figures figures", " --json")
        options.add_command(
            app, name, partial(_study, name), OPTIONS, summary=summary,
            examples=tuple(f"rhodb analyze {name}{more}" for more in own),
        )  # fmt: skip
    options.add_command(
        app, "all", everything,
        (options.MODEL, options.METRICS, options.USUAL_SPLIT, options.ALPHA, options.CORRECTION, options.FIGURES,
         options.FORMS[0], options.DB),
        summary="Every study of findings in turn: how many of each verdict, and what is supported or refused.",
        examples=("rhodb analyze all", "rhodb analyze all --figures figures"),
    )  # fmt: skip


def _study(name: str, *, db: str | None, figures: Path | None, explain: int | None, **given: Any) -> None:
    from rhodb.cli.analyze import _show

    figures = for_folder(figures) if figures is not None else None
    form = options.form_of(given)
    result, _ = answer(name, given, db)
    if figures is not None:
        _draw(result, figures)
    if name == "anomalies" and form == "table" and explain is None:
        _show_asked_beforehand(db)
    _show(result, form, explain)


ASKED = ["name", "state", "treatment", "control", "behavior", "metric", "seeds_used", "looks_made", "estimate", "low",
         "high", "p"]  # fmt: skip


def _show_asked_beforehand(db: str | None) -> None:
    """Registered hypotheses, corrected within their families, apart from what was seen on the way."""
    from rhodb.warehouse import Warehouse

    with Warehouse.open(db, create=False, read_only=True) as warehouse:
        rows = warehouse.rows("SELECT * FROM v_hypotheses ORDER BY hypothesis_id")
    if rows:
        typer.echo("Asked beforehand: registered hypotheses, corrected within their families")
        emit(rows, columns=ASKED)
        typer.echo("Seen on the way: exploratory, corrected together for all looks below")


def everything(*, db: str | None, figures: Path | None, json: bool, **given: Any) -> None:
    """The studies of findings, one after another."""
    from collections import Counter

    from analysis.findings import CLEAR_VERDICTS

    figures = for_folder(figures) if figures is not None else None
    results = [answer(name, given, db)[0] for name in ALL]
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
        for finding in [f for f in result.findings if f.verdict in CLEAR_VERDICTS][:5]:
            out.print(f"{result.study} {finding.number}. {finding.sentence}")
    out.print("p is adjusted within each study. Each by itself: rhodb analyze STUDY")


def answer(name: str, given: Mapping[str, Any], db: str | None) -> "tuple[Result, StudyOptions]":
    """A study's result for the warehouse as it is: read where it is stored, else computed and stored."""
    from analysis import stored
    from analysis.registry import load_study
    from analysis.study import StudyOptions, correction_of

    def ask(wh: "Warehouse") -> "tuple[stored.Answered[Result], StudyOptions]":
        chosen = StudyOptions(
            model=given.get("model"), metrics=tuple(given.get("metric") or ("gap",)),
            split=given.get("split") or _usual_split(wh), behaviors=tuple(given.get("behavior") or ()),
            alpha=given.get("alpha", 0.05), correction=correction_of(given.get("correction", "holm")),
            seed=given.get("seed") or 0, where=given.get("where"), ignore=tuple(given.get("ignore_setting") or ()),
        )  # fmt: skip
        return stored.answer(wh, load_study(name), chosen), chosen

    return kept(db, ask)


def _usual_split(wh: "Warehouse") -> str:
    """eval, but none where no score rests on an eval split."""
    there = wh.rows("SELECT EXISTS (SELECT 1 FROM behavior_scores WHERE split = 'eval') AS known")
    return "eval" if there and there[0]["known"] else "none"


def _draw(result: "Result", folder: Path) -> None:
    from analysis.finding_figures import draw

    for path in draw(result, folder):
        note(f"figure: {path}")
