"""`rhodb run ablation` from the outside: real processes, a real (tiny) model, a real warehouse.

The promise behind most of these: kill the process anywhere, start the same command again, and the tables are
the same as if nothing had happened.
"""

import json
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

SEEDS = ("--seeds", "1,2")
N_CELLS = 9

TABLES = {
    "runs": "SELECT uuid, kind, seed, config, state, error IS NULL FROM runs ORDER BY uuid",
    "scores": "SELECT uuid, behavior, metric, split, value, se, n FROM behavior_scores "
    "JOIN runs ON runs.id = run_id ORDER BY 1, 2, 3, 4",
    "probe_scores": "SELECT uuid, probes.key, side, probe_scores.split, tokens, ce, answer_ce FROM probe_scores "
    "JOIN runs ON runs.id = run_id JOIN probes ON probes.id = probe_id ORDER BY 1, 2, 3",
    "steps": "SELECT uuid, step, ce_loss, rho_loss, active_pairs, grad_norm FROM train_steps "
    "JOIN runs ON runs.id = run_id ORDER BY 1, 2",
    "alignment": "SELECT uuid, condition, rho_weight, margin, steps, updates, train_ce_loss FROM alignment_runs "
    "JOIN runs ON runs.id = run_id ORDER BY 1",
}
"""Everything that must not depend on when, where and in how many attempts a run was executed."""


def query(db: Path, sql: str) -> list[tuple]:
    with closing(sqlite3.connect(db)) as connection:
        return connection.execute(sql).fetchall()


def contents(db: Path) -> dict[str, list[tuple]]:
    return {name: query(db, sql) for name, sql in TABLES.items()}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_model_folder, tiny_probes_folder):
    """An uninterrupted run of the whole grid: its database, its JSON report and the command."""
    command = [
        "run", "ablation", "--preset", "quick", "--model", str(tiny_model_folder), "--probes", str(tiny_probes_folder),
        "--sft-size", "6", "--max-length", "64", *SEEDS,
    ]  # fmt: skip
    return run_through(tmp_path_factory.mktemp("uninterrupted"), command)


@pytest.fixture(scope="module")
def brief(tmp_path_factory, finished):
    """The same for two conditions and one seed, for tests that run the grid several times."""
    command = [*finished[2][: -len(SEEDS)], "--seeds", "1", "--conditions", "rho-guided,shuffled-pairs"]
    return run_through(tmp_path_factory.mktemp("brief"), command)


def run_through(folder: Path, command: list[str]) -> tuple[Path, dict, list[str]]:
    done = subprocess.run(
        [sys.executable, "-m", "rhodb", *command, "--json"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder / "results" / "master.db", json.loads(done.stdout), command


class Process:
    """A running `rhodb` whose plain progress lines can be waited for."""

    def __init__(self, folder: Path, command: list[str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "rhodb", *command],
            cwd=folder,
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.seen = ""

    def wait_for(self, text: str) -> None:
        for line in self.process.stderr:
            self.seen += line
            if text in line:
                return
        raise AssertionError(f"{text!r} was never printed:\n{self.seen}")

    def end(self, how: signal.Signals) -> int:
        self.process.send_signal(how)
        self.seen += self.process.communicate(timeout=60)[1]
        return self.process.returncode


def test_every_row_of_the_plan_is_there(finished):
    db, report, _ = finished
    assert len(report["runs"]) == N_CELLS == len(report["executed"])
    assert dict(query(db, "SELECT state, count(*) FROM runs GROUP BY 1")) == {"done": N_CELLS}
    arms = query(db, "SELECT condition, count(*) FROM alignment_runs GROUP BY 1 ORDER BY 1")
    assert arms == [("contrastive-only", 2), ("rho-guided", 2), ("sft-only", 2), ("shuffled-pairs", 2)]
    assert query(db, "SELECT count(*) FROM runs WHERE kind = 'baseline'") == [(1,)]
    assert query(db, "SELECT count(*) FROM runs WHERE baseline_run_id IS NULL AND kind <> 'baseline'") == [(0,)]
    assert {row["behavior"] for row in report["deltas"]} == {"factual", "toxicity", "bias", "sycophancy", "refusal"}
    assert query(db, "SELECT DISTINCT split FROM behavior_scores ORDER BY 1") == [("eval",), ("train",)]


def test_training_moved_the_scores_and_each_condition_has_its_own_losses(finished):
    db, _, _ = finished
    losses = query(
        db,
        "SELECT condition, min(ce_loss IS NOT NULL), min(rho_loss IS NOT NULL) FROM train_steps "
        "JOIN alignment_runs USING (run_id) GROUP BY 1 ORDER BY 1",
    )
    assert losses == [("contrastive-only", 0, 1), ("rho-guided", 1, 1), ("sft-only", 1, 0), ("shuffled-pairs", 1, 1)]
    moved = query(
        db, "SELECT max(abs(delta)) FROM v_scores WHERE metric = 'gap' GROUP BY run HAVING kind = 'alignment'"
    )
    assert all(delta > 0 for (delta,) in moved) and len(moved) == 8


def test_the_stored_metrics_are_those_of_the_stored_probe_scores(finished):
    db, _, _ = finished
    compared = query(
        db,
        "SELECT count(*), max(abs(s.value - r.value)), min(s.n = r.n) FROM behavior_scores s "
        "JOIN v_recomputed_scores r USING (run_id, behavior, metric, split)",
    )[0]
    assert compared[0] == query(db, "SELECT count(*) FROM behavior_scores")[0][0]
    assert compared[1] < 1e-9 and compared[2] == 1


def test_the_same_command_again_does_nothing(finished, rhodb):
    db, _, command = finished
    before = contents(db)
    again = rhodb(*command, "--json", cwd=db.parents[1])
    assert again.returncode == 0, again.stderr
    report = json.loads(again.stdout)
    assert report["executed"] == [] and len(report["already_done"]) == N_CELLS
    assert contents(db) == before


def test_the_same_seed_gives_identical_numbers_and_another_seed_others(finished, rhodb, tmp_path):
    db, _, command = finished
    assert rhodb(*command).returncode == 0
    assert contents(tmp_path / "results" / "master.db") == contents(db)
    by_seed = query(
        db, "SELECT seed, value FROM v_scores WHERE condition = 'sft-only' AND metric = 'gap' ORDER BY 1, 2"
    )
    assert {v for s, v in by_seed if s == 1}.isdisjoint({v for s, v in by_seed if s == 2})


def test_adapters_are_saved_where_the_row_says(finished):
    db, _, _ = finished
    paths = [Path(p) for (p,) in query(db, "SELECT adapter_path FROM alignment_runs")]
    assert {p.parent for p in paths} == {db.parent / "adapters"}
    assert all((p / "adapters.safetensors").is_file() and (p / "adapter_config.json").is_file() for p in paths)


def test_a_dry_run_prints_the_plan_and_writes_nothing(finished, rhodb, tmp_path):
    _, _, command = finished
    plan = rhodb(*command, "--dry-run", "--json")
    assert plan.returncode == 0, plan.stderr
    rows = json.loads(plan.stdout)
    assert [row["state"] for row in rows] == ["new"] * N_CELLS
    assert all(row["seconds"] > 0 for row in rows)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "moment",
    ["3 cells", "[1/3] baseline", "[2/3]", "step 1/3", "step 3/3", "[3/3]", "done in"],
    ids=["planned", "scoring", "before training", "training", "after training", "in the middle", "between"],
)
def test_killed_anywhere_the_same_command_goes_on(brief, tmp_path, rhodb, moment):
    db, _, command = brief
    victim = Process(tmp_path, command)
    victim.wait_for(moment)
    assert victim.end(signal.SIGKILL) == -signal.SIGKILL
    again = rhodb(*command)
    assert again.returncode == 0, again.stderr
    assert contents(tmp_path / "results" / "master.db") == contents(db)


def test_killed_between_spool_and_insert_nothing_is_computed_twice(brief, tmp_path, rhodb):
    db, _, command = brief
    mine = tmp_path / "results" / "master.db"
    victim = Process(tmp_path, command)
    victim.wait_for("[1/3] baseline")
    with closing(sqlite3.connect(mine, isolation_level=None)) as locker:
        locker.execute("BEGIN IMMEDIATE")  # the finished baseline can be spooled, but not inserted
        deadline = time.monotonic() + 60
        while not list((mine.parent / "spool").rglob("*-1.json.gz")):
            assert time.monotonic() < deadline, victim.seen
            time.sleep(0.01)
        victim.end(signal.SIGKILL)
        locker.execute("ROLLBACK")
    again = rhodb(*command)
    assert again.returncode == 0, again.stderr
    assert "1 done before" in again.stderr
    assert contents(mine) == contents(db)


def test_ctrl_c_gives_the_cell_back_and_says_how_to_go_on(finished, tmp_path, rhodb):
    db, _, command = finished
    victim = Process(tmp_path, command)
    victim.wait_for("step 1/3")
    assert victim.end(signal.SIGINT) == 130
    assert "the same command goes on" in victim.seen and "Traceback" not in victim.seen
    mine = tmp_path / "results" / "master.db"
    assert dict(query(mine, "SELECT state, count(*) FROM runs GROUP BY 1")).keys() == {"done", "planned"}
    assert rhodb(*command).returncode == 0
    assert contents(mine) == contents(db)


def test_two_processes_share_a_grid_and_do_every_cell_exactly_once(finished, tmp_path):
    db, _, command = finished
    both = [Process(tmp_path, [*command, "--json"]) for _ in range(2)]
    outputs = [p.process.communicate(timeout=120) for p in both]
    assert [p.process.returncode for p in both] == [0, 0], outputs
    executed = [json.loads(out)["executed"] for out, _ in outputs]
    assert len(executed[0]) + len(executed[1]) == N_CELLS == len({*executed[0], *executed[1]})
    mine = tmp_path / "results" / "master.db"
    assert query(mine, "SELECT DISTINCT attempt FROM runs") == [(1,)]
    assert contents(mine) == contents(db)


def test_a_failed_cell_keeps_its_error_and_the_others_go_on(finished, rhodb, tmp_path):
    _, _, command = finished
    diverging = [*command[:-1], "1", "--lr", "1e30", "--conditions", "sft-only,rho-guided"]
    failed = rhodb(*diverging)
    assert failed.returncode == 1
    assert "diverged" in failed.stderr and "Traceback" not in failed.stderr
    db = tmp_path / "results" / "master.db"
    states = query(db, "SELECT kind, state, count(*) FROM runs GROUP BY 1, 2 ORDER BY 1")
    assert states == [("alignment", "failed", 2), ("baseline", "done", 1)]
    assert all("step" in error for (error,) in query(db, "SELECT error FROM runs WHERE state = 'failed'"))
    assert query(db, "SELECT count(*) FROM alignment_runs") == [(0,)]

    left_alone = rhodb(*diverging)
    assert left_alone.returncode == 1 and "--retry-failed" in left_alone.stderr
    assert query(db, "SELECT max(attempt) FROM runs") == [(1,)]
    assert rhodb(*diverging, "--retry-failed").returncode == 1
    assert query(db, "SELECT DISTINCT attempt FROM runs WHERE state = 'failed'") == [(2,)]


def test_a_database_that_vanishes_costs_nothing(brief, tmp_path, rhodb):
    db, _, command = brief
    victim = Process(tmp_path, command)
    victim.wait_for("step 1/3")
    results = tmp_path / "results"
    for file in results.glob("master.db*"):
        file.unlink()
    victim.process.communicate(timeout=120)
    recovered = rhodb("runs", "recover")
    assert recovered.returncode == 0, recovered.stderr
    assert query(results / "master.db", "SELECT count(*) FROM runs WHERE state = 'done'")[0][0] >= 1
    assert rhodb(*command).returncode == 0
    assert contents(results / "master.db") == contents(db)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "gpt-17"], "unknown model 'gpt-17'"),
        (["--conditions", "magic"], "must be 'sft-only'"),
        (["--behaviors", "overrefusal"], "choose from"),
        (["--rho-weight", "0", "--conditions", "contrastive-only"], "would train nothing"),
        (["--lora-targets", "x_proj"], "q_proj"),
        (["--probes", "nowhere"], "probe folder 'nowhere' does not exist"),
        (["--sft-data", "nowhere.jsonl"], "nowhere.jsonl"),
        (["--config", "nowhere.toml"], "nowhere.toml"),
        (["--no-such-option", "1"], "--no-such-option"),
    ],
)
def test_a_wrong_input_is_one_sentence_exit_code_2_and_nothing_written(
    rhodb, tmp_path, tiny_ablation, arguments, message
):
    wrong = rhodb(*tiny_ablation, *arguments, HF_HUB_OFFLINE="1")
    assert wrong.returncode == 2, wrong.stderr
    assert message in wrong.stderr and "Traceback" not in wrong.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_said_before_anything_runs(rhodb, tmp_path, tiny_ablation):
    (tmp_path / "file").write_text("not a database, and longer than the header of one" * 10)
    wrong = rhodb(*tiny_ablation, "--db", "file")
    assert wrong.returncode == 2 and "not a database" in wrong.stderr
    wrong = rhodb(*tiny_ablation, "--db", "/proc/nowhere/master.db")
    assert wrong.returncode == 2 and "Traceback" not in wrong.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
