"""`check` finds what is wrong and its fix repairs it; list, show and diff answer."""

import shlex
import subprocess
import sys

import numpy as np
import pytest
from warehouse_samples import BASELINE, MODEL, identity, outcome, probe_scores, probe_set

from rhodb.check import check
from rhodb.errors import InputError, UnknownNameError
from rhodb.liveness import Owner
from rhodb.query import diff_runs, list_runs, resolve_run, show_run
from rhodb.records import ScoreRow
from rhodb.spool import Spool
from rhodb.store import PlannedCell, claim, insert_outcome, plan, run_uuid
from rhodb.warehouse import Warehouse

metrics = pytest.importorskip("runners.metrics")
RUN = run_uuid(identity(1))


@pytest.fixture
def filled(wh) -> Warehouse:
    """A baseline and two runs, sound."""
    record = probe_set(pairs=12)
    for i, (of, base) in enumerate([(BASELINE, None), (identity(1), BASELINE), (identity(2, lr=0.5), BASELINE)]):
        rows = probe_scores(record, np.random.default_rng(i), answers=True)
        scores = metrics.behavior_scores("toxicity", rows)
        done = outcome(of, baseline=base, probe_rows=rows, scores=scores)
        assert insert_outcome(wh, done, {record.fingerprint: record})
    return wh


def damage(wh: Warehouse, sql: str) -> None:
    """Change the database behind rhodb's back."""
    subprocess.run(["sqlite3", str(wh.location), f"PRAGMA foreign_keys = OFF; {sql}"], check=True)


def test_a_sound_warehouse_has_no_problems(filled):
    assert check(filled) == []


@pytest.mark.parametrize(
    ("sql", "kind", "words"),
    [
        ("UPDATE behavior_scores SET value = value + 1e-6 WHERE run_id = 2 AND metric = 'gap' AND split = 'eval'",
         "metrics", ["toxicity gap (eval)", RUN]),
        ("UPDATE behavior_scores SET n = n + 1 WHERE run_id = 2 AND metric = 'auc' AND split = 'train'",
         "metrics", ["toxicity auc (train)"]),
        ("DELETE FROM behavior_scores WHERE run_id = 2 AND metric = 'rho' AND split = 'eval'",
         "metrics", ["toxicity rho (eval)", "None"]),
        ("DELETE FROM probe_scores WHERE run_id = 2 AND probe_id = 1 AND side = 'negative'", "metrics", ["(train)"]),
        ("DELETE FROM behavior_scores WHERE run_id = 2; DELETE FROM probe_scores WHERE run_id = 2",
         "states", ["no scores"]),
        ("DELETE FROM alignment_runs WHERE run_id = 2", "states", ["alignment_runs"]),
        ("UPDATE runs SET state = 'planned' WHERE id = 2", "states", ["not done"]),
        ("UPDATE runs SET config = '{}' WHERE id = 2", "configurations", [RUN]),
        ("DELETE FROM probes WHERE id = 1", "foreign keys", ["probe_scores", "probes"]),
    ],
)  # fmt: skip
def test_each_kind_of_damage_is_found_and_its_fix_repairs_it(filled, sql, kind, words):
    damage(filled, sql)
    problems = [problem for problem in check(filled) if problem.check == kind]
    assert problems
    for word in words:
        assert any(word in problem.what for problem in problems), problems
    command = next(problem.fix for problem in problems)[problems[0].fix.index("sqlite3") :].split(" and run the")[0]
    subprocess.run(command, shell=True, check=True)
    assert [problem for problem in check(filled) if problem.check == kind] == []


def test_abandoned_runs_spooled_outcomes_and_missing_baselines_are_found(filled):
    cell = PlannedCell(identity=identity(9), baseline=identity(8, kind="baseline"))
    plan(filled, MODEL, [cell])
    claim(filled, run_uuid(identity(9)), Owner(host="far-away", pid=1, process_started=0.0))
    assert check(filled) == []  # its heartbeat is fresh
    with filled.write() as connection:
        connection.exec_driver_sql("UPDATE runs SET heartbeat_at = NULL WHERE state = 'running'")
    Spool.beside(filled).write(outcome(identity(9), baseline=cell.baseline))
    assert {problem.check for problem in check(filled)} == {"processes", "spool"}
    insert_outcome(filled, outcome(identity(9), baseline=cell.baseline), {})
    assert any("its baseline is not" in problem.what for problem in check(filled))


def test_a_torn_page_is_found(filled):
    path = filled.location.path
    page = filled.rows("SELECT rootpage FROM sqlite_master WHERE name = 'ix_behavior_scores_behavior_metric_split'")
    filled.close()  # moves the write-ahead log into the file
    start = (page[0]["rootpage"] - 1) * 4096
    data = bytearray(path.read_bytes())
    data[start : start + 4096] = b"\xff" * 4096
    path.write_bytes(data)
    with Warehouse.open(path, read_only=True) as wh:
        problems = check(wh)
    assert problems and problems[0].check == "integrity" and "backup" in problems[0].fix


def test_list_filters_and_orders(filled):
    assert [row["seed"] for row in list_runs(filled.location)] == [2, 1, 0]
    assert [row["seed"] for row in list_runs(filled.location, kind="alignment", limit=1)] == [2]
    assert [row["run"] for row in list_runs(filled.location, seed=1)] == [RUN]
    assert list_runs(filled.location, condition="sft-only") == [] and list_runs(filled.location, model="other") == []
    assert len(list_runs(filled.location, state="done", model="tiny", condition="rho-guided")) == 2
    for wrong in ({"kind": "nosuch"}, {"state": "nosuch"}, {"condition": "nosuch'; DROP TABLE runs; --"}):
        with pytest.raises(UnknownNameError, match="choose from"):
            list_runs(filled.location, **wrong)
    assert list_runs(filled.location, model="x'; DROP TABLE runs; --") == [] and len(list_runs(filled.location)) == 3
    with pytest.raises(InputError):
        list_runs(filled.location, limit=0)


def test_a_run_is_named_by_the_beginning_of_its_uuid(filled):
    assert resolve_run(filled, RUN[:6].upper()) == RUN == resolve_run(filled, RUN)
    for wrong in ("abc", "", "%%%%", "zzzz", "0000-no"):
        with pytest.raises(InputError):
            resolve_run(filled, wrong)
    with filled.write() as connection:
        connection.exec_driver_sql("UPDATE runs SET uuid = 'abcd-1' WHERE id = 1")
        connection.exec_driver_sql("UPDATE runs SET uuid = 'abcd-2' WHERE id = 2")
    with pytest.raises(InputError, match="ambiguous"):
        resolve_run(filled, "abcd")


def test_show_tells_everything(filled):
    found = show_run(filled, RUN)
    assert found.run["config"] == identity(1).config and found.run["baseline"] == run_uuid(BASELINE)
    assert found.run["model_fingerprint"] == MODEL.fingerprint
    assert found.family["rho_weight"] == 0.2
    assert found.counts == {"probe_scores": 24, "train_steps": 1}
    assert found.probe_sets[0]["probes"] == 12
    assert {row["metric"] for row in found.scores} == {
        "gap", "answer_gap", "rho", "auc", "pair_accuracy", "truth_corr", "brier", "ece"
    }  # fmt: skip


def test_diff_names_what_differs(filled):
    found = diff_runs(filled, RUN, run_uuid(identity(2, lr=0.5)))
    assert {row["what"]: (row["a"], row["b"]) for row in found.settings} == {"config.lr": (None, 0.5), "seed": (1, 2)}
    assert found.provenance == []
    gap = next(row for row in found.scores if row["metric"] == "gap")
    assert gap["difference"] == pytest.approx(gap["b"] - gap["a"])
    extra = ScoreRow(behavior="bias", metric="accuracy", split="none", value=0.5, se=None, n=4)
    insert_outcome(filled, outcome(identity(3), scores=[extra]), {})
    rows = diff_runs(filled, RUN, run_uuid(identity(3))).scores
    assert {(row["a"] is None, row["b"] is None) for row in rows} == {(True, False), (False, True)}
    same = diff_runs(filled, RUN, RUN)
    assert same.settings == [] and all(row["difference"] == 0 for row in same.scores)


def test_an_ingested_run_that_lost_its_rows_is_made_again_by_the_command_that_the_check_names(wh, tmp_path):
    from legacy_files import write_tree

    from rhodb.ingest import ingest

    ingest(wh, [write_tree(tmp_path / "results")])
    before = len(wh.scores())
    with wh.write() as connection:
        connection.exec_driver_sql("DELETE FROM steering_heatmap")
        connection.exec_driver_sql("UPDATE runs SET config = '{}' WHERE kind = 'cf90'")
    problems = check(wh)
    assert len(problems) == 2 and all(" rebuild --without " in problem.fix for problem in problems), problems
    wh.close()
    for problem in problems:
        command = shlex.split(problem.fix.removeprefix("restore it from a backup, or "))
        assert command.pop(0) == "rhodb"
        done = subprocess.run([sys.executable, "-m", "rhodb", *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0 and "1 more from files" in done.stdout, done
    with Warehouse.open(wh.location.path) as again:
        assert check(again) == [] and len(again.scores()) == before
