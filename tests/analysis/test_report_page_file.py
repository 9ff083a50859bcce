"""The page as a file: everything inside, nothing outside, numbered cells, and read back without loss."""

import base64
import io
import json
import re

import pytest
from page_samples import HOSTILE, heatmap, report
from PIL import Image

from analysis.colours import COLOURS
from analysis.report.charts import DATA, palette, specification
from analysis.report.document import Chart, Figure, Report, from_json
from analysis.report.page import moment, render, with_interval
from analysis.report.page_file import read_page


@pytest.fixture(scope="module")
def page() -> str:
    return render(report())


def test_a_saved_page_is_read_back_whole(page):
    made = report()
    document, shown = read_page(page)
    read = from_json(document)
    assert read.addresses == made.addresses and read.queries == made.queries and read.title == made.title
    assert list(read.cells()) == list(made.cells())
    pictures = [part.png for section in read.sections for part in section.parts if isinstance(part, Figure)]
    assert pictures == [b""]  # it stands in the page already
    assert shown == {place: cell.text for place, cell in made.cells()}


def test_an_altered_number_is_seen_as_it_stands_in_the_page(page):
    places = [place for place, _ in report().cells()]
    place = "ablation/means/tiny-a|gap|bias/delta"
    mark = f"data-cell={places.index(place)}>+0.300<"
    assert page.count(mark) == 1
    _, shown = read_page(page.replace(mark, mark.replace("+0.300", "+0.900")))
    assert shown[place] == "+0.900"


@pytest.mark.parametrize(
    "text", ["<p>no report</p>", '<script id="report-data">%%</script>', '<script id="report-data">H4sIAAAA</script>']
)
def test_what_is_no_report_is_refused(text):
    with pytest.raises(ValueError, match="data"):
        read_page(text)


def test_texts_are_escaped_and_code_is_set_as_code(page):
    assert "<b>name</b>" not in page
    assert "<title>Notebook of a &#34;quoted&#34; &lt;b&gt;name&lt;/b&gt; &amp; &lt;/script&gt;</title>" in page
    assert "Read with <code>rhodb sql</code>." in page and HOSTILE not in page


def test_nothing_is_loaded_from_elsewhere(page):
    assert not re.findall(r"""(?:src|href)=["'](?!#|data:)""", page)
    assert "@import" not in page and not re.findall(r"url\((?!data:)", page)
    assert "default-src 'none'" in page  # and the browser is told so


def test_a_report_without_charts_carries_no_chart_library():
    given = report()
    plain = Report(**{**vars(given), "sections": (given.sections[0], given.sections[3])})
    assert len(render(plain)) < 120_000


def test_what_stands_in_brackets_is_set_apart_and_the_text_stays():
    assert with_interval("0.42 [0.31, 0.53]") == "0.42 <i>[0.31, 0.53]</i>"
    assert with_interval("0.5 (+0.1 ± 0.02)") == "0.5 <i>(+0.1 ± 0.02)</i>"
    assert with_interval("0.42") == "0.42" and with_interval("[0.31, 0.53]") == "[0.31, 0.53]"
    assert with_interval("a<b [c") == "a&lt;b <i>[c</i>"


def test_times_are_told_to_the_second():
    assert moment("2026-11-24T14:38:27.815006+00:00") == "2026-11-24 14:38:27"
    assert moment("2026-11-24") == "2026-11-24" and moment(3) == 3


def test_a_picture_gets_smaller_and_stays_a_picture(page):
    (given,) = [part.png for section in report().sections for part in section.parts if isinstance(part, Figure)]
    (carried,) = [base64.b64decode(found) for found in re.findall(r"image/png;base64,([^\"]+)", page)]
    assert len(carried) < len(given)
    with Image.open(io.BytesIO(carried)) as small, Image.open(io.BytesIO(given)) as large:
        assert small.size == large.size and small.mode == "P"


def test_two_pages_of_one_report_are_the_same(page):
    assert render(report()) == page


def test_cells_cost_little_however_long_the_keys_are():
    small, large = (len(render(report(rows))) for rows in (0, 1000))
    assert (large - small) / 1000 < 170  # bytes a row with two numbers


def test_colours_are_those_of_the_figures():
    light, dark = palette()
    assert {name: light[f"--b-{name}"] for name in COLOURS} == COLOURS
    assert dark["--b-deception"] != light["--b-deception"]  # black on black
    assert set(dark) <= set(light)


def test_specifications_hold_no_data_and_name_their_fields():
    charts = [part for section in report().sections for part in section.parts if isinstance(part, Chart)]
    assert {chart.kind for chart in charts} >= {"dose", "heatmap", "forest", "bars", "points"}
    for chart in charts:
        text = json.dumps(specification(chart))
        assert f'"data": {{"name": "{DATA}"}}' in text
        assert all(f'"field": "{name}"' in text for name in chart.encodings.values())


def test_an_encoding_without_a_field_is_an_error():
    chart = heatmap()
    with pytest.raises(ValueError, match="no row has nothing"):
        specification(Chart(**{**vars(chart), "encodings": {**chart.encodings, "value": "nothing"}}))
