"""Tables of the probe landscape as parts of a report."""

from collections.abc import Mapping
from typing import Any

from analysis.landscape.result import Table as StudyTable
from analysis.landscape.result import Tables
from analysis.report.context import DASH, Context, number, unique
from analysis.report.document import Cell, Chart, Column, Part, Row, Sentence, Table, Text
from analysis.report.sections.answers import drawn
from rhodb.vocabulary import BEHAVIORS

MOST_ROWS = 100


def parts(ctx: Context, found: Tables, *, figures: bool = True) -> list[Part]:
    """Conclusions, the study's tables, its figures."""
    whole = ctx.book.address(
        "count", found.tables[0].queries[0], runs=found.tables[0].runs, pick=f"conclusions of study {found.study}",
        command=ctx.command(found.study, 0), method=found.tables[0].method,
    )  # fmt: skip
    told: list[Cell] = [Sentence(text=sentence, address=whole) for sentence in (*found.conclusions, *found.messages)]
    made: list[Part] = [Text(key="told", items=tuple(told), listed=True)]
    for at, table in enumerate(found.tables, 1):
        made.append(_table(ctx, found, at, table))
    if figures:
        from analysis.landscape.figures import draw  # matplotlib, which other sections do without

        made += drawn(lambda folder: draw(found.study, found.drawing, folder), found.study, "")
    return made


def _table(ctx: Context, found: Tables, at: int, table: StudyTable) -> Table:
    address = ctx.book.address(
        "count", table.queries[0], runs=table.runs, pick=f"study {found.study}, table {table.name}",
        command=ctx.command(found.study, at), method=table.method,
    )  # fmt: skip
    shown = table.rows[:MOST_ROWS]
    # A row is named by its labels and, where it has none (a threshold, a seed), by its first column.
    first = next(iter(table.columns))
    names = unique(["|".join(v for c in table.columns if isinstance(v := row.get(c), str)) or str(row.get(first))
                    for row in shown])  # fmt: skip
    rows = tuple(
        Row(
            key=name,
            cells=tuple(_cell(row.get(column), address) for column in table.columns),
            behavior=row["behavior"] if row.get("behavior") in BEHAVIORS else None,
        )
        for name, row in zip(names, shown, strict=True)
    )
    columns = tuple(
        Column(key=key, title=title, numeric=_is_numeric(key, shown)) for key, title in table.columns.items()
    )
    more = f" The first {MOST_ROWS} of {len(table.rows)} rows." if len(table.rows) > MOST_ROWS else ""
    return Table(key=table.name, title=table.title, columns=columns, rows=rows, caption=table.note + more)


def _is_numeric(key: str, rows: tuple[Mapping[str, Any], ...]) -> bool:
    return any(isinstance(row.get(key), int | float) and not isinstance(row.get(key), bool) for row in rows)


def _cell(value: Any, address: str) -> Cell:
    if value is None:
        return DASH
    if isinstance(value, bool):
        return Sentence(text="yes" if value else "no", address=address)
    return value if isinstance(value, str) else number(value, address)


def entanglement_map(ctx: Context, found: Tables) -> Chart | None:
    """Behaviors by behaviors: texts in shared clusters."""
    table = found.tables[0]
    if not table.rows:
        return None
    address = ctx.book.address(
        "count", table.queries[0], runs=table.runs, pick=f"study {found.study}, table {table.name}",
        command=ctx.command(found.study, 1), method=table.method,
    )  # fmt: skip
    rows = [
        {"a": x, "b": y, "texts": row["texts"]} for row in table.rows for x, y in _both(str(row["a"]), str(row["b"]))
    ]
    return Chart(
        key="map", title="Texts in shared cross-behavior clusters", kind="heatmap", rows=tuple(rows),
        encodings={"x": "a", "y": "b", "value": "texts"}, titles={"x": "", "y": "", "value": "texts"},
        addresses=(address,) * len(rows),
    )  # fmt: skip


def _both(a: str, b: str) -> tuple[tuple[str, str], tuple[str, str]]:
    return (a, b), (b, a)
