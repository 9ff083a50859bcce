"""`rhodb report` as a command: files, exit codes, sentences; what changed since a date or against another warehouse."""

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from analysis.report.compare import moment
from analysis.report.document import from_json
from rhodb.cli.report import app
from rhodb.errors import InputError

SECTIONS = ("--section", "ablation", "--section", "effects")
LATE = "2026-03-01T00:00:00+00:00"


@pytest.fixture
def fill(make_arm: Any, fill_warehouse: Any) -> Any:
    """Make a warehouse with these seeds of two conditions."""

    def make(path: Path, seeds: tuple[int, ...], shift: float = 0.0) -> Path:
        values = {seed: 0.5 + 0.01 * seed + shift for seed in seeds}
        runs = [
            *make_arm("sft-only", {"factual": [v - 0.4 for v in values.values()]}, seeds=seeds),
            *make_arm("rho-guided", {"factual": list(values.values())}, seeds=seeds),
        ]
        fill_warehouse(path, runs)
        return path

    return make


def saved(path: Path) -> Any:
    return from_json(json.loads(path.with_suffix(".json").read_text()))


def test_report_is_written_and_holds(rhodb: Any, tmp_path: Path, fill: Any):
    db = fill(tmp_path / "m.db", (1, 2, 3))
    made = rhodb("report", "--db", db, *SECTIONS, "--format", "both", "--out", "here")
    assert made.returncode == 0, made.stderr
    assert str(tmp_path / "here" / "report.html") in made.stdout.splitlines()[-1]
    for name in ("report.html", "report.md", "report.json"):
        assert (tmp_path / "here" / name).exists()
    for name in ("report.html", "report.md"):
        found = rhodb("report", "--db", db, "--verify", f"here/{name}")
        assert found.returncode == 0, found.stdout
        assert "holds against" in found.stdout


def test_a_report_that_does_not_hold_exits_with_1(rhodb: Any, tmp_path: Path, fill: Any):
    db = fill(tmp_path / "m.db", (1, 2, 3))
    assert rhodb("report", "--db", db, *SECTIONS, "--out", "r.html").returncode == 0
    with sqlite3.connect(db) as connection:
        connection.execute("UPDATE behavior_scores SET value = value + 0.001 WHERE value > 0.5")
    found = rhodb("report", "--db", db, "--verify", "r.html")
    assert found.returncode == 1
    assert "differs: ablation/" in found.stdout
    assert "does not hold" in found.stdout.splitlines()[-1]
    told = json.loads(rhodb("report", "--db", db, "--verify", "r.html", "--json").stdout)
    assert {mismatch["outcome"] for mismatch in told["mismatches"]} == {"differs"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--section", "nonsense"), "choose from configuration"),
        (("--format", "pdf"), "choose from html, md, both"),
        (("--out", "r.md", "--format", "html"), "does not end as"),
        (("--verify", "r.html", "--model", "x"), "--model does not go with --verify"),
        (("--verify", "r.html"), "does not exist"),
        (("--since", "yesterday"), "--since needs a date"),
        (("--since", "2026-01-01", "--compare", "x.db"), "choose one"),
        (("--compare", "nowhere.db"), "no warehouse"),
        (("--where", "1 = (", *SECTIONS), "--where"),
        (("--metric", "nonsense"), "metric"),
    ],
)
def test_wrong_calls_are_said_and_write_nothing(
    tmp_path: Path, fill: Any, monkeypatch: pytest.MonkeyPatch, arguments: Any, says: str
):
    db = fill(tmp_path / "m.db", (1, 2))
    monkeypatch.chdir(tmp_path)
    found = CliRunner().invoke(app, ["--db", str(db), *arguments])
    assert isinstance(found.exception, InputError)
    assert says in str(found.exception)
    assert not list(tmp_path.glob("r*.*"))


def test_missing_warehouse_is_not_created(rhodb: Any, tmp_path: Path):
    found = rhodb("report", "--db", "nowhere.db")
    assert found.returncode == 2
    assert not (tmp_path / "nowhere.db").exists()


def test_a_folder_that_cannot_be_made_is_said(rhodb: Any, tmp_path: Path, fill: Any):
    db = fill(tmp_path / "m.db", (1, 2))
    (tmp_path / "file").write_text("")
    found = rhodb("report", "--db", db, "--section", "ablation", "--out", "file/deeper/r.html")
    assert found.returncode == 2
    assert "is no folder" in found.stderr


def test_compare_names_new_runs_flips_and_moves(rhodb: Any, tmp_path: Path, fill: Any):
    old, new = fill(tmp_path / "old.db", (1, 2)), fill(tmp_path / "new.db", (1, 2, 3, 4, 5))
    found = rhodb("report", "--db", new, *SECTIONS, "--format", "md", "--out", "r.md", "--compare", old)
    assert found.returncode == 0, found.stderr
    changes = saved(tmp_path / "r.md").sections[0]
    parts = {part.key: part for part in changes.parts}
    assert changes.key == "changes"
    assert [row.key for row in parts["runs"].rows] == ["new|alignment|tiny"]
    assert parts["runs"].rows[0].cells[3].value == 6
    flips = [(row.cells[2].text, row.cells[3].text) for row in parts["verdicts"].rows]
    assert flips
    assert all(before != now for before, now in flips)
    assert "supported" in {now for _, now in flips}, "five seeds show what two could not"
    assert parts["moved"].rows
    assert rhodb("report", "--db", new, "--verify", "r.md").returncode == 0


def test_compare_with_itself_finds_nothing(rhodb: Any, tmp_path: Path, fill: Any):
    db = fill(tmp_path / "m.db", (1, 2))
    rhodb("report", "--db", db, *SECTIONS, "--format", "md", "--out", "r.md", "--compare", db)
    assert saved(tmp_path / "r.md").sections[0].missing == "Nothing: the same runs, the same numbers."


def test_since_compares_with_the_warehouse_as_it_was(rhodb: Any, tmp_path: Path, fill: Any):
    db = fill(tmp_path / "m.db", (1, 2, 3, 4))
    with sqlite3.connect(db) as connection:
        connection.execute(f"UPDATE runs SET finished_at = '{LATE}' WHERE seed > 2")
    before = sqlite3.connect(db).execute("SELECT count(*) FROM runs").fetchone()
    found = rhodb("report", "--db", db, *SECTIONS, "--format", "md", "--out", "r.md", "--since", "2026-02-01")
    assert found.returncode == 0, found.stderr
    parts = {part.key: part for part in saved(tmp_path / "r.md").sections[0].parts}
    (row,) = parts["runs"].rows
    assert (row.key, row.cells[3].value, row.cells[4].text) == ("new|alignment|tiny", 4, "3, 4")
    assert sqlite3.connect(db).execute("SELECT count(*) FROM runs").fetchone() == before, "only a copy is cut"


@pytest.mark.parametrize(
    ("given", "means"),
    [("2026-03-01", "2026-03-01T00:00:00+00:00"), ("2026-03-01T12:00+02:00", "2026-03-01T10:00:00+00:00")],
)
def test_dates_are_read_as_the_warehouse_writes_them(given: str, means: str):
    assert moment(given) == means


def test_nonsense_is_no_date():
    with pytest.raises(InputError, match="needs a date"):
        moment("next week")
