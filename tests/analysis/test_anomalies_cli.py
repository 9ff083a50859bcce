"""The studies of findings on a real warehouse: every command, stored results, diff, evidence."""

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from analysis.anomalies import load_detectors
from analysis.registry import STUDIES
from rhodb.cli.main import app
from rhodb.cli.studies import COMMANDS

Fill = Callable[..., None]
STEPS = (0.0, 0.31, 0.6, 1.2)


@pytest.fixture
def db(tmp_path: Path, make_arm: Callable[..., list], fill_warehouse: Fill) -> Path:  # type: ignore[type-arg]
    path = tmp_path / "it's" / "master.db"
    noise = [0.01, -0.02, 0.03, 0.0, -0.015]
    runs = []
    for weight, rise in zip((0.0, 0.1, 0.2, 0.5), STEPS, strict=True):
        scores = {"toxicity": [rise + x for x in noise], "bias": [0.3 + x for x in noise[::-1]]}
        runs += make_arm("rho-guided" if weight else "sft-only", scores, rho_weight=weight)
    fill_warehouse(path, runs)
    return path


def rhodb(db: Path, *arguments: str) -> str:
    result = CliRunner().invoke(app, ["--db", str(db), "analyze", *arguments])
    if result.exception:
        raise result.exception
    return result.stdout


@pytest.mark.parametrize("study", list(COMMANDS))
def test_every_study_answers_in_every_form(db: Path, study: str) -> None:
    document = json.loads(rhodb(db, study, "--json"))
    assert document["study"] == study
    assert len(rhodb(db, study, "--csv").splitlines()) >= 1
    assert rhodb(db, study, "--markdown").startswith("| # |")
    assert COMMANDS[study] == STUDIES[study][1]


def test_a_planted_dose_effect_is_found_and_the_flat_behavior_is_not(db: Path) -> None:
    findings = json.loads(rhodb(db, "dose-response", "--json"))["findings"]
    verdicts = {f["about"]["behavior"]: f["verdict"] for f in findings if f["about"]["detector"] == "dose"}
    assert verdicts == {"toxicity": "supported", "bias": "not supported"}


def test_evidence_sql_returns_the_runs_of_the_finding(db: Path) -> None:
    finding = json.loads(rhodb(db, "anomalies", "--json"))["findings"][0]
    text = rhodb(db, "anomalies", "--explain", "1")
    sql = text.partition("SQL (returns exactly these rows):\n")[2]
    with sqlite3.connect(db) as connection:
        connection.row_factory = sqlite3.Row
        rows = connection.execute(sql).fetchall()
    assert {row["run"] for row in rows} == set(finding["evidence"]["runs"])
    assert "null:" in text


def test_an_unchanged_warehouse_answers_from_the_store_and_a_changed_one_says_what_moved(
    db: Path,
    make_arm: Callable[..., list],
    fill_warehouse: Fill,  # type: ignore[type-arg]
) -> None:
    def stored() -> int:
        with sqlite3.connect(db) as connection:
            return int(connection.execute("SELECT COUNT(*) FROM analysis_results").fetchone()[0])

    first = rhodb(db, "dose-response", "--json")
    assert rhodb(db, "dose-response", "--json") == first
    assert stored() == 1
    with sqlite3.connect(db) as connection:
        connection.execute("UPDATE analysis_results SET result = replace(result, 'toxicity', 'refusal')")
    assert "refusal" in rhodb(db, "dose-response", "--json")  # it is read, not computed
    with sqlite3.connect(db) as connection:
        connection.execute("UPDATE analysis_results SET result = replace(result, 'refusal', 'toxicity')")
    more = {"toxicity": [0.5], "bias": [0.9]}
    fill_warehouse(db, make_arm("rho-guided", more, seeds=[7], rho_weight=0.5))
    rows = json.loads(rhodb(db, "diff", "dose-response", "--json"))
    assert stored() == 2
    assert {row["behavior"] for row in rows} >= {"toxicity", "bias"}
    assert {"verdict_before", "verdict_now", "effect_now"} <= set(rows[0])


def test_all_names_every_study_and_figures_are_files(db: Path, tmp_path: Path) -> None:
    text = rhodb(db, "all")
    assert all(name in text for name in COMMANDS)
    rhodb(db, "dose-response", "--figures", str(tmp_path / "a b"))
    made = sorted(path.name for path in (tmp_path / "a b").iterdir())
    assert "dose-response-dose.png" in made and "dose-response-dose.svg" in made


def test_every_detector_declares_itself() -> None:
    for detector in load_detectors():
        assert detector.question.endswith("?")
        assert all((detector.name, detector.stratum, detector.test, detector.null))
