"""Charts as PNG, for Markdown: the page's own specification, with the rows and the light page's colours put in."""

import io
import json
import re
from typing import Final

from PIL import Image

from analysis.report.charts import DATA, POSITION, palette, specification
from analysis.report.document import Chart

INKS: Final = {
    "--ink": "#1A1A1A",
    "--ink-2": "#595959",
    "--ink-3": "#8C8C8C",
    "--grid": "#E5E5E5",
    "--paper": "#FFFFFF",
}
"""What the page's style sheet calls these colours, on white."""
SCALE: Final = 1.5
PICTURE_COLOURS: Final = 256
_VARIABLE: Final = re.compile(r"var\((--[\w-]+)\)")


def draw(chart: Chart) -> bytes:
    """The chart as PNG."""
    import vl_convert

    colours = palette()[0] | INKS
    text = _VARIABLE.sub(lambda match: colours.get(match[1], "#1A1A1A"), json.dumps(specification(chart)))
    rows = [{**row, POSITION: i} for i, row in enumerate(chart.rows)]
    drawn: bytes = vl_convert.vegalite_to_png(
        {**json.loads(text), "datasets": {DATA: rows}, "background": "white"}, scale=SCALE
    )
    return drawn


def with_palette(png: bytes) -> bytes:
    """The same picture in few colours, a third of the size; one that does not get smaller stays as it is."""
    with Image.open(io.BytesIO(png)) as opened:
        few = opened.convert("RGB").quantize(PICTURE_COLOURS, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    few.save(buffer, format="png", optimize=True)
    return min(png, buffer.getvalue(), key=len)
