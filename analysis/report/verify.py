"""A saved report against a warehouse: every number is computed anew, and what differs is named.

Three things are compared: what the file shows, what its data say, and what the warehouse gives now.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from analysis.report.build import Progress, build, silent
from analysis.report.context import ReportOptions
from analysis.report.document import Chart, Number, Report, Sentence, Table, chart_number, from_json
from analysis.report.markdown import LINK, unescape
from analysis.report.page_file import read_page
from rhodb.errors import InputError
from rhodb.place import for_reading

if TYPE_CHECKING:
    from rhodb.warehouse import Warehouse

TOLERANCE = 1e-9
"""Relative difference that summing in another order or another library may make."""

Outcome = Literal["differs", "cannot be found", "altered in the file"]


@dataclass(frozen=True, kw_only=True)
class Saved:
    """A report read back from its file."""

    report: Report
    shown: Mapping[str, str] | None
    """What the file shows a reader, by place; None for a file that is data only."""


@dataclass(frozen=True, kw_only=True)
class Mismatch:
    """A number that does not hold."""

    place: str
    """SECTION/PART/ROW/COLUMN."""
    outcome: Outcome
    saved: str
    now: str
    address: str


@dataclass(frozen=True, kw_only=True)
class Verification:
    """How a saved report compares."""

    agree: int
    mismatches: tuple[Mismatch, ...]
    new: int
    """Numbers that a report has now and the saved one has not."""

    @property
    def holds(self) -> bool:
        return not self.mismatches

    def count(self, outcome: str) -> int:
        return sum(mismatch.outcome == outcome for mismatch in self.mismatches)


def read(path: Path) -> Saved:
    """The report in an HTML file, beside a Markdown file, or in a JSON file. Raises InputError saying what is wrong."""
    path = for_reading(path)
    text = _text(path)
    if path.suffix.lower() in (".html", ".htm"):
        try:
            document, shown = read_page(text)
        except ValueError as error:
            raise InputError(f"{path} holds no report that this rhodb can read: {error}") from error
        return Saved(report=_of(document, path), shown=shown)
    if path.suffix.lower() == ".md":
        side = path.with_suffix(".json")
        if not side.exists():
            raise InputError(f"{side} is missing: the numbers of a Markdown report lie in the JSON file beside it")
        report = _report(_text(side), side)
        return Saved(report=report, shown=_linked(report, text))
    return Saved(report=_report(text, path), shown=None)


def verify(wh: "Warehouse", saved: Saved, *, progress: Progress = silent, processes: int = 1) -> Verification:
    """Build the report anew with its own options, and compare every number of the saved one."""
    now = build(wh, ReportOptions.from_json(saved.report.options), fresh=True, progress=progress, processes=processes)
    return compare(saved, now)


def compare(saved: Saved, now: Report) -> Verification:
    """The same against a report that was built."""
    found = dict(_stated(now))
    mismatches, agree = [], 0
    known = set()
    for place, cell in _stated(saved.report):
        known.add(place)
        shown = cell.text if saved.shown is None or isinstance(cell, _Label) else saved.shown.get(place)
        outcome, text = _outcome(cell, shown, found.get(place))
        if outcome is None:
            agree += not isinstance(cell, _Label)
            continue
        seen = cell.text if shown is None or outcome != "altered in the file" else shown
        mismatches.append(Mismatch(place=place, outcome=outcome, saved=seen, now=text, address=cell.address))
    new = sum(place not in known and not isinstance(cell, _Label) for place, cell in found.items())
    return Verification(agree=agree, mismatches=tuple(mismatches), new=new)


@dataclass(frozen=True, kw_only=True)
class _Label:
    """A plain text (label of a table, caption, what begins a section): it must be the same, but it is no number."""

    text: str
    address: str = ""


_Stated = Number | Sentence | _Label


def _outcome(cell: _Stated, shown: str | None, now: _Stated | None) -> tuple[Outcome | None, str]:
    if shown != cell.text:
        return "altered in the file", cell.text
    if now is None:
        return "cannot be found", ""
    if cell.text != now.text:
        return "differs", now.text
    if isinstance(cell, Number) and isinstance(now, Number):
        if not math.isclose(cell.value, now.value, rel_tol=TOLERANCE, abs_tol=1e-12):
            return "differs", f"{now.value:.12g} (saved at full precision: {cell.value:.12g})"
    elif type(cell) is not type(now):
        return "differs", now.text
    return None, now.text


def _stated(report: Report) -> Iterator[tuple[str, _Stated]]:
    """Every computed cell, and the labels and captions without which a number says nothing."""
    yield from report.cells()
    for section in report.sections:
        yield f"{section.key}//intro", _Label(text=section.intro)
        for part in section.parts:
            if caption := getattr(part, "caption", ""):
                yield f"{section.key}/{part.key}//caption", _Label(text=caption)
            if isinstance(part, Table):
                for row in part.rows:
                    for column, cell in zip(part.columns, row.cells, strict=True):
                        if isinstance(cell, str):
                            yield f"{section.key}/{part.key}/{row.key}/{column.key}", _Label(text=cell)
            elif isinstance(part, Chart):
                yield from _drawn(f"{section.key}/{part.key}", part)


def _drawn(place: str, chart: Chart) -> Iterator[tuple[str, _Label]]:
    """What a chart holds beside its numbers: which field stands where, what the axes say, the names of its points."""
    told = {"kind": chart.kind, "title": chart.title, "encodings": chart.encodings, "titles": chart.titles}
    yield f"{place}//drawing", _Label(text=json.dumps(told, ensure_ascii=False, sort_keys=True))
    for i, row in enumerate(chart.rows, 1):
        for name, value in row.items():
            if chart_number(value, "") is None:
                yield f"{place}/{i}/{name}", _Label(text=str(value))


def _linked(report: Report, text: str) -> dict[str, str]:
    """Texts of the links in a Markdown file, by the place of the cell that stands there; charts are pictures there."""
    charts = {f"{s.key}/{p.key}/" for s in report.sections for p in s.parts if isinstance(p, Chart)}
    shown, places = {}, []
    for place, cell in report.cells():
        if any(place.startswith(chart) for chart in charts):
            shown[place] = cell.text
        else:
            places.append(place)
    links = [unescape(match[1]) for match in LINK.finditer(text)]
    return shown | dict(zip(places, links, strict=False))


def _text(path: Path) -> str:
    try:
        return for_reading(path).read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"the report {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text, so it is no report of rhodb") from error


def _report(text: str, path: Path) -> Report:
    try:
        document: Any = json.loads(text)
    except ValueError as error:
        raise InputError(f"{path} holds no report that this rhodb can read: it is not JSON ({error})") from error
    return _of(document, path)


def _of(document: Any, path: Path) -> Report:
    try:
        if not isinstance(document, dict):
            raise ValueError("no JSON object")
        return from_json(document)
    except ValueError as error:
        raise InputError(f"{path} holds no report that this rhodb can read: {error}") from error
