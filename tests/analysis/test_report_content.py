"""What a report holds: every section, every number's address, the same report twice; what verification catches."""

import json
import os
import signal
import sqlite3
import weakref
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from analysis.report import markdown
from analysis.report.ahead import meanwhile
from analysis.report.build import build
from analysis.report.context import ReportOptions
from analysis.report.document import Number, Report, Table, from_json
from analysis.report.page import render
from analysis.report.page_file import packed_json
from analysis.report.sections import SECTIONS
from analysis.report.verify import Saved, Verification, read, verify
from rhodb.adhoc import ask
from rhodb.errors import InputError, UnknownNameError
from rhodb.warehouse import Warehouse

QUICK = (
    "configuration", "ablation", "effects", "dose-response", "variance", "margin", "stress", "calibration", "mixture",
    "duration", "steering", "freeze", "attack-defense", "leaderboard", "fidelity", "cf90", "hybrid", "landscape",
    "scorecard", "entanglement", "anomalies", "quality", "reproducibility",
)  # fmt: skip
"""Sections that take no Monte Carlo on published figures."""
OPTIONS = ReportOptions(sections=("configuration", "ablation", "effects", "dose-response"))
FACTUAL = {"sft-only": (0.2, 0.31, 0.27), "rho-guided": (0.6, 0.72, 0.8), "contrastive-only": (0.5, 0.52, 0.55)}
BASE = 0.1

Change = Callable[[str], str]


@pytest.fixture
def db(tmp_path: Path, make_arm: Any, fill_warehouse: Any) -> Path:
    """An ablation on three seeds, baseline 0.1."""
    path = tmp_path / "hostile 'ü' place" / "master.db"
    path.parent.mkdir()
    runs = [
        run
        for condition, values in FACTUAL.items()
        for run in make_arm(condition, {"factual": values, "toxicity": values[::-1]}, seeds=(1, 2, 3))
    ]
    fill_warehouse(path, runs, baseline=BASE)
    return path


def report_on(path: Path, options: ReportOptions = OPTIONS) -> Report:
    with Warehouse.open(path, create=False, read_only=True) as wh:
        return build(wh, options, created=datetime(2026, 1, 1, tzinfo=UTC))


def checked(path: Path, file: Path) -> Verification:
    with Warehouse.open(path, create=False, read_only=True) as wh:
        return verify(wh, read(file))


def table_of(report: Report, section: str, key: str) -> Table:
    parts = {part.key: part for s in report.sections if s.key == section for part in s.parts}
    found = parts[key]
    assert isinstance(found, Table)
    return found


def test_every_section_of_the_registry_can_be_loaded():
    for place, _ in SECTIONS.values():
        module, _, name = place.partition(":")
        assert callable(getattr(import_module(module), name))


def test_empty_warehouse_says_in_every_section_what_to_run(tmp_path: Path):
    with Warehouse.open(tmp_path / "master.db"):
        pass
    report = report_on(tmp_path / "master.db", ReportOptions(sections=QUICK))
    for section in report.sections:
        assert section.title == SECTIONS[section.key][1]
        if section.key not in ("reproducibility", "quality"):
            assert not section.parts
            assert section.missing is not None
            assert "rhodb run" in section.missing, section.key


def test_the_same_warehouse_gives_the_same_report_but_for_its_date(db: Path):
    one, other = report_on(db, ReportOptions(sections=QUICK)), report_on(db, ReportOptions(sections=QUICK))
    assert one == other
    with Warehouse.open(db, create=False, read_only=True) as wh:
        later = build(wh, OPTIONS, created=datetime(2027, 5, 5, tzinfo=UTC))
    assert replace(later, created=report_on(db).created) == report_on(db)


def test_two_processes_make_the_same_report_as_one(db: Path):
    options = replace(OPTIONS, sections=("configuration", "ablation", "effects", "margin", "anomalies", "claims"))
    with Warehouse.open(db, create=False, read_only=True) as wh:
        one, two = (build(wh, options, created=datetime(2026, 1, 1, tzinfo=UTC), processes=n) for n in (1, 2))
    assert render(one) == render(two)
    assert [section.key for section in two.sections] == list(options.sections)
    assert list(two.addresses) == [f"a{i}" for i in range(1, len(two.addresses) + 1)]
    read_first = dict.fromkeys(cell.address for _, cell in two.cells() if cell.address)
    assert list(read_first) == list(two.addresses), "numbered as they are read, and none that leads nowhere"


def test_rows_are_read_once_and_let_go_of_by_the_last_section_that_reads_them(db: Path, monkeypatch: Any):
    read_rows: dict[str, Any] = {}
    at_the_end: list[bool] = []
    frame_of_warehouse = Warehouse.frame

    def frame(self: Warehouse, sql: str, **params: Any) -> Any:
        assert sql not in read_rows, f"read twice: {sql}"
        made = frame_of_warehouse(self, sql, **params)
        read_rows[sql] = weakref.ref(made)
        return made

    def progress(title: str, number: int, count: int) -> None:
        known = [kept() is not None for kept in read_rows.values()]
        if title == SECTIONS["dose-response"][1]:
            assert known == [True], "the next section reads the same rows"
        at_the_end[:] = known

    monkeypatch.setattr(Warehouse, "frame", frame)
    options = ReportOptions(sections=("ablation", "dose-response", "reproducibility"))
    with Warehouse.open(db, create=False, read_only=True) as wh:
        build(wh, options, fresh=True, progress=progress)
    assert at_the_end == [False]


def test_a_second_process_that_is_killed_is_done_without():
    with meanwhile(killed_but_here, os.getpid()) as result:
        assert result() == "made here"


def killed_but_here(here: int) -> str:
    if os.getpid() != here:
        os.kill(os.getpid(), signal.SIGKILL)
    return "made here"


def test_a_report_survives_json(db: Path):
    report = report_on(db)
    assert from_json(json.loads(json.dumps(report.to_json(), allow_nan=False))) == report


@pytest.mark.parametrize("damaged", [{}, {"format": "rhodb report 1"}, {"format": "rhodb report 1", "sections": [3]}])
def test_damaged_data_are_refused(damaged: dict[str, Any]):
    with pytest.raises(ValueError, match="report"):
        from_json(damaged)


def test_means_are_those_of_the_stored_scores(db: Path):
    table = table_of(report_on(db), "ablation", "means")
    at = {column.key: i for i, column in enumerate(table.columns)}
    for row in table.rows:
        values = FACTUAL[str(row.cells[at["condition"]])]
        cell = row.cells[at["factual"]]
        assert isinstance(cell, Number)
        assert cell.value == pytest.approx(sum(values) / 3)
        assert f"({sum(values) / 3 - BASE:+.3f} ±" in cell.text
    assert len(table.rows) == len(FACTUAL)


def test_every_address_leads_to_rows_of_the_warehouse(db: Path):
    report = report_on(db, ReportOptions(sections=QUICK))
    with Warehouse.open(db, create=False, read_only=True) as wh:
        for key, address in report.addresses.items():
            rows = ask(wh.location, report.sql(key), limit=None).rows
            assert rows, address
            if "run IN" in address.narrow:
                column = ask(wh.location, report.sql(key), limit=None).columns.index("run")
                assert {row[column] for row in rows} == set(address.runs)
    assert {cell.address for _, cell in report.cells()} <= set(report.addresses)
    assert all(address.command.startswith("rhodb ") for address in report.addresses.values() if address.command)


def test_places_of_numbers_are_unique(db: Path):
    places = [place for place, _ in report_on(db, ReportOptions(sections=QUICK)).cells()]
    assert len(places) == len(set(places))


def page(report: Report, folder: Path) -> Path:
    path = folder / "report.html"
    path.write_text(render(report), encoding="utf-8")
    return path


def test_saved_pages_and_markdown_verify_in_full(db: Path, tmp_path: Path):
    report = report_on(db)
    count = sum(1 for _ in report.cells())
    assert count > 50
    files = (page(report, tmp_path), markdown.write(report, tmp_path / "report.md")[0], tmp_path / "report.json")
    for file in files:
        found = checked(db, file)
        assert (found.agree, found.mismatches, found.new) == (count, (), 0), file


def test_a_changed_row_is_caught(db: Path, tmp_path: Path):
    file = page(report_on(db), tmp_path)
    with sqlite3.connect(db) as connection:
        connection.execute(
            "UPDATE behavior_scores SET value = 0.75 WHERE abs(value - 0.72) < 1e-9 AND behavior = 'factual'"
        )
    found = checked(db, file)
    assert found.count("differs") > 5
    assert found.agree > 5, "toxicity has not changed"
    assert all("toxicity" not in m.place for m in found.mismatches if m.place.startswith("ablation/means"))


def test_a_removed_run_is_caught(db: Path, tmp_path: Path):
    file = page(report_on(db), tmp_path)
    with sqlite3.connect(db) as connection:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(
            "DELETE FROM runs WHERE id IN (SELECT run_id FROM alignment_runs WHERE condition = 'contrastive-only')"
        )
    found = checked(db, file)
    assert found.count("cannot be found") > 5
    assert not found.holds


def test_a_stored_result_that_somebody_changed_is_not_believed(db: Path, tmp_path: Path):
    from analysis.registry import load_study
    from analysis.stored import answer, store
    from analysis.study import StudyOptions

    options = StudyOptions()
    with Warehouse.open(db) as wh:
        store(wh, options, answer(wh, load_study("ablation"), options))
    with sqlite3.connect(db) as connection:
        changed = connection.execute(
            "UPDATE analysis_results SET result = replace(result, 'Supported: ', 'Certainly: ')"
        ).rowcount
    assert changed == 1
    file = page(report_on(db), tmp_path)
    assert "Certainly: " in file.read_text(encoding="utf-8"), "the report itself reads stored results"
    found = checked(db, file)
    assert any("Certainly: " in mismatch.saved for mismatch in found.mismatches)


def test_a_number_edited_in_the_data_is_caught(db: Path, tmp_path: Path):
    report = report_on(db)
    document = report.to_json()
    table = next(p for s in document["sections"] if s["key"] == "ablation" for p in s["parts"] if p["key"] == "means")
    cell = next(cell for cell in table["rows"][0]["cells"] if isinstance(cell, dict) and "±" in cell["text"])
    cell["value"] += 1e-6  # what is printed stays the same
    file = tmp_path / "edited.json"
    file.write_text(json.dumps(document))
    (mismatch,) = checked(db, file).mismatches
    assert mismatch.outcome == "differs"
    assert mismatch.place.startswith("ablation/means/")


def test_a_label_edited_in_the_data_is_caught(db: Path, tmp_path: Path):
    document = report_on(db).to_json()
    table = next(p for s in document["sections"] if s["key"] == "ablation" for p in s["parts"] if p["key"] == "means")
    row = next(row for row in table["rows"] if "rho-guided" in row["cells"])
    row["cells"][row["cells"].index("rho-guided")] = "sft-only"
    file = tmp_path / "edited.json"
    file.write_text(json.dumps(document))
    (mismatch,) = checked(db, file).mismatches
    assert (mismatch.saved, mismatch.now) == ("sft-only", "rho-guided")


@pytest.mark.parametrize(
    ("edit", "place"),
    [
        (lambda chart: chart["rows"][2].update(effect=chart["rows"][2]["effect"] + 1e-6), "ablation/forest/3/effect"),
        (lambda chart: chart["rows"][2].update(label="better"), "ablation/forest/3/label"),
        (lambda chart: chart["encodings"].update(low="high", high="low"), "ablation/forest//drawing"),
        (lambda chart: chart["titles"].update(x="effect (%)"), "ablation/forest//drawing"),
    ],
    ids=["point", "label", "fields", "axis"],
)
def test_a_chart_edited_in_the_page_is_caught(db: Path, tmp_path: Path, edit: Callable[[Any], None], place: str):
    report = report_on(db)
    document = report.to_json()
    chart = next(p for s in document["sections"] if s["key"] == "ablation" for p in s["parts"] if p["key"] == "forest")
    edit(chart)
    file = page(report, tmp_path)
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace(packed_json(report.to_json()), packed_json(document)), encoding="utf-8")
    assert file.read_text(encoding="utf-8") != text
    assert [mismatch.place for mismatch in checked(db, file).mismatches] == [place]


@pytest.mark.parametrize("kind", ["html", "md"])
def test_a_number_edited_by_hand_in_the_file_is_caught(db: Path, tmp_path: Path, kind: str):
    report = report_on(db)
    file = page(report, tmp_path) if kind == "html" else markdown.write(report, tmp_path / "report.md")[0]
    text = file.read_text(encoding="utf-8")
    shown = next(cell.text for place, cell in report.cells() if place.startswith("ablation/means") and "±" in cell.text)
    printed = shown.split(" ")[0]  # what follows has an element of its own on the page
    assert printed in text
    file.write_text(text.replace(printed, printed.replace("0.", "0.9", 1)), encoding="utf-8")
    found = checked(db, file)
    assert found.count("altered in the file") >= 1
    assert found.count("differs") == 0


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.html", "<html>hello</html>", "no report"),
        ("a.json", "{", "not JSON"),
        ("a.json", "[]", "no JSON object"),
        ("a.md", "# hello", "JSON file beside it"),
        ("a.json", '{"format": "something else"}', "not a report"),
    ],
)
def test_other_files_are_no_reports(tmp_path: Path, name: str, content: str, says: str):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=says):
        read(tmp_path / name)


def test_binary_and_missing_files_are_no_reports(tmp_path: Path):
    (tmp_path / "a.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="UTF-8"):
        read(tmp_path / "a.json")
    with pytest.raises(InputError, match="does not exist"):
        read(tmp_path / "nowhere.html")


def test_markdown_shows_what_the_data_say_and_names_its_figures(db: Path, tmp_path: Path):
    paths = markdown.write(report_on(db), tmp_path / "report.md")
    text = paths[0].read_text(encoding="utf-8")
    pictures = [path for path in paths if path.suffix == ".png"]
    assert pictures
    for path in pictures:
        assert path.read_bytes().startswith(b"\x89PNG")
        assert f"report_figures/{path.name}" in text
    assert all(f"## {section.title}" in text for section in report_on(db).sections)


def test_wrong_options_are_said_once(db: Path):
    with pytest.raises(UnknownNameError, match="choose from configuration"):
        report_on(db, ReportOptions(sections=("nonsense",)))
    with pytest.raises(UnknownNameError, match="choose from tiny"):
        report_on(db, ReportOptions(model="nonsense"))
    with pytest.raises(InputError, match="--where"):
        report_on(db, ReportOptions(where="no_such_column = 1"))
    with pytest.raises(UnknownNameError, match="metric"):
        ReportOptions(metrics=("nonsense",))


def test_where_and_model_choose_the_runs(db: Path):
    table = table_of(report_on(db, replace(OPTIONS, where="condition = 'rho-guided'")), "ablation", "means")
    assert len(table.rows) == 1
    assert "rho-guided" in table.rows[0].cells


def test_a_saved_report_is_compared_cell_by_cell(db: Path):
    from analysis.report.verify import compare

    report = report_on(db)
    shorter = replace(report, sections=report.sections[:-1])
    found = compare(Saved(report=shorter, shown=None), report)
    assert found.holds
    assert found.new == sum(1 for place, _ in report.cells() if place.startswith(report.sections[-1].key))
