"""Options that many commands share, each declared once."""

from typing import Annotated, Any

import typer


def _db_from_root(ctx: typer.Context, value: str | None) -> str | None:
    """`--db` may stand before or after the command; the one nearest to the command wins."""
    return value if value is not None else ctx.find_root().params.get("db")


def _format_of(json: bool, csv: bool, markdown: bool) -> str:
    chosen = [name for name, on in (("json", json), ("csv", csv), ("markdown", markdown)) if on]
    if len(chosen) > 1:
        raise typer.BadParameter(f"choose one output format, not {' and '.join('--' + c for c in chosen)}")
    return chosen[0] if chosen else "table"


DbOption = Annotated[
    str | None,
    typer.Option(
        "--db",
        metavar="PATH_OR_URL",
        callback=_db_from_root,
        help="Warehouse to use  [default: $RHODB_DB, else results/master.db]",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
CsvOption = Annotated[bool, typer.Option("--csv", help="Print CSV.")]
MarkdownOption = Annotated[bool, typer.Option("--markdown", help="Print a Markdown table.")]


def output_format(*, json: bool = False, csv: bool = False, markdown: bool = False) -> str:
    """The one output format that the flags ask for: `json`, `csv`, `markdown` or `table`."""
    return _format_of(json, csv, markdown)


def example(*lines: str) -> dict[str, Any]:
    """Keyword for `app.command(...)`: example lines printed below the help of a command."""
    return {"epilog": "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)}
