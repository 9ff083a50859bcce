"""`rhodb analyze landscape | scorecard | entanglement`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rhodb.cli.options import CsvOption, DbOption, JsonOption, MarkdownOption, example, output_format
from rhodb.cli.output import console, emit, emit_json, markdown_table, note, table

if TYPE_CHECKING:
    from analysis.landscape.load import LandscapeOptions
    from analysis.landscape.result import Table, Tables

ThresholdOption = Annotated[
    float, typer.Option("--threshold", help="Cosine threshold of the main partition, which must have been run.")
]
SeedOption = Annotated[int, typer.Option("--seed", help="Louvain's seed of the main partition.")]
TopOption = Annotated[int, typer.Option("--top", help="Clusters and near-duplicates to list.")]
PermutationsOption = Annotated[
    int, typer.Option("--permutations", help="Random rearrangements of the test of neighbours.")
]
ModelOption = Annotated[str | None, typer.Option("--model", help="Neighbours: only Δ of this language model (key).")]
TableOption = Annotated[str | None, typer.Option("--table", metavar="NAME", help="Only this table.")]
FiguresOption = Annotated[
    Path | None, typer.Option("--figures", metavar="DIR", help="Write the figures (PNG and SVG) into this folder.")
]
ExplainOption = Annotated[
    int | None, typer.Option("--explain", metavar="N", help="Print SQL, runs and method of table N. 0: all queries.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to `rhodb analyze`."""
    examples = ("rhodb analyze landscape", "rhodb analyze landscape --table leak-list --top 100 --csv")
    app.command("landscape", **example(*examples, "rhodb analyze landscape --figures figures"))(landscape)
    app.command("scorecard", **example("rhodb analyze scorecard", "rhodb analyze scorecard --markdown"))(scorecard)
    examples = ("rhodb analyze entanglement", "rhodb analyze entanglement --figures figures")
    app.command("entanglement", **example(*examples))(entanglement)


def landscape(
    *,
    threshold: ThresholdOption = 0.65,
    seed: SeedOption = 42,
    top: TopOption = 15,
    permutations: PermutationsOption = 1_999,
    model: ModelOption = None,
    table: TableOption = None,
    figures: FiguresOption = None,
    explain: ExplainOption = None,
    json: JsonOption = False,
    csv: CsvOption = False,
    markdown: MarkdownOption = False,
    db: DbOption = None,
) -> None:
    """Clusters of similar probes, redundancy and isolation, stability, near-duplicates across the split."""
    form = output_format(json=json, csv=csv, markdown=markdown)
    from analysis.landscape.load import LandscapeOptions

    options = LandscapeOptions(threshold=threshold, seed=seed, top=top, permutations=permutations, model=model)
    _show(_run("landscape", options, db), form, table, explain, figures)


def scorecard(
    *,
    threshold: ThresholdOption = 0.65,
    seed: SeedOption = 42,
    explain: ExplainOption = None,
    json: JsonOption = False,
    csv: CsvOption = False,
    markdown: MarkdownOption = False,
    db: DbOption = None,
) -> None:
    """Diversity of each behavior's probes: redundancy, coverage, partners, probes needed, priority."""
    form = output_format(json=json, csv=csv, markdown=markdown)
    from analysis.landscape.load import LandscapeOptions

    _show(_run("scorecard", LandscapeOptions(threshold=threshold, seed=seed), db), form, None, explain, None)


def entanglement(
    *,
    threshold: ThresholdOption = 0.65,
    seed: SeedOption = 42,
    figures: FiguresOption = None,
    explain: ExplainOption = None,
    json: JsonOption = False,
    csv: CsvOption = False,
    markdown: MarkdownOption = False,
    db: DbOption = None,
) -> None:
    """Behaviors whose probes share clusters: texts in shared cross-behavior clusters for each pair."""
    form = output_format(json=json, csv=csv, markdown=markdown)
    from analysis.landscape.load import LandscapeOptions

    options = LandscapeOptions(threshold=threshold, seed=seed)
    _show(_run("entanglement", options, db), form, None, explain, figures)


def _run(study: str, options: "LandscapeOptions", db: str | None) -> "Tables":
    from analysis.registry import load_study
    from rhodb.warehouse import Warehouse

    loaded: Any = load_study(study)
    with Warehouse.open(db, create=False, read_only=True) as wh:
        result: Tables = loaded.run(wh, options)
        return result


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
