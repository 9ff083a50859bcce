"""A report as one self-contained HTML page: no request leaves it, and without JavaScript it is still readable.

Numbers are links that carry their identity; the addresses stand once, in the embedded JSON. The chart library is
carried compressed and unpacked by the page when the first chart comes into view.
"""

import base64
import gzip
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from analysis.report.charts import palette, specification
from analysis.report.document import Cell, Chart, Column, Number, Report, Row, Table

FILTERS: Final = ("model", "split", "metric")
TEMPLATES: Final = Path(__file__).parent / "templates"
SCRIPTS: Final = ("page.js", "filters.js", "tables.js", "addresses.js", "charts.js")
STYLES: Final = ("base.css", "parts.css", "print.css")
_CODE: Final = re.compile(r"`([^`]+)`")


def render(report: Report) -> str:
    """The page. Everything that it needs is inside: style, scripts, figures, data."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"prose": prose, "cell": cell_html, "tabular": tabular, "png": _base64, "slug": _slug}
    charts = {place: specification(part) for place, part in _charts(report) if part.rows}
    light, dark = palette()
    return environment.get_template("page.html").render(
        report=report,
        filters={name: _values(report, name) for name in FILTERS},
        style=Markup("\n".join(_asset(name) for name in STYLES)),
        light=light,
        dark=dark,
        script=Markup("\n".join(_asset(name) for name in SCRIPTS)),
        data=_embedded(_without_pictures(report.to_json())),
        specifications=_embedded(charts),
        library=Markup(chart_library()) if charts else "",
    )


@cache
def chart_library() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, gzip and base64."""
    import vl_convert

    script: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return base64.b64encode(gzip.compress(script.encode(), 9, mtime=0)).decode("ascii")


def prose(text: str) -> Markup:
    """Text with `code` set as code."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(text))))


def cell_html(cell: Cell, place: str, repeated: bool = False) -> Markup:
    """A label as text; what was computed as a link to its address, with its identity. The text is left as it is."""
    if isinstance(cell, str):
        return prose(cell)
    kind = "n" if isinstance(cell, Number) else "s"
    if not cell.address:
        return Markup('<span class="{}" data-cell="{}">{}</span>').format(kind, place, cell.text)
    kind += " r" if repeated else ""  # on paper the address stands beside the first of its row only
    return Markup('<a class="{}" href="#{}" data-cell="{}">{}</a>').format(kind, cell.address, place, cell.text)


@dataclass(frozen=True, kw_only=True)
class TableRow:
    """A row ready to be written: attributes of the `tr`, and each cell's class and content."""

    behavior: str
    verdict: str
    cells: Sequence[tuple[str, Markup]]


@dataclass(frozen=True, kw_only=True)
class Tabular:
    """A table, or the data of a chart as a table."""

    columns: Sequence[Column]
    rows: Iterator[TableRow]


def tabular(part: Table | Chart, place: str) -> Tabular:
    """Both kinds of rows in one shape."""
    if isinstance(part, Table):
        return Tabular(columns=part.columns, rows=(_table_row(part, row, place) for row in part.rows))
    titles = {part.encodings[channel]: title for channel, title in part.titles.items() if channel in part.encodings}
    fields = list(dict.fromkeys([*part.encodings.values(), *(name for row in part.rows for name in row)]))
    fields = [name for name in fields if any(row.get(name) is not None for row in part.rows)]
    columns = [
        Column(key=name, title=titles.get(name, name.replace("_", " ")), numeric=_numeric(part, name))
        for name in fields
    ]  # fmt: skip
    return Tabular(columns=columns, rows=_chart_rows(part, fields, place))


def _table_row(table: Table, row: Row, place: str) -> TableRow:
    cells = []
    before = ""
    for column, cell in zip(table.columns, row.cells, strict=True):
        address = "" if isinstance(cell, str) else cell.address
        content = cell_html(cell, f"{place}/{row.key}/{column.key}", address == before)
        before = address or before
        text = cell if isinstance(cell, str) else cell.text
        kind = "num" if column.numeric else ""
        if row.verdict and text == row.verdict:
            kind = "verdict"
        elif row.behavior and text == row.behavior:
            kind = "behavior"
        cells.append((kind, content))
    return TableRow(behavior=_slug(row.behavior or ""), verdict=_slug(row.verdict or ""), cells=cells)


def _chart_rows(chart: Chart, fields: Sequence[str], place: str) -> Iterator[TableRow]:
    for i, (row, address) in enumerate(zip_longest(chart.rows, chart.addresses, fillvalue=""), 1):
        assert not isinstance(row, str)
        cells: list[tuple[str, Markup]] = []
        for name in fields:
            value = row.get(name)
            if isinstance(value, int | float) and not isinstance(value, bool):
                number = Number(value=value, text=f"{value:.6g}", address=address)
                cells.append(("num", cell_html(number, f"{place}/{i}/{name}", bool(cells))))
            else:
                cells.append(("", escape("" if value is None else value)))
        yield TableRow(behavior="", verdict="", cells=cells)


def _numeric(chart: Chart, field: str) -> bool:
    return all(isinstance(row.get(field), int | float | None) for row in chart.rows)


def _charts(report: Report) -> Iterator[tuple[str, Chart]]:
    for section in report.sections:
        for part in section.parts:
            if isinstance(part, Chart):
                yield f"{section.key}/{part.key}", part


def _values(report: Report, name: str) -> list[str]:
    """The values of a filter field in tables and charts, sorted."""
    found: set[str] = set()
    for section in report.sections:
        for part in section.parts:
            if isinstance(part, Table):
                found |= {value for row in part.rows if (value := getattr(row, name)) is not None}
            elif isinstance(part, Chart):
                found |= {str(row[name]) for row in part.rows if row.get(name) is not None}
    return sorted(found)


def _without_pictures(document: dict[str, Any]) -> dict[str, Any]:
    """The page shows the pictures already; its JSON need not repeat them."""
    for section in document["sections"]:
        for part in section.get("parts", ()):
            if part["type"] == "figure":
                part["png"] = ""
    return document


def _embedded(value: Any) -> Markup:
    """JSON that cannot end the script element it stands in."""
    return Markup(json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c"))


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _slug(name: str) -> str:
    return name.replace(" ", "-")


def _asset(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")
