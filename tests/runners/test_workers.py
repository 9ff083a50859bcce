"""Cells in worker processes: the same rows whatever their number, and nothing lost when a worker is."""

import json
import os
import signal
import sqlite3
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from test_run_ablation import Process, contents, query, run_through

from rhodb.errors import DatabaseBusyError
from rhodb.records import ModelRecord, Provenance, RunIdentity
from rhodb.store import run_uuid
from rhodb.warehouse import Warehouse
from runners import workers
from runners.backend.blas import blas_info, blas_threads
from runners.cells import Cell, CellRows
from runners.coordinator import Coordinator
from runners.events import Ended, Lost
from runners.execution import Executed, describe_error, execute
from runners.reporting import PlainReporter
from runners.resources import free_memory, usable_cores
from runners.worker import Description

LABELS = 5
PROVENANCE = Provenance(
    host="here", pid=1, device="cpu", platform="", python="", git_commit=None, git_dirty=None, versions={}, blas=""
)


def ablation(model: Path, probes: Path, *, steps: int) -> list[str]:
    return [
        "run", "ablation", "--preset", "quick", "--model", str(model), "--probes", str(probes), "--max-length", "64",
        "--seeds", "1,2", "--conditions", "rho-guided,shuffled-pairs", "--sft-size", str(2 * steps),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def one_worker(tmp_path_factory, tiny_model_folder, tiny_probes_folder):
    """A grid with cells long enough to be interrupted, run by one worker: its database and command."""
    command = ablation(tiny_model_folder, tiny_probes_folder, steps=200)
    db, report, _ = run_through(tmp_path_factory.mktemp("one"), [*command, "--workers", "1"])
    assert len(report["executed"]) == LABELS
    return db, command


def test_the_rows_do_not_depend_on_the_number_of_workers(one_worker, tmp_path_factory):
    db, command = one_worker
    mine, report, _ = run_through(tmp_path_factory.mktemp("three"), [*command, "--workers", "3"])
    assert len(report["executed"]) == LABELS
    assert contents(mine) == contents(db)
    assert len({pid for (pid,) in query(mine, "SELECT pid FROM runs")}) > 1


class Threads:
    """A session whose cells say how many BLAS threads they were given."""

    def execute(self, cell, artefacts, progress):
        return CellRows(notes={"threads": blas_info().threads})


def test_a_cell_computes_with_one_blas_thread(tmp_path):
    with blas_threads(2):
        done = execute(Threads(), None, tmp_path, None, provenance=PROVENANCE)
        assert blas_info().threads == 2
    assert done.rows.notes == {"threads": 1}


def executing(db: Path, kind: str = "alignment") -> int:
    """The process that executes a running run of this kind, as the warehouse knows it."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = query(db, f"SELECT notes FROM runs WHERE state = 'running' AND kind = '{kind}'")
        if found:
            return json.loads(found[0][0])["worker"]["pid"]
        time.sleep(0.02)
    raise AssertionError("nothing was running")


def test_a_cell_whose_worker_is_killed_is_run_again_and_failed_where_that_happens_twice(one_worker, tmp_path, rhodb):
    db, command = one_worker
    victim = Process(tmp_path, [*command, "--workers", "1"])
    mine = tmp_path / "results" / "master.db"
    victim.wait_for("[2/5]")
    for attempt in (1, 2):
        victim.wait_for("/200" if attempt == 1 else "(attempt 2)")
        os.kill(executing(mine), signal.SIGKILL)
    victim.seen += victim.process.communicate(timeout=120)[1]
    assert victim.process.returncode == 1
    assert "is run again: the worker (pid" in victim.seen and "SIGKILL" in victim.seen
    assert "Traceback" not in victim.seen
    ((error, attempt),) = query(mine, "SELECT error, attempt FROM runs WHERE state = 'failed'")
    assert "SIGKILL" in error and "for the second time" in error and attempt == 2
    assert dict(query(mine, "SELECT state, count(*) FROM runs GROUP BY 1")) == {"done": LABELS - 1, "failed": 1}
    again = rhodb(*command, "--retry-failed")
    assert again.returncode == 0, again.stderr
    assert contents(mine) == contents(db)


@pytest.mark.parametrize(("how", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -9)])
def test_no_worker_outlives_the_command(one_worker, tmp_path, how, code):
    _, command = one_worker
    victim = Process(tmp_path, [*command, "--workers", "2"])
    victim.wait_for("/200")
    children = psutil.Process(victim.process.pid).children()
    assert children
    assert victim.end(how) == code
    assert psutil.wait_procs(children, timeout=10)[1] == []
    if how != signal.SIGKILL:
        states = dict(query(tmp_path / "results" / "master.db", "SELECT state, count(*) FROM runs GROUP BY 1"))
        assert "running" not in states


@pytest.mark.parametrize("given", ["0", "-1", "two", "1.5", ""])
def test_a_wrong_number_of_workers_is_one_sentence(rhodb, tmp_path, tiny_ablation, given):
    wrong = rhodb(*tiny_ablation, "--workers", given)
    assert wrong.returncode == 2 and "--workers must be a whole number" in wrong.stderr
    assert wrong.stderr.count("\n") == 1 and list(tmp_path.iterdir()) == []


# How many workers, without any process


def cells(count: int, *, baseline: bool = True) -> list[Cell]:
    def identity(kind: str, seed: int) -> RunIdentity:
        return RunIdentity(kind=kind, model_key="m", model_fingerprint="f", seed=seed, config={})

    first = identity("baseline", 0)
    own = [Cell(identity=first, label="baseline", baseline=None, train_work=0.0, score_work=1.0)]
    return own + [
        Cell(identity=identity("alignment", n), label=f"cell {n}", baseline=first, train_work=float(n), score_work=1.0)
        for n in range(1, count)
    ]


def session(count: int = 9, **changed) -> Description:
    model = ModelRecord(
        key="m", source="", revision=None, fingerprint="f", architecture="llama", n_layers=1, n_parameters=1,
        quantization=None,
    )  # fmt: skip
    described = Description(
        models=[model], probe_sets={}, cells=cells(count), rate=60.0, provenance=PROVENANCE, on_gpu=False,
        shares_work=False, peak_bytes=2 * 2**30, resident_bytes=2**30, start_seconds=5.0,
    )  # fmt: skip
    return replace(described, **changed)


@pytest.mark.parametrize(
    ("changed", "to_do", "asked", "free", "expected"),
    [
        ({}, 9, None, 64, 4),
        ({}, 3, None, 64, 3),
        ({}, 9, None, 5, 3),
        ({}, 9, None, 0.1, 1),
        ({"on_gpu": True}, 9, None, 64, 1),
        ({"shares_work": True}, 9, None, 64, 1),
        ({"rate": 0.01}, 9, None, 64, 1),
        ({"rate": 0.01, "on_gpu": True}, 9, 2, 64, 2),
        ({}, 9, 7, 5, 7),
        ({}, 2, 7, 64, 2),
    ],
    ids=["cores", "cells", "memory", "none", "GPU", "shared", "short", "asked", "asked too many", "asked, few cells"],
)
def test_as_many_workers_as_cores_memory_and_work_allow(monkeypatch, changed, to_do, asked, free, expected):
    monkeypatch.setattr(workers, "usable_cores", lambda: 4)
    monkeypatch.setattr(workers, "free_memory", lambda: int(free * 2**30))
    count, remark = workers.number_of_workers(session(**changed), cells(to_do), asked)
    assert count == expected
    assert (remark is not None) == (free < 10)


def test_free_memory_heeds_a_container_s_limit(tmp_path):
    machine = psutil.virtual_memory().available
    assert free_memory(tmp_path) == pytest.approx(machine, rel=0.2)
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 500\ninactive_file 100\n")
    assert free_memory(tmp_path) == pytest.approx(machine, rel=0.2)
    (tmp_path / "memory.max").write_text("1000\n")
    assert free_memory(tmp_path) == 1000 - (700 - 100)


def test_the_number_of_blas_threads_limits_the_cores(monkeypatch):
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    assert usable_cores() == len(os.sched_getaffinity(0))
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    assert usable_cores() == 1


@pytest.mark.parametrize(
    ("exception", "expected"),
    [
        (MemoryError(), "out of memory (MemoryError): "),
        (RuntimeError("[malloc] Unable to allocate 99 bytes."), "out of memory (RuntimeError: [malloc] Unable"),
        (RuntimeError("std::bad_alloc"), "out of memory (RuntimeError: std::bad_alloc): "),
        (ValueError("another"), "ValueError: another"),
    ],
)
def test_a_lack_of_memory_is_called_that(exception, expected):
    assert describe_error(exception).startswith(expected)


# The order in which cells are begun, with a pool that executes nothing


class Slots:
    """A pool of two workers that end one run a poll, the oldest first, and note what was begun beside what."""

    next_worker, starting = None, False

    def __init__(self, *, lost: tuple[str, ...] = ()) -> None:
        self.begun: list[str] = []
        self.running: list[str] = []
        self.lost = list(lost)

    def expect(self, cells):
        self.label = {run_uuid(cell.identity): cell.label for cell in cells}

    @property
    def free(self) -> int:
        return 2 - len(self.running)

    def submit(self, uuid, attempt, artefacts, waiting):
        beside = [self.label[other] for other in self.running]
        self.begun.append(f"{self.label[uuid]} beside {beside[0]}" if beside else self.label[uuid])
        self.running.append(uuid)

    def poll(self, seconds):
        uuid = self.running.pop(0)
        if self.label[uuid] in self.lost:
            self.lost.remove(self.label[uuid])
            return [Lost(uuid=uuid, reason="the worker left")]
        done = Executed(
            rows=CellRows(), error=None, started_at="2026-01-01", finished_at="2026-01-01", seconds=1.0,
            provenance=PROVENANCE,
        )  # fmt: skip
        return [Ended(uuid=uuid, executed=done)]

    def abandon(self):
        self.running = []


def coordinate(tmp_path, pool, described):
    with Warehouse.open(tmp_path / "master.db") as warehouse:
        return Coordinator(described, warehouse, PlainReporter(1.0), provenance=PROVENANCE, pool=pool).run()


def test_beside_the_baseline_the_longest_cell_is_begun(tmp_path):
    pool = Slots()
    report = coordinate(tmp_path, pool, session(4))
    assert pool.begun == ["baseline", "cell 3 beside baseline", "cell 2 beside cell 3", "cell 1 beside cell 2"]
    assert sorted(report.executed) == ["baseline", "cell 1", "cell 2", "cell 3"]


def test_a_required_run_is_waited_for(tmp_path):
    described = session(3)
    first, second, third = described.cells
    pool = Slots()
    coordinate(tmp_path, pool, replace(described, cells=[first, second, replace(third, requires=(second.identity,))]))
    assert pool.begun == ["baseline", "cell 1 beside baseline", "cell 2"]


def test_a_lost_cell_is_begun_again(tmp_path):
    pool = Slots(lost=("cell 1",))
    report = coordinate(tmp_path, pool, session(2))
    assert pool.begun == ["baseline", "cell 1 beside baseline", "cell 1"]
    assert report.executed == ["baseline", "cell 1"] and not report.failed
    assert query(tmp_path / "master.db", "SELECT state, attempt FROM runs ORDER BY 2") == [("done", 1), ("done", 2)]


def test_a_locked_warehouse_stops_the_claims_and_what_runs_is_kept(tmp_path, monkeypatch):
    pool = Slots()
    claims = []

    def claim(self, planned, worker=None):
        claims.append(planned.uuid)
        if len(claims) == 2:
            raise DatabaseBusyError("locked")
        return claim_before(self, planned, worker)

    claim_before = Coordinator._claim
    monkeypatch.setattr(Coordinator, "_claim", claim)
    with pytest.raises(DatabaseBusyError):
        coordinate(tmp_path, pool, session(4))
    assert pool.begun == ["baseline"]
    with closing(sqlite3.connect(tmp_path / "master.db")) as connection:
        states = dict(connection.execute("SELECT state, count(*) FROM runs GROUP BY 1").fetchall())
    assert states == {"done": 1, "planned": 3}
