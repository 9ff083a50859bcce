"""`rhodb analyze landscape | scorecard | entanglement`."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from rhodb.cli import study_options as options
from rhodb.cli.kept import kept
from rhodb.cli.output import console, emit, emit_json, markdown_table, note, table

if TYPE_CHECKING:
    from analysis.landscape.load import LandscapeOptions
    from analysis.landscape.result import Table, Tables

COMMANDS: dict[str, str] = {
    "landscape": "Clusters of similar probes, redundancy and isolation, stability, near-duplicates across the split.",
    "scorecard": "Diversity of each behavior's probes: redundancy, coverage, partners, probes needed, priority.",
    "entanglement": "Behaviors whose probes share clusters: texts in shared cross-behavior clusters for each pair.",
}
"""Name -> help."""
_EXPLAIN = options.explain("table", "all queries")
_MODEL = options.option("--model", str | None, "Neighbours: only Δ of this language model (key).")
_BASE = (options.THRESHOLD, options.LOUVAIN_SEED, options.TEXT_ORDER)
OPTIONS: dict[str, tuple[options.Option, ...]] = {
    "landscape": (*_BASE, options.TOP, options.PERMUTATIONS, _MODEL, options.TABLE, options.FIGURES, _EXPLAIN),
    "scorecard": (*_BASE, _EXPLAIN),
    "entanglement": (*_BASE, options.FIGURES, _EXPLAIN),
}
"""Name -> options beside those of the form and the warehouse."""
EXAMPLES = {
    "landscape": ("", " --table leak-list --top 100 --csv", " --figures figures"),
    "scorecard": ("", " --markdown"),
    "entanglement": ("", " --figures figures"),
}


def register(app: typer.Typer) -> None:
    """Add the commands to `rhodb analyze`."""
    for name, summary in COMMANDS.items():
        options.add_command(
            app, name, partial(_study, name), (*OPTIONS[name], *options.FORMS, options.DB), summary=summary,
            examples=tuple(f"rhodb analyze {name}{more}" for more in EXAMPLES[name]),
        )  # fmt: skip


def _study(
    name: str,
    *,
    db: str | None,
    explain: int | None,
    table: str | None = None,
    figures: Path | None = None,
    **given: Any,
) -> None:
    form = options.form_of(given)
    result, _ = answer(name, given, db, drawing=figures is not None)
    _show(result, form, table, explain, figures)


def answer(
    name: str, given: Mapping[str, Any], db: str | None, *, drawing: bool = False
) -> "tuple[Tables, LandscapeOptions]":
    """A study's tables for the warehouse as it is: read where they are stored, else computed and stored."""
    from analysis import stored
    from analysis.landscape.load import LandscapeOptions
    from analysis.registry import load_study

    study: Any = load_study(name)
    names = [option.name for option in OPTIONS[name] if option.name in LandscapeOptions.__dataclass_fields__]
    chosen = LandscapeOptions(**{key: given[key] for key in names if given.get(key) is not None})
    return kept(db, lambda wh: (stored.answer_tables(wh, study, chosen, drawing=drawing), chosen))


def _show(result: "Tables", form: str, name: str | None, explain: int | None, figures: Path | None) -> None:
    """Tables to stdout in the form asked for, conclusions below; messages to stderr. CSV holds one table."""
    if figures is not None:
        from analysis.landscape.figures import draw

        for path in draw(result.study, result.drawing, figures):
            note(f"figure: {path}")
    chosen = result.tables if name is None else (result.table(name),)
    if explain is not None:
        from analysis.landscape.result import evidence

        typer.echo(evidence(result, explain))
    elif form == "json":
        emit_json(result.to_json())
    elif form == "csv":
        emit(result.table(name).rows, format="csv")
    elif form == "markdown":
        typer.echo("\n\n".join(_markdown(shown) for shown in chosen))
        typer.echo("\n" + "\n".join(f"- {sentence}" for sentence in result.conclusions))
    else:
        _print(result, chosen)


def _print(result: "Tables", chosen: "tuple[Table, ...]") -> None:
    out = console()
    numbers = {shown.name: number for number, shown in enumerate(result.tables, 1)}
    for shown in chosen:
        rows = _headed(shown)
        title = f"{numbers[shown.name]}. {shown.title} [{shown.name}]"
        out.print(table(rows, list(shown.columns.values()), title=title.replace("[", r"\[")))
        out.print(shown.note + "\n")
    for sentence in result.conclusions:
        out.print(f"- {sentence}")
    out.print(f"Evidence of a table: rhodb analyze {result.study} --explain N")
    for message in result.messages:
        note(f"note: {message}")


def _markdown(shown: "Table") -> str:
    return f"### {shown.title}\n\n{markdown_table(_headed(shown), list(shown.columns.values()))}\n\n{shown.note}"


def _headed(shown: "Table") -> list[dict[str, Any]]:
    """Rows under the headings that people read."""
    return [{heading: row.get(key) for key, heading in shown.columns.items()} for row in shown.rows]
