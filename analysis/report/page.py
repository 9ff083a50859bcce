"""A report as one self-contained HTML page: no request leaves it, and without JavaScript it is still readable.

Numbers are links that carry their identity; the addresses stand once, in the embedded JSON. The chart library is
carried compressed and unpacked by the page when the first chart comes into view.
"""

import base64
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from analysis.report.charts import palette, specification
from analysis.report.document import Cell, Chart, Column, Number, Report, Row, Sentence, Table, chart_number
from analysis.report.drawing import with_palette
from analysis.report.library import chart_library
from analysis.report.page_file import packed_json

FILTERS: Final = ("model", "split", "metric")
COLUMNS: Final = 40
"""Most columns of a table whose numbers are set to the right."""
TEMPLATES: Final = Path(__file__).parent / "templates"
SCRIPTS: Final = ("page.js", "filters.js", "tables.js", "addresses.js", "charts.js")
STYLES: Final = ("base.css", "parts.css", "print.css")
_INTERVAL: Final = re.compile(r"^([^\[(]+ )([\[(].+)$")
_MOMENT: Final = re.compile(r"^(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(?:\.\d+)?(?:Z|\+00:00)?$")
_CODE: Final = re.compile(r"`([^`]+)`")


def render(report: Report) -> str:
    """The page. Everything that it needs is inside: style, scripts, figures, data."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    writer = _Writer(report)
    environment.filters |= {
        "prose": prose,
        "moment": moment,
        "cell": writer.cell,
        "tabular": writer.tabular,
        "png": _picture,
    }
    charts = {place: specification(part) for place, part in _charts(report) if part.rows}
    light, dark = palette()
    return environment.get_template("page.html").render(
        report=report,
        filters={name: _values(report, name) for name in FILTERS},
        style=Markup("\n".join(_asset(name) for name in STYLES)),
        light=light,
        dark=dark,
        numeric=Markup(", ".join(f".n{i} tr > :nth-child({i})" for i in range(1, COLUMNS + 1))),
        script=Markup("\n".join(_asset(name) for name in SCRIPTS)),
        data=packed_json(_without_pictures(report.to_json())),
        specifications=packed_json(charts),
        library=chart_library() if charts else "",
    )


def prose(text: str) -> Markup:
    """Text with `code` set as code."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(text))))


def with_interval(text: str) -> Markup:
    """A number's text, in which what stands in brackets behind it is set apart and kept on one line."""
    return Markup(_INTERVAL.sub(r"\1<i>\2</i>", str(escape(text))))


def moment(value: Any) -> Any:
    """An ISO time without its fraction and zone (all are UTC); other values as they are."""
    return _MOMENT.sub(r"\1 \2", value) if isinstance(value, str) else value


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

    @property
    def numeric(self) -> str:
        """Classes of the table that name its numeric columns: n2 n3 ..."""
        return " ".join(f"n{i}" for i, column in enumerate(self.columns, 1) if column.numeric)


class _Writer:
    """Writes cells, with their serial numbers in the report."""

    def __init__(self, report: Report) -> None:
        self._serials = {place: i for i, (place, _) in enumerate(report.cells())}

    def cell(self, cell: Cell, place: str, own: bool = False) -> Markup:
        """A label as text; what was computed as a link to its address, its text left as it is."""
        if isinstance(cell, str):
            return prose(cell)
        serial = self._serials[place]
        if not cell.address:
            return Markup("<span data-cell={}>{}</span>").format(serial, cell.text)
        # On paper an address stands beside the first number of a row, and beside those that have another.
        said = "s" if isinstance(cell, Sentence) else ""
        classes = " ".join(filter(None, [said, "o" if own else ""]))
        kind = Markup(' class="{}"').format(classes) if classes else ""
        text = with_interval(cell.text) if isinstance(cell, Number) else escape(cell.text)
        return Markup("<a{} href=#{} data-cell={}>{}</a>").format(kind, cell.address, serial, text)

    def tabular(self, part: Table | Chart, place: str) -> Tabular:
        """A table, or the data of a chart, in one shape."""
        if isinstance(part, Table):
            return Tabular(columns=part.columns, rows=(self._table_row(part, row, place) for row in part.rows))
        titles = {part.encodings[channel]: text for channel, text in part.titles.items() if channel in part.encodings}
        fields = list(dict.fromkeys([*part.encodings.values(), *(name for row in part.rows for name in row)]))
        fields = [name for name in fields if any(row.get(name) is not None for row in part.rows)]
        columns = [
            Column(key=name, title=titles.get(name, name.replace("_", " ")), numeric=_numeric(part, name))
            for name in fields
        ]
        return Tabular(columns=columns, rows=self._chart_rows(part, fields, place))

    def _table_row(self, table: Table, row: Row, place: str) -> TableRow:
        cells = []
        first = next((cell.address for cell in row.cells if not isinstance(cell, str)), "")
        for column, cell in zip(table.columns, row.cells, strict=True):
            own = not isinstance(cell, str) and cell.address != first
            content = self.cell(cell, f"{place}/{row.key}/{column.key}", own)
            text = cell if isinstance(cell, str) else cell.text
            kind = ""
            if row.verdict and text == row.verdict:
                kind = "verdict"
            elif row.behavior and text == row.behavior:
                kind = "behavior"
            cells.append((kind, content))
        return TableRow(behavior=_slug(row.behavior or ""), verdict=_slug(row.verdict or ""), cells=cells)

    def _chart_rows(self, chart: Chart, fields: Sequence[str], place: str) -> Iterator[TableRow]:
        for i, (row, address) in enumerate(zip(chart.rows, chart.addresses or [""] * len(chart.rows), strict=True), 1):
            cells: list[tuple[str, Markup]] = []
            for name in fields:
                value = row.get(name)
                number = chart_number(value, address)
                label = escape("" if value is None else value)
                cells.append(("", label if number is None else self.cell(number, f"{place}/{i}/{name}")))
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


def _picture(png: bytes) -> str:
    """A PNG with a palette as base64."""
    return base64.b64encode(with_palette(png)).decode("ascii")


def _slug(name: str) -> str:
    return name.replace(" ", "-")


def _asset(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")
