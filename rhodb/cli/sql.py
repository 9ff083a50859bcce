"""`rhodb sql`: ad hoc SQL, read-only, and the saved queries."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rhodb.cli.lazy import make_app
from rhodb.cli.options import CsvOption, DbOption, JsonOption, MarkdownOption, example, output_format
from rhodb.cli.output import emit, note
from rhodb.errors import InputError

if TYPE_CHECKING:
    from rhodb.adhoc import Answer

app = make_app("Query the warehouse with SQL, read-only.", no_args_is_help=False)


@app.command(
    **example(
        'rhodb sql "SELECT kind, count(*) AS runs FROM runs GROUP BY kind"',
        'rhodb sql "SELECT * FROM v_scores WHERE seed = :seed" -p seed=42 --csv',
        "rhodb sql --file query.sql --limit 0 --json",
        "rhodb sql --saved",
        "rhodb sql --saved condition-means -p metric=rho",
    )
)
def sql(
    text: Annotated[
        str | None,
        typer.Argument(metavar="[SQL]", help="A SELECT; - reads it from standard input; a name with --saved."),
    ] = None,
    *,
    db: DbOption = None,
    file: Annotated[Path | None, typer.Option("--file", "-f", help="Read the SQL from a file.")] = None,
    saved: Annotated[bool, typer.Option("--saved", help="List the saved queries, or run the one named.")] = False,
    param: Annotated[
        list[str] | None, typer.Option("--param", "-p", metavar="NAME=VALUE", help="Value of :NAME in the SQL.")
    ] = None,
    limit: Annotated[int, typer.Option(min=0, help="At most so many rows; 0: all.")] = 1000,
    timeout: Annotated[float, typer.Option(help="Give up after so many seconds.")] = 60.0,
    memory: Annotated[int, typer.Option(min=1, help="Give up beyond so many MiB of memory.")] = 1024,
    json: JsonOption = False,
    csv: CsvOption = False,
    markdown: MarkdownOption = False,
    table: Annotated[bool, typer.Option("--table", help="Print a table (the default).")] = False,
) -> None:
    """Run one SELECT and print its rows. Statistical aggregates: stddev, variance, median, quantile(x, share),
    corr(x, y), spearman(x, y), cohens_d(x, group)."""
    form = output_format(json=json, csv=csv, markdown=markdown)
    if table and form != "table":
        raise typer.BadParameter(f"choose one output format, not --table and --{form}")
    if saved and text is None:
        from rhodb.queries import saved_queries

        emit([{"name": query.name, "shows": query.summary} for query in saved_queries()], format=form)
        return
    query, params = _query(text, file, saved=saved), _params(param or [])
    if saved:
        from rhodb.adhoc import parameter_value
        from rhodb.queries import saved as saved_query

        assert text is not None
        params = {name: parameter_value(value) for name, value in saved_query(text).defaults.items()} | params
    from rhodb.adhoc import ask
    from rhodb.location import locate

    answer = ask(locate(db), query, params, limit=limit or None, timeout_s=timeout, memory_mib=memory)
    _print(answer, form, limit)


def _query(text: str | None, file: Path | None, *, saved: bool) -> str:
    """The SQL: an argument, a file, standard input or a saved query."""
    if file is not None:
        if text is not None:
            raise InputError("give either SQL or --file, not both")
        try:
            return file.read_text(encoding="utf-8")
        except OSError as error:
            raise InputError(f"{file} cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise InputError(f"{file} is not UTF-8 text: save it as UTF-8") from error
    if saved:
        from rhodb.queries import saved as saved_query

        return saved_query(text or "").sql
    if text == "-" or (text is None and not sys.stdin.isatty()):
        text = sys.stdin.read()
    if text is None or not text.strip():
        raise InputError("give a SELECT, --file or --saved; `rhodb schema` lists tables and columns")
    return text


def _params(given: list[str]) -> dict[str, Any]:
    from rhodb.adhoc import parameter_value

    params = {}
    for entry in given:
        name, equals, value = entry.partition("=")
        if not equals or not name.isidentifier():
            raise InputError(f"a parameter is given as NAME=VALUE, got {entry!r}")
        params[name] = parameter_value(value)
    return params


def _print(answer: "Answer", form: str, limit: int) -> None:
    rows = [dict(zip(answer.columns, map(_shown, row), strict=True)) for row in answer.rows]
    emit(rows, format=form, columns=answer.columns)
    if answer.more:
        note(f"only the first {limit} rows are shown: --limit 0 shows all")


def _shown(value: Any) -> Any:
    """Bytes as SQL writes them, infinities as text: JSON has neither."""
    if isinstance(value, bytes):
        return f"x'{value.hex()}'"
    if isinstance(value, float) and value - value != 0:
        return str(value)
    return value
