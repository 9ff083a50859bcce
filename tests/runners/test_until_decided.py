"""`--until-decided` from the outside: real processes, a real (tiny) model, hypotheses registered before the runs."""

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from rhodb import hypotheses
from rhodb.warehouse import Warehouse


def rhodb(folder: Path, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "rhodb", *words], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def study(tmp_path_factory, tiny_model_folder, tiny_probes_folder):
    """A warehouse with three hypotheses and the command that decides them, run through."""
    folder = tmp_path_factory.mktemp("decided")
    model = str(tiny_model_folder)
    rhodb(folder, "hypothesis", "add", "moved", "--model", model, "--contrast", "rho-guided:baseline", "--behavior",
          "toxicity", "--direction", "different", "--margin", "0.001", "--looks", "2,3,4",
          "--max-seeds", "4")  # fmt: skip
    rhodb(folder, "hypothesis", "add", "same", "--kind", "equivalence", "--model", model, "--contrast",
          "shuffled-pairs:rho-guided", "--behavior", "toxicity", "--margin", "50", "--looks", "2,4",
          "--max-seeds", "4")  # fmt: skip
    rhodb(folder, "hypothesis", "add", "elsewhere", "--model", "another", "--contrast", "rho-guided:baseline",
          "--behavior", "toxicity", "--direction", "less", "--margin", "1")  # fmt: skip
    command = ["run", "ablation", "--preset", "quick", "--model", model, "--probes", str(tiny_probes_folder),
               "--sft-size", "6", "--max-length", "64", "--until-decided"]  # fmt: skip
    return folder, command, rhodb(folder, *command, "--json")


def rows(folder: Path, sql: str) -> list[tuple]:
    with closing(sqlite3.connect(folder / "results" / "master.db")) as connection:
        return connection.execute(sql).fetchall()


def test_only_the_cells_that_open_hypotheses_need_are_run(study):
    folder, _, done = study
    conditions = {c for (c,) in rows(folder, "SELECT DISTINCT condition FROM alignment_runs")}
    assert conditions == {"rho-guided", "shuffled-pairs"}
    states = {h["name"]: h for h in json.loads(done.stdout)["hypotheses"]}
    assert set(states) == {"moved", "same"} and "left out: elsewhere" in done.stderr
    assert states["same"]["state"] == "supported" and states["same"]["seeds_used"] == 2
    shuffled = rows(folder, "SELECT COUNT(*) FROM v_alignment WHERE condition = 'shuffled-pairs'")
    assert shuffled == [(2,)]


def test_a_look_rests_on_the_scores_of_its_seeds_in_the_registered_order(study):
    folder, _, _ = study
    with Warehouse.open(folder / "results" / "master.db") as wh:
        h = hypotheses.find(wh, "moved")
        last = hypotheses.looks_at(wh, h)[-1]
        scores = {
            r["seed"]: r["delta"]
            for r in wh.rows("SELECT seed, delta FROM v_scores WHERE condition = 'rho-guided' "
                             "AND behavior = 'toxicity' AND metric = 'gap' AND split = 'eval'")
        }  # fmt: skip
    np.testing.assert_allclose(last.differences, [scores[seed] for seed in h.seeds[: last.seeds]], atol=1e-15)
    assert last.mean == pytest.approx(np.mean(last.differences)) and len(last.runs) == last.seeds
    assert last.decision != "open"


def test_the_same_command_again_runs_and_looks_at_nothing(study):
    folder, command, _ = study
    before = rows(folder, "SELECT * FROM hypothesis_looks ORDER BY 1, 2")
    again = json.loads(rhodb(folder, *command, "--json").stdout)
    assert again["blocks"] == 0
    assert rows(folder, "SELECT * FROM hypothesis_looks ORDER BY 1, 2") == before


def test_seeds_that_were_run_before_are_no_evidence(study):
    folder, command, _ = study
    model = command[command.index("--model") + 1]
    said = rhodb(folder, "hypothesis", "add", "late", "--model", model, "--contrast", "rho-guided:baseline",
                 "--behavior", "toxicity", "--direction", "less", "--margin", "1", code=2).stderr  # fmt: skip
    assert said.startswith("rhodb: seeds 1001, 1002") and "were run before" in said
    said = rhodb(folder, "hypothesis", "add", "odd", "--model", model, "--contrast", "rho-guided:baseline",
                 "--behavior", "reasoning", "--direction", "less", "--margin", "1", "--seeds", "7,8,9",
                 code=2).stderr  # fmt: skip
    assert "was never scored" in said
    assert rows(folder, "SELECT COUNT(*) FROM hypotheses") == [(3,)]


def test_limits_too_small_for_a_block_are_refused_before_anything_runs(study, tmp_path):
    _, command, _ = study
    model = command[command.index("--model") + 1]
    said = rhodb(tmp_path, *command, code=2).stderr
    assert "rhodb hypothesis add" in said
    rhodb(tmp_path, "hypothesis", "add", "q", "--model", model, "--contrast", "rho-guided:baseline", "--behavior",
          "toxicity", "--direction", "less", "--margin", "0.01")  # fmt: skip
    assert "too small for one block" in rhodb(tmp_path, *command, "--max-seeds", "2", code=2).stderr
    assert "too small for one block" in rhodb(tmp_path, *command, "--budget", "0.001s", code=2).stderr
    assert "a time such as 8h" in rhodb(tmp_path, *command, "--budget", "soon", code=2).stderr
    assert "seeds are those" in rhodb(tmp_path, *command, "--seeds", "1", code=2).stderr
    assert "go with --until-decided" in rhodb(tmp_path, *command[:-1], "--budget", "1h", code=2).stderr
    assert rows(tmp_path, "SELECT COUNT(*) FROM runs") == [(0,)]


def test_anomalies_tell_what_was_asked_beforehand_apart_from_what_was_seen(study):
    folder, _, _ = study
    said = rhodb(folder, "analyze", "anomalies").stdout
    asked, seen = said.index("Asked beforehand"), said.index("Seen on the way")
    assert asked < said.index("same") < seen
