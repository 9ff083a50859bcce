"""A report's chart as a Vega-Lite specification. The page binds its rows as the data set `rows`.

Colours are CSS variables of the page's style sheet (`palette`), so that light, dark and paper need no second drawing.
"""

import json
import math
from typing import Any, Final

from analysis.colours import ACCENTS, COLOURS
from analysis.report.document import Chart

DARK: Final = {"deception": "#F0F0F0", "factual": "#3D9BD9", "bench": "#9A9A9A"}
"""Behaviors whose colour would vanish on a dark page."""
VERDICTS: Final = {
    "supported": "#009E73",
    "contradicted": "#0072B2",
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
_DIVERGING: Final = [
    "#7f3b08", "#be630a", "#ef9e3c", "#fed7a2", "#f6f6f7", "#cecde4", "#988dbe", "#5d3790", "#2d004b",
]  # fmt: skip
"""`colours.DIVERGING` at nine places."""
_CROWDED: Final = ("dose", "line")
"""Kinds in which intervals of all behaviors stand at the same doses."""
BESIDE: Final = "_x"
"""Field that moves each series of a crowded chart a little along x, so that its interval can be seen."""
DODGE: Final = 0.03
"""Share of the range of x over which the series of one dose are spread."""
SHAPES: Final = {
    "supported": "circle",
    "contradicted": "triangle-right",
    "suggestive": "diamond",
    "not supported": "square",
    "artefact": "triangle-up",
    "degenerate": "triangle-down",
    "not enough data": "cross",
}
"""Verdicts are told apart without colours, too."""

Spec = dict[str, Any]
"""A part of a specification."""


def palette() -> tuple[dict[str, str], dict[str, str]]:
    """CSS variables of behaviors, verdicts and other series, for light pages and what dark pages change."""
    behaviors = {_variable("b", name): colour for name, colour in COLOURS.items()}
    verdicts = {_variable("v", name): colour for name, colour in VERDICTS.items()}
    series = {_variable("s", str(i)): colour for i, colour in enumerate(_series())}
    dark = {_variable("b", name): colour for name, colour in DARK.items()}
    dark |= {name: "#3D9BD9" for name, colour in series.items() if colour == ACCENTS[0]}
    dark |= {name: "#F0F0F0" for name, colour in series.items() if colour == "#000000"}
    return behaviors | verdicts | series, dark


def specification(chart: Chart) -> Spec:
    """The Vega-Lite specification without data. Raises ValueError where an encoding names no field of the rows."""
    missing = sorted({name for name in chart.encodings.values() if not any(name in row for row in chart.rows)})
    if missing:
        raise ValueError(f"chart {chart.key}: no row has {', '.join(missing)}")
    drawing = _Drawing(chart)
    drawn: Spec = {"layer": drawing.heatmap() if chart.kind == "heatmap" else drawing.marks(), **drawing.size()}
    if drawing.dodged():
        drawn["transform"] = [{"calculate": drawing.beside(), "as": BESIDE}]
    whole: Spec = {"data": {"name": DATA}, "config": _CONFIG}
    if not drawing.has("facet"):
        return whole | drawn
    field = chart.encodings["facet"]
    header = {"labelLimit": 320, "labelFontWeight": "bold", "labelColor": INK, "labelAnchor": "start", "title": None}
    # A panel a metric has its own unit; so have the probes of a behavior their own spread, and on the scale of the
    # widest the intervals of others are dots. Other panels of the same quantity are to be compared.
    alone = field in ("metric", "unit", "quantity") or (chart.kind == "forest" and field == "behavior")
    own = "independent" if alone else "shared"
    # Shared axes would also be drawn below the places that the last row of panels leaves empty.
    resolve = {"scale": {"x" if drawing.sideways else "y": own}, "axis": {"x": "independent"}}
    facet = {"field": field, "type": "nominal", "header": header, "sort": drawing.order("facet")}
    return whole | {"facet": facet, "columns": 2, "spec": drawn, "resolve": resolve}


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

    def dodged(self) -> bool:
        """Whether several series with intervals stand at the same places of a numeric x."""
        several = self.has("colour") and len(self.values("colour")) > 1
        return self.chart.kind in _CROWDED and several and self.has("low") and self.numeric("x")

    def beside(self) -> str:
        """The expression for `BESIDE`: x, and a little more for each later series."""
        places, names = self.values("x"), self.values("colour")
        step = DODGE * (max(places) - min(places)) / (len(names) - 1)
        moved = {str(name): round((i - (len(names) - 1) / 2) * step, 9) for i, name in enumerate(names)}
        x, colour = (self.chart.encodings[channel] for channel in ("x", "colour"))
        return f"datum[{json.dumps(x)}] + ({json.dumps(moved)})[datum[{json.dumps(colour)}]]"

    def scale(self, channel: str) -> Spec:
        """Type, axis, scale and title of a position channel."""
        if self.numeric(channel):
            axis: Spec = {"gridColor": _ZERO, "tickCount": 6}
            if all(isinstance(value, int) or value.is_integer() for value in self.values(channel)):
                axis["tickMinStep"] = 1
            scale: Spec = {"zero": True} if self.chart.kind == "bars" else {"zero": False, "padding": 8}
            return {"type": "quantitative", "axis": axis, "scale": scale, "title": self.title(channel)}
        axis = {"grid": False, "labelLimit": 330, "labelAngle": 0 if self.sideways else -35}
        title = None if self.sideways else self.title(channel)  # the names say what they are
        return {"type": "nominal", "axis": axis, "sort": self.order(channel), "title": title}

    def colour(self) -> Spec:
        if not self.has("colour"):
            return {"color": {"value": "var(--s-0)"}}
        values, field = self.values("colour"), self.chart.encodings["colour"]
        scale = {"domain": values, "range": _colours([str(value) for value in values])}
        category = self.chart.encodings["y" if self.chart.kind == "forest" else "x"]
        legend = None if len(values) < 2 or field == category else {"title": self.title("colour")}
        return {"color": {"field": field, "type": "nominal", "scale": scale, "legend": legend}}

    def tooltip(self) -> list[Spec]:
        """Every field of the row, encoded ones first."""
        named = {field: self.title(channel) for channel, field in self.chart.encodings.items()}
        fields = dict.fromkeys([*named, *(name for row in self.chart.rows for name in row)])
        return [{"field": name, "title": named.get(name, name.replace("_", " "))} for name in fields]

    def marks(self) -> list[Spec]:
        """Intervals below, then lines, bars or points."""
        encodings = self.chart.encodings
        along, across = ("x", "y") if not self.sideways or self.chart.kind == "forest" else ("y", "x")
        scales = {"x": self.scale(along), "y": self.scale(across)}
        common: Spec = {**self.colour(), "tooltip": self.tooltip()}
        if self.grouped():
            common["yOffset"] = {"field": encodings["colour"], "type": "nominal", "sort": self.order("colour")}
        x = BESIDE if self.dodged() else encodings[along]
        placed = {"x": {"field": x, **scales["x"]}, "y": {"field": encodings[across], **scales["y"]}}
        main = {"mark": self._mark(), "encoding": {**placed, **common}}
        if self.has("shape"):
            shape = {"field": encodings["shape"], "type": "nominal", "title": self.title("shape")}
            main["encoding"]["shape"] = shape
        elif self.has("colour") and set(self.values("colour")) <= set(SHAPES):
            domain = self.values("colour")
            scale = {"domain": domain, "range": [SHAPES[verdict] for verdict in domain]}
            main["encoding"]["shape"] = {**common["color"], "scale": scale}
        if not (self.has("low") and self.has("high")):
            return [*self._joined(placed, common), main]
        value = "x" if self.sideways else "y"
        ends: Spec = {value: {"field": encodings["low"], **scales[value]}, f"{value}2": {"field": encodings["high"]}}
        rule = {"type": "rule", "strokeWidth": 1.5, "opacity": 0.5 if self.chart.kind in _CROWDED else 1.0}
        interval = {"mark": rule, "encoding": {**placed, **ends, **common}}
        if self.chart.kind == "bars":
            interval["encoding"]["color"] = {"value": INK}
            return [main, interval]
        return [interval, *self._joined(placed, common), main]

    def _mark(self) -> Spec:
        if self.chart.kind == "bars":
            return {"type": "bar", "opacity": 0.9, "cornerRadiusEnd": 1}
        return {"type": "point", "size": 56, "filled": True, "opacity": 1}

    def _joined(self, placed: Spec, common: Spec) -> list[Spec]:
        """The lines between points along x."""
        if self.chart.kind not in _CROWDED:
            return []
        detail = [{"field": self.chart.encodings["shape"], "type": "nominal"}] if self.has("shape") else []
        encoding = {**placed, "color": common["color"], "detail": detail}
        return [{"mark": {"type": "line", "strokeWidth": 1.6}, "encoding": encoding}]

    def heatmap(self) -> list[Spec]:
        """Coloured cells, with their values where there is room."""
        encodings = self.chart.encodings
        field = encodings["value"]
        values = [value for value in self.values("value") if isinstance(value, int | float)]
        largest = max((abs(value) for value in values), default=1.0) or 1.0
        signed = min(values, default=0.0) < 0
        colours, lowest = (_DIVERGING, -largest) if signed else (_SEQUENTIAL, 0.0)
        scale = {"range": colours, "domain": [lowest, largest], "interpolate": "rgb"}
        axis = {"grid": False, "ticks": False, "domain": False, "labelLimit": 220, "labelAngle": 0}
        titles = {"x": self.title("x"), "y": self.title("y")}
        if self.has("facet"):  # panels of a few rows are lower than such a title is long
            titles = {"x": f"{titles['x']} (down: {titles['y']})", "y": ""}
        placed: Spec = {
            channel: {"field": encodings[channel], "type": "ordinal", "sort": self.order(channel), "title": title,
                      "axis": axis}
            for channel, title in titles.items()
        }  # fmt: skip
        legend = {"title": self.title("value"), "gradientLength": 160}
        colour = {"field": field, "type": "quantitative", "scale": scale, "legend": legend}
        placed["tooltip"] = self.tooltip()
        cells = {"mark": {"type": "rect", "stroke": PAPER, "strokeWidth": 1}, "encoding": {**placed, "color": colour}}
        if len(self.chart.rows) > WRITTEN_CELLS:
            return [cells]
        dark = f"abs(datum[{field!r}]) > {0.62 * largest!r}"
        ink = {"condition": {"test": dark, "value": "#FFFFFF"}, "value": "#1A1A1A"}
        # As many decimals as give the largest value two digits: what rounds to nothing is not worth more.
        decimals = min(12, max(0, 1 - math.floor(math.log10(largest))))
        nothing = {"test": f"abs(datum[{field!r}]) < {0.5 * 10.0**-decimals!r}", "value": "0"}
        narrow = {"test": f"bandwidth('x') < {0.9 * CELL}", "value": ""}
        text = {"field": field, "type": "quantitative", "format": f".{decimals}~f", "condition": [narrow, nothing]}
        mark = {"type": "text", "fontSize": 10, "clip": True}
        return [cells, {"mark": mark, "encoding": {**placed, "text": text, "color": ink}}]


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
        "labelSeparation": 6,
    },
    "legend": {
        "orient": "top", "labelColor": INK, "titleColor": SOFT, "titleFontWeight": "normal", "labelFontSize": 11,
        "titleFontSize": 11, "labelLimit": 240, "symbolBaseFillColor": INK, "symbolBaseStrokeColor": INK,
        "symbolOpacity": 1,
    },
    "header": {"labelFontSize": 11.5},
    "facet": {"spacing": 24},
}  # fmt: skip
