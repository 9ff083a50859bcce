"""Other tools' evaluations: files that the tools wrote (`external/`), and files that they write here if installed."""

import json
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from rhodb.ingest import ingest

FILES = Path(__file__).parent / "external"
RESULTS = next(FILES.glob("results_*.json")).name
SAMPLES = next(FILES.glob("samples_*.jsonl")).name


@pytest.fixture
def store(tmp_path) -> Path:
    """MLflow's SQLite store."""
    path = tmp_path / "ml" / "mlflow.db"
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as raw:
        raw.executescript((FILES / "mlflow.sql").read_text())
    return path


def scores(wh) -> list[tuple]:
    sql = "SELECT task, metric, value, se, n FROM v_external_scores ORDER BY task, metric"
    return [tuple(row.values()) for row in wh.rows(sql)]


def test_results_and_samples_of_lm_evaluation_harness(wh):
    report = ingest(wh, [FILES / RESULTS, FILES / SAMPLES])
    assert report.problems == [] and (report.total("added"), report.total("completed")) == (1, 1)
    assert scores(wh) == [
        ("tinyqa", "acc,none", 0.75, pytest.approx(0.16366, abs=1e-5), 8),
        ("tinyqa", "acc_norm,none", 0.625, pytest.approx(0.18298, abs=1e-5), 8),
    ]
    (found,) = wh.rows(
        "SELECT tool, tool_version, task_version, model FROM v_external_scores WHERE metric = 'acc,none'"
    )
    assert (found["tool"], found["tool_version"], found["task_version"]) == ("lm-eval", "0.4.13", "1.5")
    mean = wh.rows("SELECT avg(value) AS mean, count(*) AS n FROM external_samples WHERE metric = 'acc,none'")
    assert mean == [{"mean": 0.75, "n": 8}]  # the samples average to the score
    assert ingest(wh, [FILES / RESULTS, FILES / SAMPLES]).total("added") == 0


def test_samples_alone_bring_their_evaluation_and_need_its_results(wh, tmp_path):
    assert ingest(wh, [FILES / SAMPLES]).total("added") == 1 and len(scores(wh)) == 2
    lonely = shutil.copy(FILES / SAMPLES, tmp_path)
    with Path(lonely).open("a") as file:
        file.write("\n")
    (problem,) = ingest(wh, [Path(lonely)]).problems
    assert RESULTS in problem.reason


def test_changed_results_are_a_conflict(wh, tmp_path):
    value = json.loads((FILES / RESULTS).read_text())
    ingest(wh, [FILES / RESULTS])
    for broken, words in (
        ({"results": {"tinyqa": {"acc,none": "high"}}}, "expected a number"),
        ({"results": {"tinyqa": 3}}, "expected an object"),
        ({"model_name": None, "config": {}}, "names no model"),
    ):
        path = tmp_path / "results_x.json"
        path.write_text(json.dumps(value | broken))
        (problem,) = ingest(wh, [path]).problems
        assert words in problem.reason and problem.json_path
    assert len(scores(wh)) == 2


def test_an_mlflow_store(wh, store):
    report = ingest(wh, [store.parent])
    assert report.problems == [] and report.total("added") == 1
    assert scores(wh) == [("alignment-eval", "accuracy", 0.75, None, None)]  # the last value; NaN is missing
    (run,) = wh.rows("SELECT model, started_at FROM v_external_scores")
    assert run["model"] == "Qwen/Qwen2.5-0.5B" and run["started_at"].startswith("2026-11-24")
    with closing(sqlite3.connect(store)) as raw:
        raw.execute("UPDATE latest_metrics SET value = 0.5 WHERE key = 'accuracy'")
        raw.commit()
    (conflict,) = ingest(wh, [store]).files[0].conflicts
    assert conflict.differences == (("alignment-eval accuracy", 0.75, 0.5),)
    assert scores(wh)[0][2] == 0.75
    assert ingest(wh, [store], on_conflict="replace").total("replaced") == 1 and scores(wh)[0][2] == 0.5


def test_a_database_of_another_program_is_refused(wh, tmp_path):
    with closing(sqlite3.connect(tmp_path / "other.db")) as raw:
        raw.execute("CREATE TABLE t (x)")
    (tmp_path / "junk.db").write_bytes(b"junk" * 100)
    for name in ("other.db", "junk.db"):
        (problem,) = ingest(wh, [tmp_path / name]).problems
        assert "no SQLite store of MLflow" in problem.reason


def test_inspect_logs_without_its_reader_are_refused_with_a_sentence(wh, monkeypatch):
    monkeypatch.setitem(sys.modules, "inspect_ai.log", None)
    for name in ("capitals.eval", "capitals.json"):
        (problem,) = ingest(wh, [FILES / name]).problems
        assert "pip install inspect-ai" in problem.reason


@pytest.mark.parametrize("name", ["capitals.eval", "capitals.json"])
def test_inspect_logs(wh, name, tmp_path):
    pytest.importorskip("inspect_ai.log")
    report = ingest(wh, [FILES / name])
    assert report.problems == [] and report.total("added") == 1
    third = pytest.approx(1 / 3)
    assert scores(wh) == [
        ("capitals", "includes/accuracy", pytest.approx(2 / 3), third, 3),
        ("capitals", "match/accuracy", pytest.approx(2 / 3), third, 3),
    ]
    words = wh.rows("SELECT text_value AS word, count(*) AS n FROM external_samples GROUP BY text_value ORDER BY 1")
    assert words == [{"word": "C", "n": 4}, {"word": "I", "n": 2}]
    cut = tmp_path / name
    cut.write_bytes((FILES / name).read_bytes()[:2000])
    (problem,) = ingest(wh, [cut]).problems
    assert problem.reason


def test_what_mlflow_writes_here(wh, tmp_path):
    pytest.importorskip("mlflow")
    code = (
        "import sys; from mlflow.tracking import MlflowClient; c = MlflowClient('sqlite:///' + sys.argv[1]); "
        "r = c.create_run(c.create_experiment('e')); c.log_param(r.info.run_id, 'model', 'lab/m'); "
        "c.log_metric(r.info.run_id, 'loss', 0.25)"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "mlflow.db"], check=True, cwd=tmp_path, capture_output=True)
    assert ingest(wh, [tmp_path / "mlflow.db"]).problems == []
    assert scores(wh) == [("e", "loss", 0.25, None, None)]
