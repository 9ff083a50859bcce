"""A query's rows as a table, column by column."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from analysis.query import Query
from analysis.report.addresses import equals
from analysis.report.context import DASH, Context, number, unique
from analysis.report.document import Cell, Column, Row, Sentence, Table
from analysis.report.sections.columns import slim
from rhodb.vocabulary import BEHAVIORS

MOST_ROWS = 300

RunsOf = Callable[[Mapping[str, Any]], Sequence[str]]


def table(
    ctx: Context,
    query: Query,
    rows: Sequence[Mapping[str, Any]],
    *,
    key: str,
    title: str,
    labels: Mapping[str, str],
    numbers: Mapping[str, str],
    told: Mapping[str, str] | None = None,
    helps: Mapping[str, str] | None = None,
    caption: str = "",
    narrow: Sequence[str] = (),
    runs_of: RunsOf = lambda row: (),
    most: int = MOST_ROWS,
) -> Table:
    """`labels` name a row, `numbers` and `told` (texts) state something; each maps a column to its title.

    A row's address is the query cut down to its labels (and to the columns of `narrow`).
    """
    told = told or {}
    shown = rows[:most]
    names = unique(["|".join("" if row[c] is None else str(row[c]) for c in (*labels, *narrow)) for row in shown])
    made = []
    for name, row in zip(names, shown, strict=True):
        address = ctx.book.address(
            "row", query, runs=runs_of(row), narrow=[equals(column, row[column]) for column in (*labels, *narrow)],
            pick="the row's columns",
        )  # fmt: skip
        cells: list[Cell] = [DASH if row[c] is None else _text(row[c]) for c in labels]
        cells += [number(row[c], address) for c in numbers]
        cells += [DASH if row[c] is None else Sentence(text=_text(row[c]), address=address) for c in told]
        behavior = row.get("behavior")
        made.append(
            Row(
                key=name, cells=tuple(cells), model=row.get("model"), metric=row.get("metric"), split=row.get("split"),
                behavior=behavior if behavior in BEHAVIORS else None,
            )
        )  # fmt: skip
    titles = {**labels, **numbers, **told}
    columns = tuple(
        Column(key=c, title=text, numeric=c in numbers, help=(helps or {}).get(c, "")) for c, text in titles.items()
    )
    more = f" The first {most} of {len(rows)} rows." if len(rows) > most else ""
    return slim(Table(key=key, title=title, columns=columns, rows=tuple(made), caption=(caption + more).strip()))


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
