"""Kill -9 in the middle of a grid, start the same command again: the tables are those of an uninterrupted run."""

import json
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from experiments import EXPERIMENTS, options_of, session_of
from tiny_model import make_tiny_model, save_tiny_model

from rhodb.warehouse import Warehouse
from runners.executor import Executor, Report
from runners.provenance import collect
from runners.reporting import PlainReporter

FAMILIES = {
    "freeze-sweep": "freeze_sweep",
    "cf90": "cf90_multiseed",
    "steering": "steering_heatmap",
    "attack-defense": "attack_defense",
    "hybrid": "hybrid_sweep",
    "leaderboard": "leaderboard",
    "fidelity-bench": "fidelity_categories",
}
SCORED = (
    "SELECT uuid, p.key, side, s.split, s.tokens, ce, answer_ce FROM probe_scores s "
    "JOIN runs ON runs.id = s.run_id JOIN probes p ON p.id = s.probe_id ORDER BY 1, 2, 3"
)
DEADLY = """
import json, os, signal, sys
from runners import attack_session, executor, freeze_session, leaderboard_session, reporting  # once for all
from rhodb.cli.main import main

class Deadly(reporting.PlainReporter):
    def scored(self, cell, done, total):
        if self._count == moment:
            os.kill(os.getpid(), signal.SIGKILL)

reporting.PlainReporter = Deadly
for moment, sys.argv in json.load(sys.stdin):
    child = os.fork()
    if child == 0:
        main()
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
"""Each of several command lines in a process that is killed while it scores its n-th cell."""


def contents(db: Path, runner: str) -> dict[str, list[tuple]]:
    """Everything that must not depend on how often a run was started: rows with uuids in the place of run ids."""
    with closing(sqlite3.connect(db)) as connection:
        family = FAMILIES[runner]
        columns = [c for _, c, *_ in connection.execute(f"PRAGMA table_info({family})") if c != "run_id"]
        own = f"SELECT uuid, {', '.join(columns)} FROM {family} JOIN runs ON runs.id = run_id ORDER BY 1, 2"
        return {
            "runs": connection.execute("SELECT uuid, state, error FROM runs ORDER BY 1").fetchall(),
            "family": connection.execute(own).fetchall(),
            "probes": connection.execute(SCORED).fetchall(),
        }


def run_here(runner: str, options: dict[str, str], db: Path) -> Report:
    with Warehouse.open(str(db)) as warehouse:
        provenance = collect(device="cpu", blas="")
        return Executor(session_of(runner, options), warehouse, PlainReporter(0.0), provenance=provenance).run()


@pytest.fixture(scope="module")
def killed(tmp_path_factory, tiny_model_folder, tiny_probes_folder):
    """Runner -> (its options, number of the cell at which it was killed, the database it left behind)."""
    root = tmp_path_factory.mktemp("killed")
    other = save_tiny_model(tmp_path_factory.mktemp("another"), make_tiny_model(7))
    left, commands = {}, []
    for runner in EXPERIMENTS:
        options = options_of(runner, tiny_model_folder, tiny_probes_folder, other)
        moment, db = min(len(session_of(runner, options).cells), 3), root / f"{runner}.db"
        given = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", value)]
        commands.append((moment, ["rhodb", "run", runner, "--preset", "quick", *given, "--db", str(db)]))
        left[runner] = (options, moment, db)
    done = subprocess.run(
        [sys.executable, "-c", DEADLY], input=json.dumps(commands), capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == [str(-signal.SIGKILL)] * len(commands), done.stderr
    return left


@pytest.mark.parametrize("runner", EXPERIMENTS)
def test_a_grid_that_was_killed_goes_on_and_ends_like_any_other(runner, killed, tmp_path):
    options, moment, db = killed[runner]
    with closing(sqlite3.connect(db)) as connection:
        states = dict(connection.execute("SELECT state, count(*) FROM runs GROUP BY 1"))
    assert states.pop("running") == 1 and states.pop("done", 0) == moment - 1
    reference = run_here(runner, options, tmp_path / "whole.db")
    resumed = run_here(runner, options, db)
    assert len(resumed.already_done) == moment - 1
    assert len(resumed.executed) == len(reference.executed) - (moment - 1)
    assert contents(db, runner) == contents(tmp_path / "whole.db", runner)
