"""The notes' quantitative claims with their verdicts, from `analysis.claims`."""

from collections import Counter
from typing import Any

from analysis.answers import published_query
from analysis.report.context import DASH, Context, number
from analysis.report.document import Cell, Column, Row, Section, Sentence, Table, Text

COLUMNS = (
    Column(key="section", title="section"),
    Column(key="claim", title="claim"),
    Column(key="printed", title="printed"),
    Column(key="recomputed", title="recomputed", numeric=True),
    Column(key="verdict", title="verdict"),
    Column(key="text", title="why"),
)


def claims(ctx: Context, intro: str) -> Section:
    """Every claim with its verdict; how many there are of each."""
    found = ctx.verdicts()
    rows = tuple(_row(ctx, verdict) for verdict in found)
    counts = Counter(str(verdict.verdict) for verdict in found)
    whole = ctx.book.address("count", None, pick="verdicts of all claims", command="rhodb claims verify")
    summary = Sentence(
        text=f"{len(found)} claims: " + ", ".join(f"{n} {kind}" for kind, n in counts.most_common()) + ".",
        address=whole,
    )
    table = Table(key="claims", title="Claims of the notes", columns=COLUMNS, rows=rows,
                  caption="Recomputed by `rhodb claims verify`; --explain ID prints all numbers of one.")  # fmt: skip
    return Section(
        key="claims", title="Claims", intro=intro, parts=(Text(key="told", items=(summary,)), table) if rows else (),
        missing=None if rows else "There are no claims: `rhodb claims add` writes one.",
    )  # fmt: skip


def _row(ctx: Context, verdict: Any) -> Row:
    keys = tuple(key for key in verdict.inputs if "/" in key)
    own = verdict.own_runs
    address = ctx.book.address(
        "quantity", published_query(keys=keys) if keys else None, runs=getattr(own, "runs", ()) if own else (),
        pick=f"claim {verdict.id}, checker {verdict.checker}", command=f"rhodb claims verify --explain {verdict.id}",
        method=verdict.method, reference=verdict.reference,
    )  # fmt: skip
    text = " ".join([verdict.text, *verdict.objections])
    cells: tuple[Cell, ...] = (
        verdict.section,
        f"{verdict.subject}: {verdict.statistic}",
        f"{verdict.printed} {verdict.unit}".strip(),
        number(verdict.recomputed, address, digits=4),
        Sentence(text=str(verdict.verdict), address=address),
        Sentence(text=text, address=address) if text else DASH,
    )
    return Row(key=verdict.id, cells=cells)
