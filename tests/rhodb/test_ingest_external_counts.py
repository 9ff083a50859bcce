"""What other tools' logs say of themselves: status, counts and values that are no number, as the tools read them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rhodb.adhoc import read
from rhodb.ingest import ingest
from rhodb.queries import saved

INSPECT = """
import sys
from inspect_ai import Epochs, Task, eval as evaluate
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import ModelOutput, ModelUsage, get_model
from inspect_ai.scorer import Score, accuracy, grouped, mean, scorer, stderr
from inspect_ai.solver import solver
folder, way = sys.argv[1:]
@solver
def failing():
    async def solve(state, generate):
        if way == "error" and state.sample_id == 3:
            raise ValueError("broken")
        return state
    return solve
own = [grouped(mean(), "group"), stderr()] if way == "grouped" else [accuracy(), stderr()]
@scorer(metrics=own)
def parity():
    async def score(state, target):
        if way == "unscored" and state.sample_id == 2:
            return None
        return Score(value=float("nan") if way == "nan" and state.sample_id == 2 else state.sample_id % 2)
    return score
samples = [Sample(id=i, input="x", target="y", metadata={"group": "ab"[i % 2]}) for i in range(1, 5)]
model = get_model("mockllm/model")
task = Task(name="odd", dataset=MemoryDataset(samples), solver=failing(), scorer=parity(),
            epochs=Epochs(3, "mean") if way == "epochs" else None)
evaluate(task, model=model, log_dir=folder, log_format="eval", display="none", max_samples=1, fail_on_error=1)
"""


def inspect_log(folder: Path, way: str) -> Path:
    pytest.importorskip("inspect_ai")
    subprocess.run([sys.executable, "-c", INSPECT, folder, way], check=False, cwd=folder, capture_output=True)
    (log,) = folder.glob("*.eval")
    return log


@pytest.mark.parametrize("way", ["plain", "epochs", "unscored", "grouped", "nan", "error"])
def test_inspects_own_reader_says_the_same(wh, tmp_path, way):
    log = inspect_log(tmp_path, way)
    from inspect_ai.log import read_eval_log

    theirs = read_eval_log(str(log), header_only=True)
    report = ingest(wh, [log])
    if theirs.results is None or not theirs.results.scores:
        assert way == "error"
        assert report.problems and f"status {theirs.status!r}" in report.problems[0].reason
        return
    assert report.problems == []
    (outcome,) = wh.rows("SELECT status, finished, samples, samples_done FROM external_outcomes")
    assert outcome == {
        "status": theirs.status, "finished": int(theirs.status == "success"),
        "samples": theirs.results.total_samples, "samples_done": theirs.results.completed_samples,
    }  # fmt: skip
    stored = {row["metric"]: row for row in wh.rows("SELECT metric, value, se, n FROM v_external_scores")}
    missing = {row["metric"]: row for row in wh.rows("SELECT metric, reason, n FROM external_missing")}
    for score in theirs.results.scores:
        errors = score.metrics.get("stderr")
        for name, metric in score.metrics.items():
            key = f"{score.name}/{name}"
            if metric.value != metric.value:
                assert missing[key]["reason"] == "NaN"
            elif key in stored:
                assert (stored[key]["value"], stored[key]["n"]) == (metric.value, score.scored_samples)
                if name == "accuracy" and errors is not None and errors.value == errors.value:
                    assert stored[key]["se"] == errors.value
            else:
                assert name == "stderr" and "accuracy" in score.metrics
        if score.unscored_samples:
            assert missing[score.name]["n"] == score.unscored_samples
    assert report.total("missing") >= sum(row["n"] for row in missing.values())
    assert ("epochs" in way) <= (theirs.results.completed_samples == 12)


@pytest.mark.parametrize("status", ["cancelled", "error"])
def test_an_inspect_run_that_was_broken_off_is_stored_as_such_and_stays_out_of_comparisons(wh, tmp_path, status):
    """The tool's own log and writer, with the status and counts of a run that ended after 2 of 6 samples."""
    from inspect_ai.log import read_eval_log, write_eval_log

    log = read_eval_log(str(inspect_log(tmp_path, "plain")))
    assert log.results is not None
    log.status, log.results.total_samples, log.results.completed_samples = status, 6, 2
    broken_off = tmp_path / "broken-off.eval"
    write_eval_log(log, str(broken_off))
    report = ingest(wh, [broken_off])
    assert report.problems == [] and f"ended as {status}" in " ".join(report.files[0].warnings)
    (outcome,) = wh.rows("SELECT status, finished, samples, samples_done FROM external_outcomes")
    assert tuple(outcome.values()) == (status, 0, 6, 2)
    query = saved("external")
    assert read(wh.location, query.sql, {"unfinished": 0}).rows == []
    assert len(read(wh.location, query.sql, {"unfinished": 1}).rows) > 0


MLFLOW = """
import sys
from mlflow.tracking import MlflowClient
client = MlflowClient("sqlite:///" + sys.argv[1])
if sys.argv[2] == "begin":
    run = client.create_run(client.create_experiment("e"))
    for key, value in (("loss", 0.25), ("nan", float("nan")), ("up", float("inf")), ("down", -float("inf"))):
        client.log_metric(run.info.run_id, key, value)
else:
    experiment = client.get_experiment_by_name("e").experiment_id
    (run,) = client.search_runs([experiment])
    client.log_metric(run.info.run_id, "loss", 0.125, step=1)
    client.set_terminated(run.info.run_id)
    other = client.create_run(experiment)
    client.log_metric(other.info.run_id, "loss", 0.5)
    client.set_terminated(other.info.run_id)
"""


def test_an_mlflow_run_that_goes_on(wh, tmp_path):
    pytest.importorskip("mlflow")
    store = tmp_path / "mlflow.db"

    def log(step: str) -> None:
        subprocess.run([sys.executable, "-c", MLFLOW, store, step], check=True, cwd=tmp_path, capture_output=True)

    def states() -> list[tuple]:
        sql = "SELECT status, finished, value FROM v_external_scores ORDER BY evaluation_id"
        return [tuple(row.values()) for row in wh.rows(sql)]

    def compared() -> list:
        query = saved("external")
        return read(wh.location, query.sql, {"unfinished": 0}).rows

    log("begin")
    report = ingest(wh, [store])
    assert states() == [("RUNNING", 0, 0.25)] and report.total("missing") == 3
    reasons = wh.rows("SELECT metric, reason FROM external_missing ORDER BY metric")
    assert [tuple(row.values()) for row in reasons] == [("down", "-inf"), ("nan", "NaN"), ("up", "inf")]
    assert "ended as RUNNING" in report.files[0].warnings[0] and compared() == []
    log("go on")
    again = ingest(wh, [store])
    assert states() == [("RUNNING", 0, 0.25), ("FINISHED", 1, 0.5)] and again.total("added") == 1
    (problem,) = again.problems
    assert problem.status == "conflict" and "1 of 2 evaluations" in problem.reason
    assert {key: (old, new) for key, old, new in problem.conflicts[0].differences} == {
        "e loss": (0.25, 0.125), "status": ("RUNNING", "FINISHED"),
    }  # fmt: skip
    assert ingest(wh, [store], on_conflict="replace").total("replaced") == 1
    assert states() == [("FINISHED", 1, 0.125), ("FINISHED", 1, 0.5)] and len(compared()) == 2


LM_EVAL_TASK = """
task: tiny_choice
dataset_path: json
dataset_kwargs: {data_files: %s}
test_split: train
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_target: "{{answer}}"
doc_to_choice: "{{choices}}"
metric_list: [{metric: acc}, {metric: f1}, {metric: mcc}]
metadata: {version: 1.0}
"""


LM_EVAL = """
import sys
from lm_eval import simple_evaluate
from lm_eval.loggers import EvaluationTracker
from lm_eval.tasks import TaskManager
tracker = EvaluationTracker(output_path=sys.argv[2])
manager = TaskManager(include_path=sys.argv[1], include_defaults=False)
found = simple_evaluate(model="dummy", tasks=["tiny_choice"], task_manager=manager, evaluation_tracker=tracker,
                        log_samples=True, bootstrap_iters=0)
samples = found.pop("samples")
tracker.save_results_aggregated(results=found, samples=samples)
tracker.save_results_samples(task_name="tiny_choice", samples=samples["tiny_choice"])
"""


def test_lm_evaluation_harness_with_a_named_results_file(wh, tmp_path):
    """What `lm_eval --output_path out/res.json` writes, without the bootstrap, which takes minutes."""
    pytest.importorskip("lm_eval")
    questions = [{"question": f"Is {i} even?", "choices": ["yes", "no"], "answer": i % 2} for i in range(6)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in questions))
    (tmp_path / "task.yaml").write_text(LM_EVAL_TASK % (tmp_path / "data.jsonl"))
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")}
    subprocess.run(
        [sys.executable, "-c", LM_EVAL, tmp_path, tmp_path / "out" / "res.json"], check=True, cwd=tmp_path,
        capture_output=True, env={**os.environ, **offline},
    )  # fmt: skip
    report = ingest(wh, [tmp_path / "out"])
    assert report.problems == [] and report.total("added") == 1
    (lines,) = (tmp_path / "out").glob("samples_*.jsonl")
    theirs = [json.loads(line) for line in lines.read_text().splitlines()]
    stored = wh.rows("SELECT sample, metric, value, text_value FROM external_samples")
    assert len(stored) == sum(len(line["metrics"]) for line in theirs) == 18
    values = {(row["sample"], row["metric"].split(",")[0]): row for row in stored}
    for line in theirs:
        for name in line["metrics"]:
            row = values[str(line["doc_id"]), name]
            assert line[name] == (json.loads(row["text_value"]) if row["value"] is None else row["value"])


def test_files_that_are_passed_over_are_named(rhodb, tmp_path):
    (tmp_path / "results").mkdir()
    for number in range(7):
        (tmp_path / f"other{number}.json").write_text('{"a": 1}')
    said = rhodb("--db", "m.db", "ingest", ".")
    assert "7 files passed over" in said.stdout and said.stderr.count("passed over: ") == 6
    assert "other0.json: not a result file" in said.stderr and "and 2 more" in said.stderr
