"""The sample tree of legacy results goes in whole; counts and numbers are those worked out from the files."""

import json
import shutil
import statistics

import pytest
from sample_tree import SHARED, needs_sample

from rhodb.check import check
from rhodb.ingest import ingest
from rhodb.warehouse import Warehouse

pytestmark = needs_sample


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    with Warehouse.open(tmp_path_factory.mktemp("sample") / "master.db") as wh:
        yield wh, ingest(wh, [SHARED / "legacy_sample"])


def test_every_file_is_read_and_every_run_stands_once(sample):
    wh, report = sample
    assert len(report.files) == 45 and report.problems == []
    read: dict[str, int] = {}
    for table, kind in (("alignment_runs", "alignment"), ("hybrid_sweep", "hybrid"), ("cf90_multiseed", "cf90")):
        sql = f"SELECT count(*) AS n FROM runs JOIN {table} ON run_id = id WHERE kind = '{kind}'"
        read[table] = wh.rows(sql)[0]["n"]
    # The copy of six Mistral runs adds nothing; the second run of one hybrid setting is kept beside the first.
    assert read == {"alignment_runs": 90, "hybrid_sweep": 20, "cf90_multiseed": 12}
    alignment = sum(
        file.read for file in report.files if "alignment" in str(file.path) and "stress" not in file.path.name
    )
    assert alignment == 96
    (copy,) = [file for file in report.files if file.path.name.endswith("_backup.json")]
    assert (copy.status, copy.already, copy.added) == ("known", 6, 0)
    by_behavior = {
        kind: wh.rows(
            "SELECT count(*) AS n FROM behavior_scores JOIN runs ON runs.id = run_id "
            f"WHERE metric <> 'retention' AND (kind = '{kind}' OR run_id IN (SELECT run_id FROM {table}))"
        )[0]["n"]
        for kind, table in (
            ("steering", "steering_heatmap"),
            ("freeze", "freeze_sweep"),
            ("leaderboard", "leaderboard"),
        )
    }
    # One layer has no rho; four "shares" are negative: reported, kept beside their runs, and no scores.
    assert by_behavior == {"steering": 80, "freeze": 60, "leaderboard": 26}
    below = [warning for file in report.files for warning in file.warnings if "no share" in warning]
    assert len(below) == 4 and "$.model_01_merged: sycophancy is -0.0674" in below[0]
    kept = [json.loads(row["extra"]) for row in wh.rows("SELECT extra FROM runs WHERE extra LIKE '%below_0%'")]
    assert [extra["choice_accuracy_below_0"]["sycophancy"][0] for extra in kept] == [-0.0674, -0.0413, -0.0354, -0.025]
    assert wh.rows("SELECT count(*) AS n FROM attack_defense")[0]["n"] == 18
    assert wh.rows("SELECT count(*) AS n FROM v_fidelity_bench")[0]["n"] == 12
    assert check(wh) == []


def test_failed_runs_are_failed_runs(sample):
    wh, report = sample
    assert sum(len(file.failed_runs) for file in report.files) == 2
    failed = wh.rows(
        "SELECT seed, rho_weight, error FROM runs JOIN alignment_runs ON run_id = id WHERE state = 'failed'"
    )
    assert {(row["seed"], row["rho_weight"]) for row in failed} == {(456, 0.1), (789, 0.5)}
    assert all("metal::malloc" in row["error"] for row in failed)
    assert (
        wh.rows("SELECT count(*) AS n FROM behavior_scores JOIN runs ON id = run_id WHERE state = 'failed'")[0]["n"]
        == 0
    )


FACTUAL = """
SELECT rho_weight, seed, d_factual_gap_none AS delta FROM v_alignment
WHERE model = 'Qwen/Qwen2.5-7B-Instruct' AND margin = 0.1 AND experiment LIKE 'mlx_rho_sft_sweep%' AND state = 'done'
"""
TRUTH_MEANS = {0.0: 0.0786, 0.1: 0.1168, 0.2: 0.161, 0.5: 0.3106}
"""Mean Δ factual by λ, from sample_truth.json."""


def test_means_of_the_dose_sweep(sample):
    wh, _ = sample
    rows = wh.rows(FACTUAL)
    for dose, mean in TRUTH_MEANS.items():
        deltas = [row["delta"] for row in rows if row["rho_weight"] == dose]
        assert len(deltas) == 5 and statistics.fmean(deltas) == pytest.approx(mean, abs=1e-9)


def test_a_gap_is_never_a_correlation_and_metrics_follow_the_format(sample):
    wh, _ = sample
    found = wh.rows(
        "SELECT DISTINCT kind, behavior, metric FROM behavior_scores JOIN runs ON id = run_id "
        "WHERE metric <> 'retention'"
    )
    metrics: dict[str, set[str]] = {}
    for row in found:
        metrics.setdefault(row["kind"], set()).add(row["metric"])
    assert metrics["alignment"] == {"gap"} and "gap" not in metrics["hybrid"] | metrics["steering"]
    hybrid = {row["behavior"]: row["metric"] for row in found if row["kind"] == "hybrid"}
    assert hybrid == {
        "factual": "truth_corr", "toxicity": "auc", "bias": "choice_accuracy", "sycophancy": "choice_accuracy",
        "reasoning": "choice_accuracy", "refusal": "auc", "deception": "auc", "overrefusal": "answer_rate",
    }  # fmt: skip
    assert wh.rows("SELECT DISTINCT split FROM behavior_scores") == [{"split": "none"}]


def test_missing_is_missing(sample):
    wh, _ = sample
    truth = json.loads((SHARED / "reference" / "sample_truth.json").read_text())["counts"]
    for behavior, missing in truth["missing_deltas_in_measured_runs"].items():
        # The truth counts the six copied runs twice; they lack reasoning in no case, deception and overrefusal always.
        rows = wh.rows(f"SELECT d_{behavior}_gap_none AS delta FROM v_alignment WHERE state = 'done'")
        copied = 6 if behavior in ("deception", "overrefusal") else 0
        assert sum(row["delta"] is None for row in rows) == missing - copied, behavior


def test_unknown_seeds_are_numbered_and_marked(sample):
    wh, _ = sample
    rows = wh.rows("SELECT seed, seed_known FROM runs WHERE experiment = 'ablation_llama_pilot' ORDER BY id")
    assert [(row["seed"], row["seed_known"]) for row in rows] == [(0, 0), (1, 0)] * 2


def test_sft_only_has_no_weight_and_a_sweep_without_conditions_is_rho_guided(sample):
    wh, _ = sample
    assert wh.rows("SELECT DISTINCT rho_weight FROM alignment_runs WHERE condition = 'sft-only'") == [
        {"rho_weight": 0.0}
    ]
    sql = "SELECT DISTINCT condition, rho_weight > 0 AS dosed FROM v_alignment WHERE experiment LIKE 'rho_sft_sweep%'"
    assert {(row["condition"], row["dosed"]) for row in wh.rows(sql)} == {("sft-only", 0), ("rho-guided", 1)}


def test_freeze_runs_are_compared_with_the_entry_of_the_untouched_model(sample):
    wh, _ = sample
    rows = wh.rows("SELECT * FROM v_freeze_sweep ORDER BY compress_ratio, freeze_ratio")
    assert len(rows) == 12
    flat = next(row for row in rows if row["compress_ratio"] == 1 and row["freeze_ratio"] == 0.5)
    assert flat["fine_tuned"] == 0 and flat["before_factual_truth_corr_none"] == 0.3898
    assert flat["d_factual_truth_corr_none"] == pytest.approx(0.0044)
    old = [row for row in rows if row["compress_ratio"] == 0.5]
    assert len(old) == 2 and all(row["d_factual_truth_corr_none"] is None for row in old)  # no baseline in that file


def test_again_elsewhere_reformatted_or_with_fewer_digits_adds_nothing(sample, tmp_path):
    wh, first = sample
    before = wh.rows("SELECT count(*) AS n FROM runs")
    tree = shutil.copytree(SHARED / "legacy_sample" / "results", tmp_path / "else where" / "results")
    report = ingest(wh, [tree])
    assert {file.status for file in report.files} == {"known"} and report.total("added") == 0
    assert report.total("read") == first.total("read")
    for path in tree.rglob("*.json"):
        value = json.loads(path.read_text(), object_pairs_hook=lambda pairs: dict(reversed(pairs)))
        path.write_text(json.dumps(rounded(value) if path.parent.name == "alignment" else value, indent=7))
    report = ingest(wh, [tree])
    assert report.problems == [] and report.total("added") == 0 and report.total("already") == first.total("read")
    assert wh.rows("SELECT count(*) AS n FROM runs") == before


def rounded(value):
    """Numbers with four decimals instead of five."""
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [rounded(inner) for inner in value]
    return round(value, 4) if isinstance(value, float) else value


def test_the_order_of_files_does_not_matter(sample, tmp_path):
    wh, _ = sample
    sql = (
        "SELECT models.key, kind, seed, config, behavior, metric, value FROM behavior_scores "
        "JOIN runs ON runs.id = run_id JOIN models ON models.id = model_id"
    )
    files = sorted((SHARED / "legacy_sample").rglob("*.json"), reverse=True)
    with Warehouse.open(tmp_path / "other.db") as other:
        ingest(other, files)
        rows = [sorted(tuple(row.values()) for row in w.rows(sql)) for w in (wh, other)]
    assert rows[0] == rows[1]


def test_broken_files_are_refused_one_by_one(tmp_path):
    tree = shutil.copytree(SHARED / "legacy_broken" / "results", tmp_path / "results")
    good = SHARED / "legacy_sample" / "results" / "cf90_multiseed_Mistral-7B-Instruct-v0.3.json"
    shutil.copy(good, tree)
    with Warehouse.open(tmp_path / "master.db") as wh:
        report = ingest(wh, [tree])
        assert len(report.problems) == 10 and all(file.reason for file in report.problems)
        assert {row["kind"]: row["n"] for row in wh.rows("SELECT kind, count(*) AS n FROM runs GROUP BY kind")} == {
            "cf90": 2,
            "baseline": 2,
        }
        assert wh.rows("SELECT count(*) AS n FROM sources") == [{"n": 1}]
