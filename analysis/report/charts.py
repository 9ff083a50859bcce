"""A report's chart as a Vega-Lite specification, made with Altair. The page binds its rows as the data set `rows`.

Colours are CSS variables of the page's style sheet (`palette`), so that light, dark and paper need no second drawing.
"""

from collections.abc import Mapping
from typing import Any, Final

import altair as alt
import matplotlib as mpl

from analysis.figures import ACCENTS, COLOURS, DIVERGING
from analysis.report.document import Chart

DARK: Final = {"deception": "#F0F0F0", "factual": "#3D9BD9", "bench": "#9A9A9A"}
"""Behaviors whose colour would vanish on a dark page."""
VERDICTS: Final = {
    "supported": "#009E73",
    "suggestive": "#E69F00",
    "not supported": "#7F7F7F",
    "artefact": "#D55E00",
    "degenerate": "#CC79A7",
    "not enough data": "#A6A6A6",
}
DATA: Final = "rows"
POSITION: Final = "_i"
"""Field that the page adds to each row: its place in `Chart.rows`, the way to its address."""
HEIGHT: Final = {"dose": 240, "line": 240, "points": 260, "bars": 240}
"""Pixels of a panel; forests, heat maps and horizontal bars grow with their rows (`STEP`)."""
STEP: Final = 22
CELL: Final = 44
"""Pixels that the value of a cell of a heat map needs."""
WRITTEN_CELLS: Final = 400
"""Most cells of a heat map that also carry their value as text."""
INK, SOFT, LINE, PAPER = "var(--ink)", "var(--ink-2)", "var(--grid)", "var(--paper)"
_ZERO: Final = {"condition": {"test": "datum.value === 0", "value": "var(--ink-3)"}, "value": LINE}
_SEQUENTIAL: Final = ["#FFF8EC", "#FDD49E", "#E68A3C", "#A8500A", "#5C2A05"]


def palette() -> tuple[dict[str, str], dict[str, str]]:
    """CSS variables of behaviors, verdicts and other series, for light pages and what dark pages change."""
    behaviors = {_variable("b", name): colour for name, colour in COLOURS.items()}
    verdicts = {_variable("v", name): colour for name, colour in VERDICTS.items()}
    series = {_variable("s", str(i)): colour for i, colour in enumerate(_series())}
    dark = {_variable("b", name): colour for name, colour in DARK.items()}
    dark |= {name: "#3D9BD9" for name, colour in series.items() if colour == ACCENTS[0]}
    dark |= {name: "#F0F0F0" for name, colour in series.items() if colour == "#000000"}
    return behaviors | verdicts | series, dark


def specification(chart: Chart) -> dict[str, Any]:
    """The Vega-Lite specification without data. Raises ValueError where an encoding names no field of the rows."""
    missing = sorted({name for name in chart.encodings.values() if not any(name in row for row in chart.rows)})
    if missing:
        raise ValueError(f"chart {chart.key}: no row has {', '.join(missing)}")
    drawing = _Drawing(chart)
    layered = drawing.heatmap() if chart.kind == "heatmap" else drawing.marks()
    drawn: alt.LayerChart | alt.FacetChart = alt.layer(*layered, data=alt.NamedData(DATA))
    drawn = drawn.properties(**drawing.size())
    if drawing.has("facet"):
        field = chart.encodings["facet"]
        header = alt.Header(labelLimit=320, labelFontWeight="bold", labelColor=INK, labelAnchor="start", title=None)
        facet = alt.Facet(field=field, type="nominal", header=header, sort=drawing.order("facet"))
        drawn = drawn.facet(facet=facet, columns=2)
        # A panel a metric has its own unit; panels of the same quantity are to be compared.
        own: Any = "independent" if field in ("metric", "unit", "quantity") else "shared"
        drawn = drawn.resolve_scale(x=own) if drawing.sideways else drawn.resolve_scale(y=own)
        # Shared axes would also be drawn below the places that the last row of panels leaves empty.
        drawn = drawn.resolve_axis(x="independent")
    return {**drawn.to_dict(), "config": _CONFIG}


class _Drawing:
    """One chart's channels and marks."""

    def __init__(self, chart: Chart) -> None:
        self.chart = chart
        self.sideways = chart.kind == "forest" or (chart.kind == "bars" and not self.numeric("x"))

    def has(self, channel: str) -> bool:
        return channel in self.chart.encodings

    def values(self, channel: str) -> list[Any]:
        """The channel's distinct values in the order of the rows."""
        field = self.chart.encodings[channel]
        return list(dict.fromkeys(row[field] for row in self.chart.rows if row.get(field) is not None))

    def numeric(self, channel: str) -> bool:
        return all(isinstance(value, int | float) for value in self.values(channel))

    def order(self, channel: str) -> Any:
        """Names keep the order of the rows, numbers go up."""
        return "ascending" if self.numeric(channel) else self.values(channel)

    def title(self, channel: str) -> str:
        field = self.chart.encodings[channel]
        return self.chart.titles.get(channel, field.replace("_", " "))

    def size(self) -> dict[str, Any]:
        """The width is the page's business."""
        kind = self.chart.kind
        if kind != "heatmap" and not self.sideways:
            return {"height": HEIGHT[kind]}
        if kind == "heatmap":  # on its own; the page sets a width
            return {"width": {"step": CELL}, "height": {"step": STEP}}
        # With several series to a row Vega-Lite counts the step for each of them.
        return {"height": {"step": STEP if not self.grouped() else 0.6 * STEP}}

    def grouped(self) -> bool:
        """Whether bars or intervals of several series stand beside one another in one row."""
        if not self.has("colour") or not self.sideways:
            return False
        category = self.chart.encodings["y" if self.chart.kind == "forest" else "x"]
        return (
            category != self.chart.encodings["colour"] and len(self.values("colour")) > 1 and self._collides(category)
        )

    def _collides(self, category: str) -> bool:
        """Whether at least half of the rows of a panel hold several marks."""
        facet = self.chart.encodings.get("facet", "")
        places = [(row.get(facet), row.get(category)) for row in self.chart.rows]
        often = [place for place in set(places) if places.count(place) > 1]
        return len(often) * 2 >= len(set(places))

    def scale(self, channel: str) -> Mapping[str, Any]:
        """Keyword arguments of a position channel."""
        if self.numeric(channel):
            axis = alt.Axis(gridColor=_ZERO, format="~g", tickCount=6)
            scale = alt.Scale(zero=True) if self.chart.kind == "bars" else alt.Scale(zero=False, padding=8)
            return {"type": "quantitative", "axis": axis, "scale": scale, "title": self.title(channel)}
        axis = alt.Axis(grid=False, labelLimit=260, labelAngle=0 if self.sideways else -35)
        title = None if self.sideways else self.title(channel)  # the names say what they are
        return {"type": "nominal", "axis": axis, "sort": self.order(channel), "title": title}

    def colour(self) -> dict[str, Any]:
        if not self.has("colour"):
            return {"color": alt.value("var(--s-0)")}
        names = [str(value) for value in self.values("colour")]
        field = self.chart.encodings["colour"]
        scale = alt.Scale(domain=self.values("colour"), range=_colours(names))
        category = self.chart.encodings["y" if self.chart.kind == "forest" else "x"]
        legend = None if len(names) < 2 or field == category else alt.Legend(title=self.title("colour"))
        return {"color": alt.Color(field=field, type="nominal", scale=scale, legend=legend)}

    def tooltip(self) -> list[alt.Tooltip]:
        """Every field of the row, encoded ones first."""
        named = {field: self.title(channel) for channel, field in self.chart.encodings.items()}
        fields = dict.fromkeys([*named, *(name for row in self.chart.rows for name in row)])
        return [alt.Tooltip(field=name, title=named.get(name, name.replace("_", " "))) for name in fields]

    def marks(self) -> list[alt.Chart]:
        """Intervals below, then lines, bars or points."""
        encodings = self.chart.encodings
        along, across = ("x", "y") if not self.sideways or self.chart.kind == "forest" else ("y", "x")
        x, y = self.scale(along), self.scale(across)
        common: dict[str, Any] = {**self.colour(), "tooltip": self.tooltip()}
        if self.grouped():
            offset = alt.YOffset(field=encodings["colour"], type="nominal", sort=self.order("colour"))
            common["yOffset"] = offset
        placed: dict[str, Any] = {"x": alt.X(field=encodings[along], **x), "y": alt.Y(field=encodings[across], **y)}
        main = self._main().encode(**placed, **common)
        if self.has("shape"):
            main = main.encode(shape=alt.Shape(field=encodings["shape"], type="nominal", title=self.title("shape")))
        if not (self.has("low") and self.has("high")):
            return [*self._joined(placed, common), main]
        value, end = ("x", "x2") if self.sideways else ("y", "y2")
        scales = {"x": x, "y": y}
        low = (alt.X if self.sideways else alt.Y)(field=encodings["low"], **scales[value])
        high = (alt.X2 if self.sideways else alt.Y2)(field=encodings["high"])
        crowded = self.chart.kind in ("dose", "line")  # intervals of all behaviors stand at the same doses
        interval = alt.Chart().mark_rule(strokeWidth=1.5, opacity=0.5 if crowded else 1.0)
        drawn = interval.encode(**{**placed, value: low, end: high}, **common)
        if self.chart.kind == "bars":
            drawn = drawn.encode(color=alt.value(INK))
            return [main, drawn]
        return [drawn, *self._joined(placed, common), main]

    def _main(self) -> alt.Chart:
        mark: alt.Chart = (
            alt.Chart().mark_bar(opacity=0.9, cornerRadiusEnd=1)
            if self.chart.kind == "bars"
            else alt.Chart().mark_point(size=46, filled=True, opacity=1)
        )
        return mark

    def _joined(self, placed: Mapping[str, Any], common: Mapping[str, Any]) -> list[alt.Chart]:
        """The lines between points along x."""
        if self.chart.kind not in ("dose", "line"):
            return []
        kept = {name: channel for name, channel in common.items() if name == "color"}
        detail = [alt.Detail(field=self.chart.encodings["shape"], type="nominal")] if self.has("shape") else []
        return [alt.Chart().mark_line(strokeWidth=1.6).encode(**placed, **kept, detail=detail)]

    def heatmap(self) -> list[alt.Chart]:
        """Coloured cells, with their values where there is room."""
        encodings = self.chart.encodings
        values = [value for value in self.values("value") if isinstance(value, int | float)]
        largest = max((abs(value) for value in values), default=1.0) or 1.0
        signed = min(values, default=0.0) < 0
        colours, lowest = (_diverging(), -largest) if signed else (_SEQUENTIAL, 0.0)
        scale = alt.Scale(range=colours, domain=[lowest, largest], interpolate="rgb")
        axis: dict[str, Any] = {"axis": alt.Axis(grid=False, ticks=False, domain=False, labelLimit=220, labelAngle=0)}
        across, down = self.title("x"), self.title("y")
        if self.has("facet"):  # panels of a few rows are lower than such a title is long
            across, down = f"{across} (down: {down})", ""
        placed: dict[str, Any] = {
            "x": alt.X(field=encodings["x"], type="ordinal", sort=self.order("x"), title=across, **axis),
            "y": alt.Y(field=encodings["y"], type="ordinal", sort=self.order("y"), title=down, **axis),
        }
        legend = alt.Legend(title=self.title("value"), gradientLength=160, format="~g")
        colour = alt.Color(field=encodings["value"], type="quantitative", scale=scale, legend=legend)
        cells = alt.Chart().mark_rect(stroke=PAPER, strokeWidth=1)
        drawn = [cells.encode(**placed, color=colour, tooltip=self.tooltip())]
        if len(self.chart.rows) <= WRITTEN_CELLS:
            dark = f"abs(datum[{encodings['value']!r}]) > {0.62 * largest!r}"
            ink = {"condition": {"test": dark, "value": "#FFFFFF"}, "value": "#1A1A1A"}
            nothing = {"test": f"abs(datum[{encodings['value']!r}]) < {1e-6 * largest!r}", "value": "0"}
            narrow = {"test": f"bandwidth('x') < {0.9 * CELL}", "value": ""}
            text = alt.Text(field=encodings["value"], type="quantitative", format=".2~g", condition=[narrow, nothing])
            written = alt.Chart().mark_text(fontSize=10, clip=True)
            drawn.append(written.encode(**placed, text=text, color=ink, tooltip=self.tooltip()))
        return drawn


def _diverging() -> list[str]:
    return [mpl.colors.to_hex(mpl.colormaps[DIVERGING](i / 8)) for i in range(9)]


def _series() -> list[str]:
    return list(dict.fromkeys([*ACCENTS, *COLOURS.values()]))


def _colours(names: list[str]) -> list[str]:
    """Behaviors and verdicts have colours of their own, other names take the accents in turn."""
    if set(names) <= set(COLOURS):
        return [f"var({_variable('b', name)})" for name in names]
    if set(names) <= set(VERDICTS):
        return [f"var({_variable('v', name)})" for name in names]
    return [f"var({_variable('s', str(i % len(_series())))})" for i in range(len(names))]


def _variable(kind: str, name: str) -> str:
    return f"--{kind}-{name.replace(' ', '-')}"


_FONT: Final = "system-ui, 'Segoe UI', 'Liberation Sans', 'DejaVu Sans', sans-serif"
_CONFIG: Final[dict[str, Any]] = {
    "background": "transparent",
    "font": _FONT,
    "view": {"stroke": None},
    "axis": {
        "labelColor": SOFT, "titleColor": SOFT, "gridColor": LINE, "domainColor": "var(--ink-3)", "tickColor": LINE,
        "labelFontSize": 11, "titleFontSize": 11, "titleFontWeight": "normal", "titlePadding": 8,
    },
    "legend": {
        "orient": "top", "labelColor": INK, "titleColor": SOFT, "titleFontWeight": "normal", "labelFontSize": 11,
        "titleFontSize": 11, "labelLimit": 240, "symbolBaseFillColor": INK, "symbolBaseStrokeColor": INK,
    },
    "header": {"labelFontSize": 11.5},
    "facet": {"spacing": 24},
}  # fmt: skip
