"""Charts of a report as Vega-Lite: valid by the schema that Altair carries, and made without Altair or matplotlib."""

import subprocess
import sys
from itertools import product
from typing import get_args

import altair as alt
import matplotlib as mpl
import pytest
import vl_convert

from analysis.colours import DIVERGING
from analysis.findings import Verdict
from analysis.report import charts
from analysis.report.document import Chart, ChartKind, Scalar

ROWS: tuple[dict[str, Scalar], ...] = tuple(
    {
        "model": model, "behavior": behavior, "dose": dose, "delta": delta, "low": delta - 0.1, "high": delta + 0.2,
        "verdict": "supported", "metric": "gap",
    }
    for model, behavior, (dose, delta) in product(
        ("tiny", "large"), ("bias", "factual"), ((0.0, 0.5), (0.2, -0.4), (0.5, 0.0))
    )
)  # fmt: skip
PLACES = {
    "heatmap": {"x": "dose", "y": "behavior", "value": "delta"},
    "forest": {"x": "delta", "y": "behavior", "low": "low", "high": "high", "colour": "verdict"},
    "bars": {"x": "behavior", "y": "delta", "low": "low", "high": "high"},
}
USUAL = {"x": "dose", "y": "delta", "low": "low", "high": "high", "colour": "behavior", "shape": "model"}


def chart(kind: ChartKind, **more: str) -> Chart:
    return Chart(key="made", title="Made", kind=kind, rows=ROWS, encodings={**PLACES.get(kind, USUAL), **more})


@pytest.mark.parametrize("kind", get_args(ChartKind))
@pytest.mark.parametrize("facet", [{}, {"facet": "metric"}, {"facet": "model"}])
def test_every_kind_of_chart_is_valid_vega_lite(kind: ChartKind, facet: dict[str, str]) -> None:
    found = charts.specification(chart(kind, **facet))
    alt.Chart.from_dict(found)  # raises where the schema does not hold
    assert ("facet" in found) == bool(facet)


def test_the_schema_is_not_blind() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    found = charts.specification(chart("line"))
    found["layer"][0]["mark"] = {"type": "cloud"}
    with pytest.raises(jsonschema.ValidationError):
        alt.Chart.from_dict(found)


def test_panels_share_a_scale_unless_each_is_a_metric_of_its_own() -> None:
    assert charts.specification(chart("line", facet="model"))["resolve"]["scale"] == {"y": "shared"}
    assert charts.specification(chart("line", facet="metric"))["resolve"]["scale"] == {"y": "independent"}
    assert charts.specification(chart("forest", facet="metric"))["resolve"]["scale"] == {"x": "independent"}
    assert charts.specification(chart("forest", facet="model"))["resolve"]["scale"] == {"x": "shared"}
    # In a forest the intervals of a behavior with little spread would be dots on the scale of another.
    by_behavior = charts.specification(chart("forest", y="model", facet="behavior"))
    assert by_behavior["resolve"]["scale"] == {"x": "independent"}


def test_intervals_of_one_dose_stand_beside_each_other_in_the_order_of_the_series() -> None:
    found = charts.specification(chart("dose", facet="model"))["spec"]
    (moved,) = found["transform"]
    assert moved["as"] == charts.BESIDE
    assert {layer["encoding"]["x"]["field"] for layer in found["layer"]} == {charts.BESIDE}
    assert moved["calculate"] == 'datum["dose"] + ({"bias": -0.0075, "factual": 0.0075})[datum["behavior"]]'
    assert "transform" not in charts.specification(chart("dose", colour="metric"))


def test_verdicts_are_told_apart_by_shape_as_well() -> None:
    assert set(charts.SHAPES) == set(charts.VERDICTS) == set(get_args(Verdict))
    assert len(set(charts.SHAPES.values())) == len(charts.SHAPES)
    shape = charts.specification(chart("forest"))["layer"][-1]["encoding"]["shape"]
    assert shape["scale"] == {"domain": ["supported"], "range": ["circle"]}


def test_numbers_of_axes_and_legends_are_written_out() -> None:
    rows = tuple({"a": name, "b": "x", "n": n} for name, n in (("p", 0), ("q", 20), ("r", 40)))
    places = {"heatmap": {"x": "b", "y": "a", "value": "n"}, "points": {"x": "n", "y": "n"}}
    for kind in ("heatmap", "points"):
        made = Chart(key="made", title="Made", kind=kind, rows=rows, encodings=places[kind])
        drawn = vl_convert.vegalite_to_svg({**charts.specification(made), "datasets": {charts.DATA: list(rows)}})
        assert ">40<" in drawn and "e+" not in drawn


def test_signed_heat_maps_have_the_colours_of_the_figures_and_zero_in_the_middle() -> None:
    scale = charts.specification(chart("heatmap"))["layer"][0]["encoding"]["color"]["scale"]
    assert scale["range"] == [mpl.colors.to_hex(mpl.colormaps[DIVERGING](i / 8)) for i in range(9)]
    assert scale["domain"] == [-0.5, 0.5]


def test_a_field_that_no_row_has_is_named() -> None:
    with pytest.raises(ValueError, match="no row has gamma"):
        charts.specification(chart("line", x="gamma"))


def test_a_page_is_written_without_a_plotting_library() -> None:
    code = "import sys, analysis.report.page; print(*sorted({'altair', 'matplotlib', 'pandas'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
