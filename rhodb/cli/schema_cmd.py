"""`rhodb schema`: every table and column with its meaning."""

from typing import Annotated

import typer

from rhodb.cli.lazy import make_app
from rhodb.cli.options import CsvOption, JsonOption, MarkdownOption, example, output_format
from rhodb.cli.output import emit

app = make_app("Print every table and column with its meaning.", no_args_is_help=False)


@app.command(**example("rhodb schema", "rhodb schema behavior_scores", "rhodb schema runs --json"))
def schema(
    table: Annotated[str | None, typer.Argument(metavar="[TABLE]", help="Table or view to describe.")] = None,
    json: JsonOption = False,
    csv: CsvOption = False,
    markdown: MarkdownOption = False,
) -> None:
    """List tables and views, or the columns of one, with their meaning."""
    from rhodb.describe import columns, tables

    rows = tables() if table is None else columns(table)
    emit(rows, format=output_format(json=json, csv=csv, markdown=markdown))
