"""Columns that tell nothing: one word in all rows goes into the caption, a column of dashes goes altogether."""

from dataclasses import replace

from analysis.report.context import DASH
from analysis.report.document import Table


def slim(table: Table) -> Table:
    """The table without label columns that are the same in every row, which the caption then states once.

    A table of one row keeps its labels and loses only what is empty.
    """
    kept, told = [], []
    for at, column in enumerate(table.columns):
        found = {row.cells[at] for row in table.rows if isinstance(row.cells[at], str)}
        same = len(found) == 1 and all(isinstance(row.cells[at], str) for row in table.rows)
        only = str(next(iter(found))) if same else ""
        if not same or (only not in ("", DASH) and len(table.rows) == 1):
            kept.append(at)
        elif only not in ("", DASH):
            told.append(f"{column.title} {only}")
    if len(kept) == len(table.columns) or not kept:
        return table
    return replace(
        table, columns=tuple(table.columns[at] for at in kept),
        rows=tuple(replace(row, cells=tuple(row.cells[at] for at in kept)) for row in table.rows),
        caption=" ".join(filter(None, [table.caption, f"In all rows: {'; '.join(told)}." if told else ""])),
    )  # fmt: skip
