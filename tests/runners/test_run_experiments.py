"""Dose-response, margin sweep, mixture, duration: what they train, what they share, what they store."""

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest


def query(db: Path, sql: str) -> list[tuple]:
    with closing(sqlite3.connect(db)) as connection:
        return connection.execute(sql).fetchall()


@pytest.fixture(scope="module")
def lab(tmp_path_factory, tiny_model_folder, tiny_probes_folder):
    """A folder with one warehouse, and a function that runs an experiment in it and returns its report."""
    folder = tmp_path_factory.mktemp("lab")

    def run(name: str, *arguments: str) -> dict:
        command = [
            sys.executable, "-m", "rhodb", "run", name, "--preset", "quick", "--model", str(tiny_model_folder),
            "--probes", str(tiny_probes_folder), "--sft-size", "6", "--max-length", "64", "--seeds", "1", "--json",
        ]  # fmt: skip
        done = subprocess.run([*command, *arguments], cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    run("ablation", "--conditions", "sft-only,rho-guided")
    return folder / "results" / "master.db", run


def test_a_dose_response_trains_only_what_the_ablation_has_not(lab):
    db, run = lab
    report = run("dose-response", "--rho-weights", "0,0.1,0.2")
    assert report["executed"] == ["rho-guided λ=0.1 γ=0.1 seed 1"]
    assert report["already_done"] == ["baseline", "sft-only seed 1", "rho-guided λ=0.2 γ=0.1 seed 1"]
    doses = query(db, "SELECT DISTINCT rho_weight FROM alignment_runs WHERE margin = 0.1 ORDER BY 1")
    assert doses == [(0.1,), (0.2,)]
    assert query(db, "SELECT count(*) FROM runs WHERE kind = 'baseline'") == [(1,)]


def test_a_margin_sweep_is_a_grid_whose_column_without_weight_is_one_run(lab):
    db, run = lab
    report = run("margin-sweep", "--margins", "0,0.1", "--rho-weights", "0,0.2,0.5")
    assert sorted(report["executed"]) == [
        "rho-guided λ=0.2 γ=0 seed 1",
        "rho-guided λ=0.5 γ=0 seed 1",
        "rho-guided λ=0.5 γ=0.1 seed 1",
    ]
    assert sorted(report["already_done"]) == ["baseline", "rho-guided λ=0.2 γ=0.1 seed 1", "sft-only seed 1"]
    hinges = dict(
        query(
            db,
            "SELECT margin, sum(rho_loss) FROM train_steps JOIN alignment_runs USING (run_id) "
            "WHERE rho_weight = 0.5 GROUP BY 1",
        )
    )
    assert 0 <= hinges[0.0] < hinges[0.1]


def test_a_mixture_changes_the_share_of_refusals_and_nothing_else(lab):
    db, run = lab
    report = run("mixture", "--refusal-shares", "0.1,0.5", "--conditions", "sft-only")
    assert report["executed"] == ["sft-only refusals=0.5 seed 1"]
    assert report["already_done"] == ["baseline", "sft-only refusals=0.1 seed 1"]
    first, second = (
        json.loads(config)
        for (config,) in query(
            db, "SELECT config FROM runs JOIN alignment_runs ON run_id = id WHERE condition = 'sft-only' ORDER BY id"
        )
    )
    assert {key for key in first if first[key] != second[key]} == {"refusal_share"}
    ce = query(
        db,
        "SELECT sum(ce_loss) FROM train_steps JOIN alignment_runs USING (run_id) "
        "WHERE condition = 'sft-only' GROUP BY run_id",
    )
    assert ce[0] != ce[1]


def test_a_longer_training_is_scored_at_every_epoch_on_the_way_and_the_short_one_is_shared(lab):
    db, run = lab
    report = run("duration", "--epochs", "1,3", "--conditions", "rho-guided")
    assert report["executed"] == ["rho-guided λ=0.2 γ=0.1 epochs=3 seed 1"]
    long = "SELECT run_id FROM alignment_runs WHERE epochs = 3"
    assert query(db, f"SELECT steps FROM alignment_runs WHERE run_id IN ({long})") == [(9,)]
    marks = query(db, f"SELECT DISTINCT step, epochs FROM checkpoint_scores WHERE run_id IN ({long}) ORDER BY 1")
    assert marks == [(3, 1.0), (6, 2.0)]
    per_mark = query(db, "SELECT count(*) FROM checkpoint_scores GROUP BY step")
    assert per_mark == query(db, f"SELECT count(*) FROM behavior_scores WHERE run_id IN ({long})") * 2
    gaps = query(
        db, "SELECT value FROM checkpoint_scores WHERE metric = 'gap' AND behavior = 'bias' AND split = 'eval'"
    )
    assert len({value for (value,) in gaps}) == 2


def test_scores_on_the_way_do_not_change_where_the_training_ends(lab):
    db, run = lab
    for marks in ("1", "0"):
        run("duration", "--epochs", "3", "--conditions", "rho-guided", "--checkpoints-per-epoch", marks)
    ends = query(
        db,
        "SELECT behavior, metric, split, count(DISTINCT value) FROM behavior_scores "
        "JOIN alignment_runs USING (run_id) WHERE epochs = 3 GROUP BY 1, 2, 3 HAVING count(*) = 2",
    )
    assert len(ends) > 10 and {distinct for *_, distinct in ends} == {1}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["dose-response", "--rho-weight", "0.2"], "--rho-weight"),
        (["dose-response", "--rho-weights", "0.1,-1"], "--rho-weights"),
        (["dose-response", "--rho-weights", "0.1,0.1"], "given twice"),
        (["margin-sweep", "--margins", "nan"], "--margins"),
        (["mixture", "--refusal-shares", "1.5"], "--refusal-shares"),
        (["duration", "--epochs", "0"], "--epochs"),
        (["duration", "--epochs", "1,1"], "given twice"),
    ],
)
def test_a_wrong_grid_is_one_sentence_and_exit_code_2(rhodb, tmp_path, arguments, message):
    wrong = rhodb("run", *arguments)
    assert wrong.returncode == 2, wrong.stderr
    assert message in wrong.stderr and "Traceback" not in wrong.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_varied_option_is_refused_in_a_file_too(rhodb, tmp_path):
    (tmp_path / "study.toml").write_text("rho-weight = 0.3\n")
    wrong = rhodb("run", "dose-response", "--config", "study.toml")
    assert wrong.returncode == 2 and "give --rho-weights instead" in wrong.stderr
