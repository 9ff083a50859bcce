"""What a report *is*: sections of texts, tables, charts and figures, and the address of every number in them.

Nothing here knows HTML or Markdown. A report turns into JSON and back without loss; the page embeds that JSON and the
Markdown has it beside it, so that a saved report can be verified without anything else.
"""

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Scalar = str | int | float | bool | None
ChartKind = Literal["dose", "heatmap", "forest", "bars", "points", "line"]
FORMAT = "rhodb report 1"
"""Marks the JSON, and its version."""


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where numbers come from and how they were made; the same for all numbers of one finding or row."""

    kind: Literal["finding", "quantity", "row", "count"]
    """Of a study's finding, of a study's quantity, of a row of a query, or counted from the rows."""
    query: str | None
    """Key in `Report.queries`; None where no row of the warehouse is behind it."""
    narrow: str = ""
    """SQL condition that cuts the query's rows down to those behind the numbers; see `Report.sql`."""
    pick: str = ""
    """Which row, column or statistic of them, in words."""
    command: str = ""
    """The command that prints the same evidence."""
    runs: tuple[str, ...] = ()
    """UUIDs of the runs behind the numbers, at most `addresses.SHOWN_RUNS`."""
    run_count: int = 0
    """How many runs there are."""
    configs: tuple[str, ...] = ()
    """Hashes of their configurations, at most `addresses.SHOWN_RUNS`."""
    versions: tuple[str, ...] = ()
    """Keys in `Report.versions`: the packages the runs were made with."""
    method: str = ""
    reference: str = ""


@dataclass(frozen=True, kw_only=True)
class Number:
    """A number as printed, and at full precision."""

    value: float
    text: str
    """May hold more than the number, e.g. its interval; what is in it belongs to the same address."""
    address: str
    """Key in `Report.addresses`."""


@dataclass(frozen=True, kw_only=True)
class Sentence:
    """A computed text with numbers (or a verdict) in it, compared as a whole."""

    text: str
    address: str


Cell = str | Number | Sentence
"""A plain string is a label: it states nothing that was computed."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of a table."""

    key: str
    title: str
    numeric: bool = False
    """Right-aligned, and sorted by `Number.value`."""
    help: str = ""
    """What it means: unit, method."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of a table. The filter fields are None where they do not apply (a filter then keeps the row)."""

    key: str
    """The same for the same thing in every report; unique in its table."""
    cells: tuple[Cell, ...]
    model: str | None = None
    split: str | None = None
    metric: str | None = None
    behavior: str | None = None
    verdict: str | None = None
    """For colouring: supported, suggestive, not supported, artefact, degenerate, not enough data."""


@dataclass(frozen=True, kw_only=True)
class Text:
    """Paragraphs, or the items of a list."""

    key: str
    items: tuple[Cell, ...]
    listed: bool = False
    type: Literal["text"] = "text"


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of cells, as many as columns."""

    key: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    caption: str = ""
    """How to read it: unit, split, intervals, correction."""
    type: Literal["table"] = "table"


@dataclass(frozen=True, kw_only=True)
class Chart:
    """Tidy rows to be drawn: by Vega-Lite on the page, by matplotlib for Markdown.

    Encodings name fields of the rows: x, y, and where they apply low and high (interval of y, or of x in a forest),
    colour, facet, value (of a heat map), shape. Rows may hold model, split, metric and behavior for the filters.
    """

    key: str
    title: str
    kind: ChartKind
    rows: tuple[Mapping[str, Scalar], ...]
    encodings: Mapping[str, str]
    titles: Mapping[str, str] = field(default_factory=dict)
    """Axis and legend titles, with units, by encoding."""
    addresses: tuple[str, ...] = ()
    """One a row, or none at all."""
    caption: str = ""
    type: Literal["chart"] = "chart"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A figure that a study draws by itself."""

    key: str
    title: str
    png: bytes
    alt: str
    """What is to be seen, for those who cannot see it."""
    caption: str = ""
    type: Literal["figure"] = "figure"


@dataclass(frozen=True, kw_only=True)
class Commands:
    """Command lines, ready to be pasted."""

    key: str
    title: str
    lines: tuple[str, ...]
    type: Literal["commands"] = "commands"


Part = Text | Table | Chart | Figure | Commands


@dataclass(frozen=True, kw_only=True)
class Section:
    """One heading of the notebook."""

    key: str
    title: str
    intro: str
    """The question it answers, and how to read the answer."""
    parts: tuple[Part, ...] = ()
    missing: str | None = None
    """Without data: what to run."""


@dataclass(frozen=True, kw_only=True)
class SavedQuery:
    """A SELECT with named parameters, and the same with the values written in, ready for `rhodb sql`."""

    sql: str
    parameters: Mapping[str, Scalar]
    ready: str


@dataclass(frozen=True, kw_only=True)
class Report:
    """A whole report. `created` is the only thing that differs between two reports of one warehouse."""

    title: str
    created: str
    """ISO 8601, UTC, to the second."""
    rhodb_version: str
    warehouse: Mapping[str, Scalar]
    """Name, schema revision, counts of runs by state, first and last end of a run."""
    options: Mapping[str, Any]
    """model, split, metric, where, sections: what `--verify` builds anew with."""
    sections: tuple[Section, ...]
    addresses: Mapping[str, Address]
    queries: Mapping[str, SavedQuery]
    versions: Mapping[str, Mapping[str, str]]
    """Package versions of the runs, one entry a distinct set."""

    def sql(self, address: str) -> str:
        """The SELECT that returns the rows behind an address, ready for `rhodb sql`; empty where there is none."""
        found = self.addresses[address]
        if found.query is None:
            return ""
        ready = self.queries[found.query].ready
        return f"SELECT * FROM (\n{ready}\n) AS looked WHERE {found.narrow}" if found.narrow else ready

    def cells(self) -> Iterator[tuple[str, Number | Sentence]]:
        """Every computed cell with its identity, SECTION/PART/ROW/COLUMN, in reading order."""
        for section in self.sections:
            for part in section.parts:
                yield from computed(f"{section.key}/{part.key}", part)

    def to_json(self) -> dict[str, Any]:
        """Plain dicts and lists."""
        return {"format": FORMAT, **_plain(self)}


def computed(place: str, part: Part) -> Iterator[tuple[str, Number | Sentence]]:
    """The computed cells of a part; those of a chart are the numbers of its rows."""
    if isinstance(part, Text):
        for i, item in enumerate(part.items, 1):
            if not isinstance(item, str):
                yield f"{place}/{i}", item
    elif isinstance(part, Table):
        for row in part.rows:
            for column, cell in zip(part.columns, row.cells, strict=True):
                if not isinstance(cell, str):
                    yield f"{place}/{row.key}/{column.key}", cell
    elif isinstance(part, Chart):
        for i, (data, address) in enumerate(zip(part.rows, part.addresses or [""] * len(part.rows), strict=True), 1):
            for name, value in data.items():
                if (number := chart_number(value, address)) is not None:
                    yield f"{place}/{i}/{name}", number


def chart_number(value: Scalar, address: str) -> Number | None:
    """A value of a chart's row as a computed cell; None for what is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return Number(value=value, text=f"{value:.6g}", address=address)


def from_json(document: Mapping[str, Any]) -> Report:
    """The inverse of `Report.to_json`. Raises ValueError for anything else."""
    if document.get("format") != FORMAT:
        raise ValueError(f"not a report of the format {FORMAT!r}")
    known = {key: value for key, value in document.items() if key != "format"}
    try:
        return Report(
            **{
                **known,
                "sections": tuple(_section(entry) for entry in known["sections"]),
                "addresses": {key: Address(**_tuples(entry)) for key, entry in known["addresses"].items()},
                "queries": {key: SavedQuery(**entry) for key, entry in known["queries"].items()},
            }
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"the report's data are damaged: {error}") from error


def _section(entry: Mapping[str, Any]) -> Section:
    return Section(**{**entry, "parts": tuple(_part(part) for part in entry.get("parts", ()))})


def _part(entry: Mapping[str, Any]) -> Part:
    kind = entry["type"]
    if kind == "text":
        return Text(**{**entry, "items": tuple(_cell(item) for item in entry["items"])})
    if kind == "table":
        columns = tuple(Column(**column) for column in entry["columns"])
        rows = tuple(Row(**{**row, "cells": tuple(_cell(cell) for cell in row["cells"])}) for row in entry["rows"])
        return Table(**{**entry, "columns": columns, "rows": rows})
    if kind == "chart":
        return Chart(**_tuples(entry))
    if kind == "figure":
        return Figure(**{**entry, "png": base64.b64decode(entry["png"])})
    return Commands(**_tuples(entry))


def _cell(entry: Any) -> Cell:
    if isinstance(entry, str):
        return entry
    return Number(**entry) if "value" in entry else Sentence(**entry)


def _tuples(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}


def _plain(value: Any) -> Any:
    """Dataclasses as dicts, tuples as lists, bytes as base64."""
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    # What hangs on a default (an empty filter field, no runs) is left out: it comes back by itself.
    fields = value.__dataclass_fields__
    return {name: _plain(item) for name, item in vars(value).items() if item != fields[name].default or name == "type"}
