"""What ingest promises file by file: whole or not at all, once, never silently changed, never a guess."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
from legacy_files import FILES, sample, write_file, write_tree

from rhodb.check import check
from rhodb.errors import InputError
from rhodb.ingest import IngestReport, ingest
from rhodb.warehouse import Warehouse

SWEEP = "alignment/sweep.json"
COUNTS = "SELECT count(*) AS n FROM {}"


def count(wh: Warehouse, table: str = "runs") -> int:
    return wh.rows(COUNTS.format(table))[0]["n"]


def test_one_file_of_each_format_goes_in(wh, tmp_path):
    report = ingest(wh, [write_tree(tmp_path / "results")])
    assert report.problems == [] and {file.status for file in report.files} == {"added"}
    assert report.total("added") == 3 + 6 + 2 + 1 + 1 + 2 + 2 + 1 + 1 + 1
    assert check(wh) == []
    (stress,) = wh.rows("SELECT * FROM v_stress_tests WHERE condition = 'rho-guided'")
    assert (stress["jailbreak_refusal_rate"], stress["before_jailbreak_refusal_rate"]) == (0.5, 1.0)
    answers = wh.rows("SELECT prompt_key, refused, response FROM stress_responses ORDER BY prompt_key")
    assert [(row["prompt_key"], row["refused"]) for row in answers] == [("jailbreak/1", 1), ("jailbreak/2", 0)]
    (hybrid,) = wh.rows("SELECT * FROM v_hybrid_sweep")
    assert hybrid["d_factual_truth_corr_none"] == pytest.approx(0.0365)
    assert wh.rows("SELECT phase, seconds FROM hybrid_phases") == [{"phase": "weight_space", "seconds": 12.5}]
    attacked = wh.rows("SELECT scale, before_refusal_auc_none AS before FROM v_attack_defense ORDER BY scale")
    assert [row["before"] for row in attacked] == [0.3, 0.3]
    merged = wh.rows(
        "SELECT d_factual_gap_none AS d, d_toxicity_gap_none AS t FROM v_alignment WHERE seed IN (2, 3) ORDER BY run_id"
    )
    assert [(row["d"], row["t"]) for row in merged if row["d"] is not None] == [
        (pytest.approx(0.02222), None), (pytest.approx(0.03333), None), (pytest.approx(0.12222), None)
    ]  # fmt: skip


def test_unknown_keys_are_kept_and_counted(wh, tmp_path):
    value = sample(SWEEP)
    value |= {"lab": "3rd floor"}
    value["runs"][0]["gpu temperature"] = [71, float("nan")]
    value["config"]["note"] = "no-margin control"
    report = ingest(wh, [write_file(tmp_path, SWEEP, value)])
    assert report.total("extra") == 2 + 1 + 1  # rho_weights, the planned doses, has no column either
    (run,) = wh.rows("SELECT extra FROM runs WHERE extra IS NOT NULL")
    assert json.loads(run["extra"]) == {"gpu temperature": [71, "nan"]}
    (source,) = wh.rows("SELECT extra, runs_read, runs_added FROM sources")
    assert json.loads(source["extra"]) == {
        "lab": "3rd floor", "note": "no-margin control", "rho_weights": [0, 0.2]
    }  # fmt: skip
    assert (source["runs_read"], source["runs_added"]) == (3, 3)


def test_every_run_has_an_address_in_a_file(wh, tmp_path):
    path = write_file(tmp_path, SWEEP, sample(SWEEP))
    ingest(wh, [path])
    found = wh.rows("SELECT place, path, sha256 FROM run_sources JOIN sources ON sources.id = source_id ORDER BY place")
    assert [row["place"] for row in found] == ["$.runs[0]", "$.runs[1]", "$.runs[2]"]
    assert {row["path"] for row in found} == {str(path)}


def test_a_merged_file_and_its_parts_are_the_same_runs(wh, tmp_path):
    whole = sample(SWEEP)
    part = sample(SWEEP)
    part["runs"] = part["runs"][:1]
    del part["runs"][0]["quick_scores"]["bias"], part["runs"][0]["quick_deltas"]["bias"]
    ingest(wh, [write_file(tmp_path, "alignment/part.json", part)])
    report = ingest(wh, [write_file(tmp_path, "alignment/whole.json", whole)])
    assert (report.total("added"), report.total("already"), report.total("completed")) == (2, 1, 1)
    # The part lacked a behavior, which the whole brought.
    sql = "SELECT bias_gap_none AS bias FROM v_alignment WHERE rho_weight = 0"
    assert wh.rows(sql) == [{"bias": 0.03}]


@pytest.mark.parametrize(("policy", "value"), [("report", 0.61234), ("keep", 0.61234), ("replace", 0.7)])
def test_a_changed_file_is_a_conflict_and_nothing_changes_silently(wh, tmp_path, policy, value):
    path = write_file(tmp_path, SWEEP, sample(SWEEP))
    ingest(wh, [path])
    changed = sample(SWEEP)
    changed["runs"][0]["quick_scores"]["factual"] = 0.7
    changed["runs"][0]["quick_deltas"]["factual"] = 0.1
    write_file(tmp_path, SWEEP, changed)
    report = ingest(wh, [path], on_conflict=policy)
    (conflict,) = report.files[0].conflicts
    assert ("factual gap", 0.61234, 0.7) in conflict.differences and conflict.place == "$.runs[0]"
    assert bool(report.problems) == (policy == "report")
    (row,) = wh.rows("SELECT factual_gap_none AS v, bias_gap_none AS b FROM v_alignment WHERE rho_weight = 0")
    assert row == {"v": value, "b": 0.03}
    assert count(wh, "alignment_runs") == 3 and check(wh) == []
    again = ingest(wh, [path])
    assert again.files[0].status == ("conflict" if policy == "report" else "known")
    assert ingest(wh, [path], on_conflict="replace").problems == []


def test_the_same_settings_with_other_results_elsewhere_are_kept_as_a_repeat(wh, tmp_path):
    other = sample(SWEEP)
    other["runs"] = [other["runs"][0]]
    other["runs"][0]["quick_scores"]["factual"] = 0.7
    report = ingest(
        wh, [write_file(tmp_path, SWEEP, sample(SWEEP)), write_file(tmp_path, "alignment/again.json", other)]
    )
    assert report.problems == [] and report.total("repeated") == 1
    rows = wh.rows("SELECT repeat, factual_gap_none AS v FROM v_alignment WHERE rho_weight = 0 ORDER BY repeat")
    assert [tuple(row.values()) for row in rows] == [(0, 0.61234), (1, 0.7)]


def broken(name: str, change) -> tuple[str, object]:
    value = sample(name)
    change(value)
    return name, value


BROKEN = [
    (*broken(SWEEP, lambda v: v["runs"][1].update(seed="42a")), "$.runs[1].seed", "expected a seed"),
    (*broken(SWEEP, lambda v: v["runs"][1].pop("seed")), "$.runs[1].seed", "is missing"),
    (*broken(SWEEP, lambda v: v["runs"][1].update(seed=True)), "$.runs[1].seed", "a flag"),
    (*broken(SWEEP, lambda v: v["runs"][1].update(seed=-1)), "$.runs[1].seed", "got -1"),
    (*broken(SWEEP, lambda v: v["runs"][1].update(rho_weight=float("nan"))), "$.runs[1].rho_weight", "finite"),
    (*broken(SWEEP, lambda v: v["runs"][0]["quick_scores"].update(bias="0,1")),
     "$.runs[0].quick_scores.bias", "expected a number"),
    (*broken(SWEEP, lambda v: v["runs"][0]["quick_scores"].update(bias=float("inf"))),
     "$.runs[0].quick_scores.bias", "finite"),
    (*broken(SWEEP, lambda v: v["runs"][0].update(condition="guided")), "$.runs[0].condition", "known are sft-only"),
    (*broken(SWEEP, lambda v: v["runs"].append([])), "$.runs[3]", "expected an object"),
    (*broken(SWEEP, lambda v: v["runs"][1].pop("quick_deltas")), "$.runs[1]", "neither"),
    (*broken(SWEEP, lambda v: v.pop("model")), "$.model", "is missing"),
    (*broken(SWEEP, lambda v: v["config"].update(margin="much")), "$.config.margin", "the text 'much'"),
    (*broken("alignment/merged.json", lambda v: v["merged_deltas"]["sft-only"].update(bias=[1, 2, 3, 4])),
     "$.merged_deltas['sft-only'].bias", "4 differences for 3 seeds"),
    (*broken("steering/heatmap_m.json", lambda v: v["sweep"][0]["results"]["bias"].update(rho=1.5)),
     "$.sweep[0].results.bias", "choice_accuracy must lie between"),
    (*broken("steering/heatmap_m.json", lambda v: v["sweep"][0].pop("layer")), "$.sweep[0].layer", "is missing"),
    (*broken("hybrid_sweep/m/cr0.7/hybrid_result.json", lambda v: v.pop("config")), "$.config", "is missing"),
    (*broken("hybrid_sweep/m/cr0.7/hybrid_result.json", lambda v: v["audit_after"].update(toxicity=7)),
     "$.audit_after.toxicity", "auc must lie"),
    (*broken("fidelity_bench_m.json", lambda v: v["categories"].append(v["categories"][0])),
     "$.categories[1]", "twice"),
    (*broken("alignment/safety_stress_test_m.json", lambda v: v["conditions"]["baseline"].update(jailbreak_refused=3)),
     "$.conditions.baseline.jailbreak_refused", "3 refused of 2"),
    ("alignment/x.json", "", None, "empty"),
    ("alignment/x.json", '{"model": "m", "runs": [', None, "cut off"),
    ("alignment/x.json", '{"model": "m", "runs": []} trailing', None, "no JSON"),
    ("alignment/x.json", '{"model": "\\ud800", "runs": [], "x": NaN}', None, "half a character"),
    ("alignment/x.json", "[" * 100_000, None, "nested too deeply"),
]  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_refused_with_its_place_and_the_others_go_in(wh, tmp_path, case):
    name, value, path, reason = case
    write_file(tmp_path / "results", name, value)
    write_file(tmp_path / "results", "cf90_multiseed_m.json", sample("cf90_multiseed_m.json"))
    report = ingest(wh, [tmp_path / "results"])
    (problem,) = report.problems
    assert problem.json_path == path and reason in problem.reason, (problem.json_path, problem.reason)
    assert count(wh, "cf90_multiseed") == 1 and count(wh) == 2 and count(wh, "sources") == 1


def test_strict_writes_nothing_when_anything_is_broken(wh, tmp_path):
    root = write_tree(tmp_path / "results")
    write_file(root, "alignment/zz.json", "{")
    report = ingest(wh, [root], strict=True)
    assert len(report.problems) == 1 and not report.written
    assert count(wh) == count(wh, "sources") == count(wh, "models") == 0
    (root / "alignment/zz.json").unlink()
    assert ingest(wh, [root], strict=True).written and count(wh, "sources") == len(FILES)


def test_a_dry_run_shows_what_would_happen_and_writes_nothing(wh, tmp_path):
    root = write_tree(tmp_path / "results")
    dry = ingest(wh, [root], dry_run=True)
    assert count(wh) == count(wh, "sources") == count(wh, "models") == 0
    real = ingest(wh, [root])
    assert [(file.status, file.added, file.already) for file in dry.files] == [
        (file.status, file.added, file.already) for file in real.files
    ]


def test_other_files_in_a_tree_are_passed_over_but_a_named_one_must_be_a_result(wh, tmp_path):
    write_file(tmp_path, "alignment/todo.json", {"todo": ["buy milk"]})
    write_file(tmp_path, "config/app.json", "not json at all")
    report = ingest(wh, [tmp_path])
    assert {file.status for file in report.files} == {"passed over"} and report.problems == []
    report = ingest(wh, [tmp_path / "config" / "app.json"])
    assert report.files[0].status == "broken"
    with pytest.raises(InputError, match="does not exist"):
        ingest(wh, [tmp_path / "nowhere"])


def test_a_result_file_is_recognised_by_its_contents_wherever_it_lies(wh, tmp_path):
    for i, name in enumerate(FILES):
        write_file(tmp_path, f"inbox/{i} 'odd' näme.json", sample(name))
    report = ingest(wh, [tmp_path / "inbox"])
    assert report.problems == [] and all(file.status == "added" for file in report.files)


def test_a_file_name_that_is_no_text_is_refused(wh, tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.json"))
    path.write_text(json.dumps(sample(SWEEP)))
    report = ingest(wh, [tmp_path])
    assert next(file.reason for file in report.problems + report.files).startswith("the file's name is not UTF-8")


INGEST = """
import sys
from pathlib import Path
import rhodb
from rhodb.ingest import ingest
with rhodb.open(sys.argv[1]) as wh:
    print("open", flush=True)
    ingest(wh, [Path(sys.argv[2])])
    print("done", flush=True)
"""


def test_killed_at_any_moment_it_leaves_whole_files_and_the_same_command_goes_on(tmp_path, python):
    tree = tmp_path / "steering"
    for k in range(30):
        value = sample("steering/heatmap_m.json")
        value["model_id"] = f"lab/m{k}"
        value["sweep"] = [{**value["sweep"][0], "layer": layer} for layer in range(100)]
        write_file(tree, f"heatmap_{k}.json", value)
    db = tmp_path / "master.db"
    for delay in (0.0, 0.05, 0.15):
        process = python(INGEST, db, tree)
        process.stdout.readline()
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        with Warehouse.open(db) as wh:
            runs = wh.rows("SELECT source_id, count(*) AS n FROM run_sources GROUP BY source_id")
            assert all(row["n"] == 100 for row in runs) and check(wh) == []
            assert count(wh, "steering_heatmap") == 100 * count(wh, "sources")
    with Warehouse.open(db) as wh:
        ingest(wh, [tree])
        assert count(wh, "steering_heatmap") == 3000 and check(wh) == []


def test_eight_processes_that_ingest_the_same_tree_add_it_once(tmp_path, python):
    tree = write_tree(tmp_path / "results")
    processes = [python(INGEST, tmp_path / "master.db", tree) for _ in range(8)]
    for process in processes:
        output, error = process.communicate(timeout=120)
        assert output.endswith("done\n") and process.returncode == 0, error
    with Warehouse.open(tmp_path / "master.db") as wh, Warehouse.open(tmp_path / "alone.db") as alone:
        ingest(alone, [tree])
        for table in ("runs", "behavior_scores", "sources", "run_sources", "stress_responses"):
            assert count(wh, table) == count(alone, table), table


def test_command(tmp_path, rhodb):
    write_tree(tmp_path / "results")
    write_file(tmp_path, "results/alignment/zz.json", "{")
    dry = rhodb("ingest", "results", "--dry-run")
    assert dry.returncode == 1 and not (tmp_path / "results" / "master.db").exists()
    done = rhodb("ingest", "results")
    assert done.returncode == 1 and "zz.json: the file: is cut off" in done.stderr
    assert "failed run" in done.stderr and "10 files added" in done.stdout
    again = rhodb("ingest", "results", "--json")
    report = json.loads(again.stdout)
    assert report["added"] == 0 and {file["status"] for file in report["files"]} == {"known", "broken"}
    assert rhodb("ingest", "results", "--on-conflict", "guess").returncode == 2
    assert rhodb("ingest", "nowhere").returncode == 2


def test_report_totals():
    assert IngestReport().total("added") == 0 and IngestReport().problems == []
