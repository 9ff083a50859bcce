"""Printing rows in the format asked for. Nothing here computes; results go to stdout, messages to stderr."""

import csv
import json
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import typer

Row = Mapping[str, Any]

SILENCE_S = 0.6
"""No command is silent for much longer than this, nor than a second with what it takes to start."""
PIPE_WIDTH = 200
"""Characters of a table's line where nobody's terminal limits it."""


def emit(rows: Sequence[Row], *, format: str = "table", columns: Sequence[str] | None = None) -> None:  # noqa: A002
    """Print rows as `table`, `json`, `csv` or `markdown`. `columns` fixes which and in what order."""
    columns = list(columns if columns is not None else rows[0] if rows else [])
    if format == "json":
        emit_json([{column: row.get(column) for column in columns} for row in rows])
    elif format == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([[row.get(column) for column in columns] for row in rows])
    elif format == "markdown":
        typer.echo(markdown_table(rows, columns))
    else:
        _print_table(rows, columns)


def emit_json(value: Any) -> None:
    """Print a value as indented JSON; NaN is refused, since a missing value must be null or absent."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False, default=str))


def markdown_table(rows: Sequence[Row], columns: Sequence[str]) -> str:
    """A GitHub-style Markdown table of the rows."""
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    cells = ([cell(row.get(column)).replace("|", "\\|") for column in columns] for row in rows)
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in cells])


def cell(value: Any) -> str:
    """One value as a person reads it: four significant digits, an em dash where there is none."""
    if value is None:
        return "—"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)


def note(message: str) -> None:
    """A message beside the results (stderr), so that stdout stays clean for pipes."""
    typer.echo(message, err=True)


@contextmanager
def doing(what: str) -> Iterator[None]:
    """Say what is being done (stderr) where the block takes long enough for a person to wonder."""
    timer = threading.Timer(SILENCE_S, note, args=(f"{what} ...",))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def console(*, stderr: bool = False) -> Any:
    """A rich console. Colours only on a terminal and without NO_COLOR; wide enough not to fold in a pipe."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else PIPE_WIDTH
    # markup: an error such as `[metal::malloc] ...` is a text, not a style.
    return Console(file=stream, width=width, highlight=False, markup=False, soft_wrap=not stream.isatty())


def table(rows: Sequence[Row], columns: Sequence[str], *, title: str | None = None) -> Any:
    """A rich table; numbers are right-aligned."""
    from rich import box
    from rich.table import Table

    out = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        numeric = any(
            isinstance(row.get(column), int | float) and not isinstance(row.get(column), bool) for row in rows
        )
        out.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        out.add_row(*(cell(row.get(column)) for column in columns))
    return out


def _print_table(rows: Sequence[Row], columns: Sequence[str]) -> None:
    if not rows:
        note("no rows")
        return
    console().print(table(rows, columns))
