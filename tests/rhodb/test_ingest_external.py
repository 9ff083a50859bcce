"""Other tools' evaluations: files that the tools wrote (`external/`), and files that they write here if installed."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tracemalloc
from contextlib import closing
from pathlib import Path

import pytest

from rhodb.ingest import files, ingest

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


LM_EVAL_TASK = """
task: tiny_choice
dataset_path: json
dataset_kwargs: {data_files: %s}
test_split: train
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_target: "{{answer}}"
doc_to_choice: "{{choices}}"
metric_list: [{metric: acc}]
metadata: {version: 1.0}
"""


def test_what_lm_evaluation_harness_writes_here(wh, tmp_path):
    """The real tool with its dummy model and a task of our own. `lm_eval` may be installed anywhere on the PATH."""
    tool = shutil.which("lm_eval", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if tool is None:
        pytest.skip("lm-eval is not installed")
    questions = [{"question": f"Is {i} even?", "choices": ["yes", "no"], "answer": i % 2} for i in range(6)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in questions))
    (tmp_path / "task.yaml").write_text(LM_EVAL_TASK % (tmp_path / "data.jsonl"))
    command = [tool, "run", "--model", "dummy", "--tasks", "tiny_choice", "--include_path", tmp_path, "--log_samples"]
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")}
    subprocess.run(
        [*command, "--output_path", tmp_path / "out"], check=True, cwd=tmp_path, capture_output=True,
        env={**os.environ, **offline},
    )  # fmt: skip
    report = ingest(wh, [tmp_path / "out"])
    assert report.problems == [] and (report.total("added"), report.total("completed")) == (1, 1)
    ((task, metric, value, _, n),) = scores(wh)
    assert (task, metric, n) == ("tiny_choice", "acc,none", 6)
    samples = wh.rows("SELECT avg(value) AS mean, count(*) AS n FROM external_samples")
    assert samples == [{"mean": pytest.approx(value), "n": 6}]


INSPECT = """
import sys
from inspect_ai import Task, eval as evaluate
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import ModelOutput, ModelUsage, get_model
from inspect_ai.scorer import match
from inspect_ai.solver import generate
folder, kind, n, size = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
samples = [Sample(id=i, input="x" * size, target="yes" if i % 4 else "no") for i in range(n)]
answers = [ModelOutput.from_content("mockllm", "yes") for _ in range(n)]
for answer in answers:
    answer.usage = ModelUsage(input_tokens=1, output_tokens=1)  # else it is counted with a file that is downloaded
model = get_model("mockllm/model", custom_outputs=answers)
task = Task(name="agree", dataset=MemoryDataset(samples), solver=generate(), scorer=match())
(log,) = evaluate(task, model=model, log_dir=folder, log_format=kind, display="none", max_samples=1)
assert log.status == "success", log.error
"""


def inspect_log(folder: Path, kind: str, n: int, size: int) -> Path:
    """The log of a fresh evaluation of n samples of so many characters, three quarters of them right."""
    pytest.importorskip("inspect_ai")
    command = [sys.executable, "-c", INSPECT, folder, kind, str(n), str(size)]
    subprocess.run(command, check=True, cwd=folder, capture_output=True)
    (log,) = (path for path in folder.glob(f"*.{kind}") if path.name != "logs.json")
    return log


@pytest.mark.parametrize("kind", ["eval", "json"])
def test_what_inspect_writes_here(wh, tmp_path, kind):
    log = inspect_log(tmp_path, kind, 8, 10)
    assert ingest(wh, [log]).problems == [] and scores(wh)[0][:3] == ("agree", "match/accuracy", 0.75)
    words = wh.rows("SELECT text_value AS word, count(*) AS n FROM external_samples GROUP BY text_value ORDER BY 1")
    assert words == [{"word": "C", "n": 6}, {"word": "I", "n": 2}]


def peak_while_ingesting(wh, path: Path) -> int:
    tracemalloc.start()
    try:
        assert ingest(wh, [path]).problems == []
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", ["eval", "json"])
def test_a_large_inspect_log_is_not_held_in_memory(wh, tmp_path, monkeypatch, kind):
    monkeypatch.setattr(files, "WHOLE", 0)
    log = inspect_log(tmp_path, kind, 100, 400_000)
    peak_while_ingesting(wh, FILES / "capitals.eval")  # Inspect's modules are loaded by now
    assert peak_while_ingesting(wh, log) < 15_000_000  # 40 MB of questions alone
    assert wh.rows("SELECT count(*) AS n FROM external_samples WHERE task = 'agree'") == [{"n": 100}]


def test_a_large_file_of_samples_is_read_line_by_line(wh, tmp_path):
    results = json.loads((FILES / RESULTS).read_text())
    (tmp_path / RESULTS).write_text(json.dumps(results))
    line = json.loads((FILES / SAMPLES).read_text().splitlines()[0])
    with (tmp_path / SAMPLES).open("w") as file:
        for number in range(20_000):
            file.write(json.dumps({**line, "doc_id": number, "doc": "x" * 2000, "acc_norm": float("nan")}) + "\n")
    assert peak_while_ingesting(wh, tmp_path / SAMPLES) < 8_000_000  # of 50 MB
    counts = wh.rows("SELECT count(*) AS n, count(value) AS known FROM external_samples WHERE metric LIKE 'acc%'")
    assert counts == [{"n": 40_000, "known": 20_000}]  # NaN is kept as a word


def test_a_broken_line_at_the_end_leaves_nothing(wh, tmp_path):
    shutil.copy(FILES / RESULTS, tmp_path)
    (tmp_path / SAMPLES).write_text((FILES / SAMPLES).read_text() + '{"doc_id": 9, "metr')
    (problem,) = ingest(wh, [tmp_path / SAMPLES]).problems
    assert "Unterminated string" in problem.reason and problem.json_path == "$[8]"
    for table in ("external_samples", "external_scores", "sources"):
        assert wh.rows(f"SELECT count(*) AS n FROM {table}") == [{"n": 0}]
