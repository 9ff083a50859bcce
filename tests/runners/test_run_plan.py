"""Plans, status, and the same plan on a Dask cluster: every cell once, the same tables."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from rhodb.status import status
from rhodb.warehouse import Warehouse
from runners.plans import PlanSession, read_plan

SCORES = (
    "SELECT uuid, behavior, metric, split, value, se, n FROM behavior_scores JOIN runs ON runs.id = run_id "
    "ORDER BY 1, 2, 3, 4"
)
LABELS = 4
"""baseline, sft-only, λ = 0.2 of both experiments, λ = 0.1"""


def query(db: Path, sql: str) -> list[tuple]:
    with closing(sqlite3.connect(db)) as connection:
        return connection.execute(sql).fetchall()


def write_plan(folder: Path, model: Path, probes: Path, *, sft_size: int = 6) -> Path:
    file = folder / "study ü.toml"
    file.write_text(
        f"preset = 'quick'\nmodel = {json.dumps(str(model))}\nprobes = {json.dumps(str(probes))}\n"
        f"seeds = [1]\nsft-size = {sft_size}\nmax-length = 64\n"
        "[[run]]\nrunner = 'ablation'\nconditions = ['sft-only', 'rho-guided']\n"
        "[[run]]\nrunner = 'dose-response'\nrho-weights = [0, 0.1, 0.2]\n",
        encoding="utf-8",
    )
    return file


@pytest.fixture(scope="module")
def alone(tmp_path_factory, tiny_model_folder, tiny_probes_folder):
    """The plan run by one process: its warehouse, report and file."""
    folder = tmp_path_factory.mktemp("alone")
    file = write_plan(folder, tiny_model_folder, tiny_probes_folder)
    command = [sys.executable, "-m", "rhodb", "run", "--plan", str(file), "--json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "results" / "master.db", json.loads(done.stdout), file


def test_a_cell_that_two_runs_ask_for_is_run_once(alone):
    db, report, _ = alone
    assert len(report["executed"]) == LABELS == len(set(report["executed"]))
    assert report["executed"][0] == "baseline"
    assert query(db, "SELECT state, count(*) FROM runs GROUP BY 1") == [("done", LABELS)]


def test_needed_cells_come_first_and_then_the_longest(tiny_model_folder, tiny_probes_folder, tmp_path):
    session = PlanSession(read_plan(write_plan(tmp_path, tiny_model_folder, tiny_probes_folder)))
    baseline, *others = session.cells
    assert baseline.label == "baseline"
    assert [cell.work for cell in others] == sorted((cell.work for cell in others), reverse=True)
    assert others[-1].label == "sft-only seed 1"
    first, second = session.sessions
    assert first.loaded is second.loaded


def test_rhodb_plan_shows_cells_and_states_and_writes_nothing(alone, rhodb, tmp_path):
    db, _, file = alone
    new = rhodb("plan", file, "--json")
    assert new.returncode == 0, new.stderr
    assert [row["state"] for row in json.loads(new.stdout)] == ["new"] * LABELS
    assert list(tmp_path.iterdir()) == []
    done = rhodb("plan", file, "--json", "--db", db)
    assert {row["state"] for row in json.loads(done.stdout)} == {"done"}


def test_status_tells_planned_running_interrupted_failed_and_done(alone, rhodb, tmp_path):
    db, _, _ = alone
    mine = tmp_path / "mine.db"
    with closing(sqlite3.connect(db)) as source, closing(sqlite3.connect(mine)) as copy:
        source.backup(copy)
        owner = (os.uname().nodename, os.getpid(), psutil.Process().create_time())
        ids = [row[0] for row in copy.execute("SELECT id FROM runs WHERE kind = 'alignment'")]
        sql = (
            "UPDATE runs SET state = ?, host = ?, pid = ?, process_started = ?, started_at = ?, heartbeat_at = ?, "
            "error = ? WHERE id = ?"
        )
        now = "2026-01-01T00:00:00.000000+00:00"
        copy.execute(sql, ("running", *owner, now, now, None, ids[0]))
        copy.execute(sql, ("running", owner[0], owner[1], 1.0, now, now, None, ids[1]))
        copy.execute(sql, ("failed", *owner, now, now, "it broke", ids[2]))
        copy.commit()
    found = rhodb("status", "--db", mine, "--json")
    assert found.returncode == 0, found.stderr
    told = json.loads(found.stdout)
    assert told["counts"] == {"planned": 0, "running": 1, "interrupted": 1, "failed": 1, "done": 1}
    running = next(run for run in told["runs"] if run["state"] == "running")
    assert (running["host"], running["pid"]) == owner[:2] and running["heartbeat_s"] > 0
    text = rhodb("status", "--db", mine)
    assert "it broke" in text.stdout and "time left" in text.stdout


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("x = ", "cannot be read as TOML"),
        ("seeds = [1]", "has no runs"),
        ("[[run]]\nseeds = [1]", "run 1: says no runner"),
        ("[[run]]\nrunner = 'magic'", "run 1: unknown runner 'magic'"),
        ("[[run]]\nrunner = 'ablation'\nmagic = 1", "run 1: unknown key 'magic'"),
        ("[[run]]\nrunner = 'ablation'\nlr = -1", "run 1: --lr"),
        ("magic = 1\n[[run]]\nrunner = 'ablation'", "'magic', which none of its runs knows"),
        ("[[run]]\nrunner = 'dose-response'\nrho-weight = 1", "give --rho-weights instead"),
    ],
)
def test_a_wrong_plan_is_one_sentence_and_exit_code_2(rhodb, tmp_path, content, message):
    (tmp_path / "p.toml").write_text(content)
    wrong = rhodb("run", "--plan", "p.toml")
    assert wrong.returncode == 2 and message in wrong.stderr and "Traceback" not in wrong.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--plan", "p.toml", "ablation"], "do not go with ablation"),
        (["--workers", "2", "ablation"], "--workers comes behind its name"),
        (["--plan", "p.toml", "--workers", "2", "--cluster", "tcp://127.0.0.1:1"], "either --workers N or --cluster"),
    ],
)
def test_options_that_do_not_mix(rhodb, arguments, message):
    wrong = rhodb("run", *arguments)
    assert wrong.returncode == 2 and message in wrong.stderr


def test_two_workers_fill_the_same_tables(alone, rhodb, tmp_path):
    db, _, file = alone
    done = rhodb("run", "--plan", file, "--workers", "2", "--json", timeout=300)
    assert done.returncode == 0, done.stderr
    mine = tmp_path / "results" / "master.db"
    assert query(mine, SCORES) == query(db, SCORES)
    pids = {pid for (pid,) in query(mine, "SELECT DISTINCT pid FROM runs")}
    assert os.getpid() not in pids and len(pids) >= 1


@pytest.fixture
def two_workers(tmp_path):
    """A scheduler's address, its client, and two worker processes: `(address, client, [first, second])`."""
    distributed = pytest.importorskip("distributed")
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    with (
        distributed.LocalCluster(n_workers=0, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        worker = [
            sys.executable, "-m", "distributed.cli.dask_worker", cluster.scheduler_address, "--nthreads", "1",
            "--no-nanny", "--no-dashboard", "--name",
        ]  # fmt: skip
        workers = [
            subprocess.Popen([*worker, name], cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL)
            for name in ("first", "second")
        ]
        try:
            client.wait_for_workers(2, timeout=60)
            yield cluster.scheduler_address, client, workers
        finally:
            for process in workers:
                if process.poll() is None:
                    process.kill()
                process.wait()


def test_a_killed_worker_s_cell_is_done_by_another(tmp_path, tiny_model_folder, tiny_probes_folder, two_workers):
    address, client, workers = two_workers
    file = write_plan(tmp_path, tiny_model_folder, tiny_probes_folder, sft_size=300)
    command = [sys.executable, "-m", "rhodb", "run", "--plan", str(file), "--cluster", address, "--json"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as coordinator:
        deadline = time.monotonic() + 120
        while not all(client.processing().values()):  # both have a cell
            assert time.monotonic() < deadline and coordinator.poll() is None
            time.sleep(0.02)
        executing = executing_processes(tmp_path, deadline)
        workers[0].send_signal(signal.SIGKILL)
        out, err = coordinator.communicate(timeout=240)
    assert coordinator.returncode == 0, err
    assert len(json.loads(out)["executed"]) == LABELS
    assert executing == {worker.pid: f"{os.uname().nodename}, pid {coordinator.pid}" for worker in workers}
    assert workers[0].wait() == -signal.SIGKILL
    mine = tmp_path / "results" / "master.db"
    assert query(mine, "SELECT state, attempt, count(*) FROM runs GROUP BY 1, 2") == [("done", 1, LABELS)]
    assert query(mine, "SELECT count(DISTINCT run_id) FROM behavior_scores") == [(LABELS,)]


def executing_processes(folder, deadline):
    """What `rhodb status` says when it knows both workers: process of a running cell -> its coordinator."""
    while time.monotonic() < deadline:
        with Warehouse.open(str(folder / "results" / "master.db"), create=False, read_only=True) as warehouse:
            running = [run for run in status(warehouse).runs if run["state"] == "running"]
        if len([run for run in running if run["coordinator"]]) == 2:
            return {run["pid"]: run["coordinator"] for run in running}
        time.sleep(0.05)
    return {}


DEADLY_COORDINATOR = """
import os, signal, sys
from rhodb import store
from rhodb.cli.main import main

insert, inserted = store.insert_outcome, []

def deadly(*arguments):
    if len(inserted) == 1:
        os.kill(os.getpid(), signal.SIGKILL)  # the second outcome is in the spool, and nowhere else
    inserted.append(insert(*arguments))

store.insert_outcome = deadly
main()
"""


def test_a_lost_coordinator_s_plan_goes_on_and_what_was_spooled_is_not_done_again(
    alone, tmp_path, two_workers, tiny_model_folder, tiny_probes_folder
):
    address, _, _ = two_workers
    file = write_plan(tmp_path, tiny_model_folder, tiny_probes_folder)
    arguments = ["run", "--plan", str(file), "--cluster", address, "--json"]
    lost = subprocess.run(
        [sys.executable, "-c", DEADLY_COORDINATOR, *arguments],
        cwd=tmp_path,
        capture_output=True,
        timeout=240,
        check=False,
    )
    assert lost.returncode == -signal.SIGKILL
    mine = tmp_path / "results" / "master.db"
    states = dict(query(mine, "SELECT state, count(*) FROM runs GROUP BY 1"))
    assert states["done"] == 1 and 1 <= states["running"] <= 2, states
    again = subprocess.run(
        [sys.executable, "-m", "rhodb", *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert again.returncode == 0, again.stderr
    report = json.loads(again.stdout)
    assert len(report["already_done"]) == 2 and len(report["executed"]) == LABELS - 2
    assert query(mine, "SELECT DISTINCT state FROM runs") == [("done",)]
    assert query(mine, "SELECT count(*) FROM runs WHERE attempt = 1")[0][0] >= 2
    assert query(mine, SCORES) == query(alone[0], SCORES)
    pids = {pid for (pid,) in query(mine, "SELECT DISTINCT pid FROM runs")}
    assert pids == {worker.pid for worker in two_workers[2]} or pids < {worker.pid for worker in two_workers[2]}
    assert "step 3/3" in again.stderr and any(f"pid {pid}" in again.stderr for pid in pids)


def test_a_scheduler_that_is_not_there_is_one_sentence(rhodb, alone):
    pytest.importorskip("distributed")
    wrong = rhodb("run", "--plan", alone[2], "--cluster", "tcp://127.0.0.1:1", timeout=120)
    assert wrong.returncode == 2 and "no Dask scheduler answers" in wrong.stderr
