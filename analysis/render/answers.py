"""An `Answer` as tables, JSON, CSV, Markdown, and the evidence of one of its quantities."""

import csv
import io
import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from analysis.answers import Answer, Quantity
from rhodb.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

DASH = "—"
HEADERS = ("#", "quantity", "value", "interval", "MC error", "published", "n", "remark")


def tables(answer: Answer) -> "list[Table]":
    """One table a group, without details."""
    from rich import box
    from rich.table import Table

    found: list[Table] = []
    group = None
    for number, quantity in enumerate(answer.quantities, 1):
        if quantity.detail:
            continue
        if quantity.group != group:
            group = quantity.group
            found.append(Table(title=group, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False))
            for header in HEADERS:
                found[-1].add_column(header, justify="right" if header == "#" else "left", overflow="fold")
        style = "yellow" if quantity.agrees is False else None
        found[-1].add_row(*cells(number, quantity), style=style)
    return found


def cells(number: int, quantity: Quantity) -> tuple[str, ...]:
    """The quantity's texts, in the order of HEADERS."""
    name = f"{quantity.name} ({quantity.about})" if quantity.about else quantity.name
    return (
        str(number), name, _number(quantity.value), interval(quantity), _number(quantity.mc_error, 2),
        published(quantity), DASH if quantity.n is None else str(quantity.n), quantity.note,
    )  # fmt: skip


def interval(quantity: Quantity) -> str:
    """The interval or what takes its place, with its level where it is one of confidence."""
    if quantity.kind == "whole line" and quantity.level is not None:
        return "any value"
    if quantity.low is None and quantity.high is None:
        return DASH
    if any(end is not None and math.isnan(end) for end in (quantity.low, quantity.high)):
        return DASH
    low = "-∞" if quantity.low is None else _number(quantity.low)
    high = "∞" if quantity.high is None else _number(quantity.high)
    text = f"[{low}, {high}]" if quantity.kind == "bounded" else f"outside ({low}, {high})"
    return text if quantity.level is None else f"{text} {100 * quantity.level:g} %"


def published(quantity: Quantity) -> str:
    """The printed figure, and whether the value rounds to it."""
    if quantity.published is None:
        return DASH
    return f"{quantity.published.value:g} {'=' if quantity.agrees else '≠'}"


def _number(value: float | None, digits: int = 4) -> str:
    return DASH if value is None else f"{value:.{digits}g}"


def to_json(answer: Answer) -> str:
    """Everything, at full precision, inputs next to outputs."""
    return json.dumps(answer.to_json(), indent=2, ensure_ascii=False, allow_nan=False)


def to_csv(answer: Answer) -> str:
    """One line a quantity, at full precision; missing numbers are empty."""
    columns = ("number", "group", "name", "about", "value", "low", "high", "kind", "level", "unit", "n", "mc_error")
    more = ("published", "agrees", "method", "note")
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*columns, *more])
    for number, quantity in enumerate(answer.quantities, 1):
        row = [number, *(getattr(quantity, column) for column in columns[1:])]
        printed = None if quantity.published is None else quantity.published.value
        writer.writerow([*row, printed, quantity.agrees, quantity.method, quantity.note])
    return out.getvalue().rstrip("\n")


def to_markdown(answer: Answer) -> str:
    """A section a group, with conclusions, caption and messages."""
    lines: list[str] = []
    group = None
    for number, quantity in enumerate(answer.quantities, 1):
        if quantity.group != group:
            group = quantity.group
            lines += ["", f"### {group}", "", _line(HEADERS), _line(("---",) * len(HEADERS))]
        lines.append(_line(tuple(cell.replace("|", "\\|") for cell in cells(number, quantity))))
    told = [f"- {sentence}" for sentence in (*answer.conclusions, *answer.messages)]
    return "\n".join([*lines, "", *told, "", answer.caption]).strip()


def _line(texts: tuple[str, ...]) -> str:
    return "| " + " | ".join(texts) + " |"


def evidence(answer: Answer, number: int) -> str:
    """The way back from quantity `number` to its rows; 0 prints the query of the whole study."""
    if number == 0:
        return f"-- Query of study {answer.study}, inputs {answer.inputs}:\n{answer.query.inlined()};"
    if not 0 < number <= len(answer.quantities):
        raise InputError(f"--explain {number}: there is no such quantity; there are 1 to {len(answer.quantities)}")
    quantity = answer.quantities[number - 1]
    given = {str(row.get("key", row.get("inputs"))): row for row in answer.given}
    lines = [
        f"Quantity {number}. {quantity.group}: {quantity.name}" + (f" ({quantity.about})" if quantity.about else ""),
        f"Value: {_number(quantity.value, 8)} {quantity.unit}".rstrip(),
        f"Interval: {interval(quantity)}",
        f"Published: {published(quantity)}" + (f" ({quantity.published.key})" if quantity.published else ""),
        f"Method: {quantity.method or DASH}",
        f"Reference: {quantity.reference or DASH}",
        *([f"Note: {quantity.note}"] if quantity.note else []),
        f"Inputs ({answer.inputs}):",
        *(f"  {_input(key, given)}" for key in dict.fromkeys(quantity.inputs)),
    ]
    if quantity.inputs:
        lines += ["SQL (returns exactly these rows):", f"{answer.narrow(quantity.inputs).inlined()};"]
    return "\n".join(lines)


def _input(key: str, given: Mapping[str, Mapping[str, Any]]) -> str:
    row = given.get(key)
    return key if row is None else f"{key} = {row['value']:g} ({row['source']}, {row['section']})"
