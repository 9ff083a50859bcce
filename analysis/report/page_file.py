"""What the page carries beside what it shows: its data, compressed; and how a saved page is read back."""

import base64
import gzip
import json
import zlib
from collections.abc import Mapping
from html.parser import HTMLParser
from typing import Any, Final

from analysis.report.document import from_json

DATA: Final = "report-data"
"""Id of the script element with the report's JSON."""
CELL: Final = "data-cell"
"""Attribute of a computed cell: its serial number in `Report.cells()`."""


def is_page(head: bytes) -> bool:
    """Whether a file that begins so is a page of ours."""
    return b'<meta name="generator" content="rhodb ' in head


def pack(content: str) -> str:
    """Text as gzip and base64: a tenth of a report's JSON, and safe in any element."""
    return base64.b64encode(gzip.compress(content.encode(), 9, mtime=0)).decode("ascii")


def packed_json(value: Any) -> str:
    """The same for a JSON value."""
    return pack(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def read_page(text: str) -> tuple[dict[str, Any], Mapping[str, str]]:
    """The JSON of the report in a page, and what the page shows by place (SECTION/PART/ROW/COLUMN).

    Raises ValueError where there is no report, or a damaged one.
    """
    page = _Page()
    page.feed(text)
    if not page.data:
        raise ValueError(f"no data element {DATA!r}")
    try:
        document = json.loads(gzip.decompress(base64.b64decode("".join(page.data), validate=True)))
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise ValueError(f"the data are damaged: {error}") from error
    places = [place for place, _ in from_json(document).cells()]
    shown = {places[serial]: "".join(texts) for serial, texts in page.shown.items() if serial < len(places)}
    return document, shown


class _Page(HTMLParser):
    """Collects the data, and the text of every computed cell, joined where one stands there twice."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.data: list[str] = []
        self.shown: dict[int, list[str]] = {}
        self._in_data = False
        self._cell: int | None = None
        self._depth = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "script":
            self._in_data = given.get("id") == DATA
        serial = given.get(CELL) or ""
        if self._cell is not None:
            self._depth += 1
        elif serial.isdecimal():
            self._cell, self._depth = int(serial), 0
            self.shown.setdefault(self._cell, [])

    def handle_endtag(self, tag: str) -> None:
        if tag == "script":
            self._in_data = False
        if self._cell is not None and self._depth == 0:
            self._cell = None
        elif self._cell is not None:
            self._depth -= 1

    def handle_data(self, data: str) -> None:
        if self._in_data:
            self.data.append(data)
        elif self._cell is not None:
            self.shown[self._cell].append(data)
