"""Quantities of a study (γ*, λ*, probe noise) as parts of a report: conclusions, tables, the study's own figures."""

import re
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from analysis.answers import Answer, Quantity
from analysis.figures import png_only
from analysis.render import answers as rendered
from analysis.report.context import Context, number, unique
from analysis.report.document import Cell, Column, Figure, Part, Row, Sentence, Table, Text

COLUMNS = (
    Column(key="quantity", title="quantity"),
    Column(key="value", title="value", numeric=True),
    Column(key="interval", title="interval", help="with its nominal coverage where it is one of confidence"),
    Column(key="mc_error", title="MC error", numeric=True, help="Monte Carlo standard error of the value"),
    Column(key="published", title="published", help="= rounds to the printed figure, ≠ does not"),
    Column(key="n", title="n", numeric=True),
    Column(key="remark", title="remark"),
)


def parts(ctx: Context, answer: Answer, *, detail: bool = False) -> list[Part]:
    """Conclusions, one table a group of quantities, notes, figures."""
    whole = ctx.book.address(
        "quantity", answer.query, pick=f"conclusions of study {answer.study}", command=ctx.command(answer.study, 0)
    )
    source = "this warehouse's runs" if answer.inputs == "db" else "the published figures of the lab's notes"
    told: list[Cell] = [f"Inputs: {source}."]
    told += [Sentence(text=sentence, address=whole) for sentence in answer.conclusions]
    made: list[Part] = [Text(key="told", items=tuple(told), listed=True)]
    groups: dict[str, list[tuple[int, Quantity]]] = {}
    for at, quantity in enumerate(answer.quantities, 1):
        if detail or not quantity.detail:
            groups.setdefault(quantity.group, []).append((at, quantity))
    for i, (group, members) in enumerate(groups.items(), 1):
        made.append(_table(ctx, answer, group, members, caption=answer.caption if i == len(groups) else ""))
    made += figures(answer.study, answer.drawing, answer.caption)
    notes = tuple(Sentence(text=message, address=whole) for message in answer.messages)
    return made + ([Text(key="notes", items=notes, listed=True)] if notes else [])


def _table(ctx: Context, answer: Answer, group: str, members: list[tuple[int, Quantity]], *, caption: str) -> Table:
    names = unique([f"{q.name}|{q.about}" for _, q in members])
    rows = tuple(_row(ctx, answer, at, q, name) for name, (at, q) in zip(names, members, strict=True))
    return Table(key=_slug(group), title=group, columns=COLUMNS, rows=rows, caption=caption)


def _row(ctx: Context, answer: Answer, at: int, quantity: Quantity, name: str) -> Row:
    query = answer.narrow(tuple(dict.fromkeys(quantity.inputs))) if quantity.inputs else answer.query
    address = ctx.book.address(
        "quantity", query, runs=quantity.inputs, pick=f"study {answer.study}, quantity {at}: {quantity.name}",
        command=ctx.command(answer.study, at), method=quantity.method, reference=quantity.reference,
    )  # fmt: skip
    _, title, value, interval, error, published, n, note = rendered.cells(at, quantity)
    cells: tuple[Cell, ...] = (
        title,
        number(quantity.value, address, text=f"{value} {quantity.unit}".strip()),
        Sentence(text=interval, address=address) if interval != rendered.DASH else interval,
        number(quantity.mc_error, address, text=error),
        Sentence(text=published, address=address) if quantity.published else published,
        number(quantity.n, address, text=n),
        note,
    )
    return Row(key=name, cells=cells)


def _slug(title: str) -> str:
    """A key without spaces and slashes."""
    return "-".join(re.findall(r"[\w.*]+", title))


def figures(study: str, drawing: Any, caption: str) -> list[Figure]:
    """What the study draws by itself. Its files hold no date, so that the same numbers give the same bytes."""
    if drawing is None:
        return []
    module = import_module(f"analysis.{study.replace('-', '_')}.figures")
    return drawn(lambda folder: module.draw(drawing, folder), study, caption)


def drawn(draw: Any, study: str, caption: str) -> list[Figure]:
    """The PNG files that `draw(folder)` writes."""
    with TemporaryDirectory() as folder, png_only():
        paths = [path for path in draw(Path(folder)) if path.suffix == ".png"]
        return [
            Figure(
                key=path.stem, title=path.stem.replace("_", " ").replace("-", " "), png=path.read_bytes(),
                alt=f"Figure {path.stem.replace('_', ' ')} of study {study}; its numbers stand in the tables above.",
                caption=caption if path == paths[0] else "",
            )
            for path in paths
        ]  # fmt: skip
