"""Plan, claim, release, insert: a run is executed once, all its rows go in together, nothing is counted twice."""

import json
import signal
import time
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import psutil
import pytest
from sqlalchemy import text
from warehouse_samples import BASELINE, MODEL, address, held, identity, outcome, probe_scores, probe_set

from rhodb.check import check
from rhodb.errors import DatabaseError, InputError
from rhodb.liveness import Owner, is_dead
from rhodb.records import ProbeScoreRow, ScoreRow
from rhodb.store import (
    PlannedCell,
    claim,
    find,
    heartbeat,
    insert_outcome,
    plan,
    release,
    run_uuid,
    this_process,
)
from rhodb.warehouse import Warehouse

ME = this_process()
CELLS = [
    PlannedCell(identity=BASELINE, baseline=None),
    PlannedCell(identity=identity(1), baseline=BASELINE),
    PlannedCell(identity=identity(2), baseline=BASELINE),
]
RUN = run_uuid(identity(1))


def state_of(wh: Warehouse, uuid: str) -> tuple[str, int]:
    row = wh.rows("SELECT state, attempt FROM runs WHERE uuid = :uuid", uuid=uuid)[0]
    return row["state"], row["attempt"]


def test_planning_twice_gives_the_same_runs(wh):
    first = plan(wh, MODEL, CELLS)
    assert plan(wh, MODEL, CELLS) == first
    assert [status.state for status in first] == ["planned"] * 3
    assert [status.uuid for status in first] == [run_uuid(cell.identity) for cell in CELLS]
    assert wh.rows("SELECT count(*) AS n FROM runs") == [{"n": 3}]
    linked = wh.rows("SELECT b.uuid FROM runs r JOIN runs b ON b.id = r.baseline_run_id WHERE r.uuid = :uuid", uuid=RUN)
    assert linked == [{"uuid": run_uuid(BASELINE)}]


def test_identity_is_kind_model_seed_and_configuration(wh):
    wanted = [identity(1), identity(2), identity(1, kind="freeze"), identity(1, lr=0.1), identity(1, lr=0.2)]
    cells = [PlannedCell(identity=one, baseline=None) for one in wanted]
    assert len({status.uuid for status in plan(wh, MODEL, cells)}) == 5
    other = replace(MODEL, fingerprint="0" * 64)
    again = replace(identity(1), model_fingerprint=other.fingerprint)
    assert plan(wh, other, [PlannedCell(identity=again, baseline=None)])[0].uuid != RUN


def test_planning_for_an_unknown_model_is_refused(wh):
    stray = replace(identity(1), model_key="other")
    with pytest.raises(InputError, match="other"):
        plan(wh, MODEL, [PlannedCell(identity=stray, baseline=None)])
    assert wh.rows("SELECT * FROM models") == []


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_a_seed_that_does_not_fit_is_refused(wh, seed):
    with pytest.raises(InputError, match=str(seed)):
        plan(wh, MODEL, [PlannedCell(identity=identity(seed), baseline=None)])
    with pytest.raises(InputError, match=str(seed)):
        find(wh, [identity(seed)])


def test_find_looks_without_writing(wh, tmp_path):
    assert find(None, [BASELINE]) == [None]
    assert find(wh, [BASELINE]) == [None]
    plan(wh, MODEL, CELLS[:1])
    found = find(wh, [identity(1), BASELINE])
    assert found[0] is None and found[1] is not None and found[1].state == "planned"


def test_a_planned_run_is_claimed_once(wh):
    plan(wh, MODEL, CELLS)
    assert claim(wh, RUN, ME) == 1
    assert claim(wh, RUN, ME) is None
    assert claim(wh, RUN, replace(ME, pid=ME.pid + 1)) is None
    assert state_of(wh, RUN) == ("running", 1)
    with pytest.raises(DatabaseError, match="plan it first"):
        claim(wh, "no-such-run", ME)


def test_a_released_run_can_be_claimed_again_but_only_its_owner_releases_it(wh):
    plan(wh, MODEL, CELLS)
    claim(wh, RUN, ME)
    release(wh, RUN, replace(ME, pid=ME.pid + 1))
    assert state_of(wh, RUN) == ("running", 1)
    release(wh, RUN, ME)
    assert state_of(wh, RUN) == ("planned", 1)
    assert claim(wh, RUN, ME) == 2


@pytest.mark.parametrize(
    "gone",
    [
        replace(ME, process_started=ME.process_started - 3600),  # the number was given to a later process
        replace(ME, pid=2**22 - 3),
    ],
)
def test_a_run_of_a_dead_process_is_taken_over(wh, gone):
    plan(wh, MODEL, CELLS)
    assert claim(wh, RUN, gone) == 1
    assert plan(wh, MODEL, CELLS)[1].is_abandoned
    assert claim(wh, RUN, ME) == 2


def test_a_killed_child_that_was_not_waited_for_counts_as_dead(python):
    process = python("import time; print('up', flush=True); time.sleep(60)")
    process.stdout.readline()
    owner = Owner(host=ME.host, pid=process.pid, process_started=psutil.Process(process.pid).create_time())
    assert not is_dead(owner, None)
    process.send_signal(signal.SIGKILL)
    for _ in range(500):
        if is_dead(owner, None):
            break
        time.sleep(0.01)
    assert is_dead(owner, None)  # a zombie until here
    process.communicate()
    assert is_dead(owner, None)


def test_another_host_is_judged_by_its_heartbeat(wh):
    far = Owner(host="far-away", pid=1, process_started=0.0)
    fresh = datetime.now(UTC).isoformat()
    old = (datetime.now(UTC) - timedelta(minutes=16)).isoformat()
    assert not is_dead(far, fresh)
    assert is_dead(far, old) and is_dead(far, None) and is_dead(None, fresh)
    plan(wh, MODEL, CELLS)
    claim(wh, RUN, far)
    with wh.write() as connection:
        connection.execute(text("UPDATE runs SET heartbeat_at = :old"), {"old": old})
    heartbeat(wh, RUN, far)
    assert claim(wh, RUN, ME) is None
    with wh.write() as connection:
        connection.execute(text("UPDATE runs SET heartbeat_at = :old"), {"old": old})
    assert claim(wh, RUN, ME) == 2


def test_a_failed_run_is_taken_only_on_request_and_once_among_those_who_saw_it(wh):
    plan(wh, MODEL, CELLS)
    claim(wh, RUN, ME)
    assert insert_outcome(wh, outcome(identity(1), error="NaN loss in step 3"), {})
    status = plan(wh, MODEL, CELLS)[1]
    assert (status.state, status.error) == ("failed", "NaN loss in step 3")
    assert claim(wh, RUN, ME) is None
    assert claim(wh, RUN, ME, retry_failed=True, seen_attempt=1) == 2
    insert_outcome(wh, outcome(identity(1), attempt=2, error="again"), {})
    assert claim(wh, RUN, ME, retry_failed=True, seen_attempt=1) is None
    assert claim(wh, RUN, ME, retry_failed=True) == 3


def test_an_outcome_goes_into_an_empty_warehouse_with_everything_it_refers_to(wh):
    record = probe_set()
    rows = probe_scores(record, np.random.default_rng(0), answers=True)
    done = outcome(identity(1), baseline=BASELINE, probe_rows=rows)
    assert insert_outcome(wh, done, {record.fingerprint: record})
    counts = {
        table: wh.rows(f"SELECT count(*) AS n FROM {table}")[0]["n"]
        for table in ("models", "probe_sets", "probes", "runs", "run_probe_sets", "probe_scores", "train_steps")
    }
    assert counts == {
        "models": 1,
        "probe_sets": 1,
        "probes": 6,
        "runs": 2,
        "run_probe_sets": 1,
        "probe_scores": 12,
        "train_steps": 1,
    }
    run = wh.rows("SELECT * FROM runs WHERE uuid = :uuid", uuid=done.uuid)[0]
    assert run["state"] == "done" and json.loads(run["config"]) == identity(1).config
    assert (run["blas"], run["git_dirty"], run["seconds"]) == ("OpenBLAS 0.3.29", 0, 60.0)
    stored = wh.rows("SELECT side, ce, answer_ce FROM probe_scores ORDER BY probe_id, side")
    given = sorted(rows, key=lambda row: (row.probe_key, row.side))
    assert [(r["ce"], r["answer_ce"]) for r in stored] == [(r.ce, r.answer_ce) for r in given]


def test_a_done_run_is_never_changed(wh):
    record = probe_set()
    done = outcome(identity(1), probe_rows=probe_scores(record, np.random.default_rng(0)))
    assert insert_outcome(wh, done, {record.fingerprint: record})
    before = held(wh)
    assert not insert_outcome(wh, done, {record.fingerprint: record})
    assert not insert_outcome(wh, outcome(identity(1), attempt=2, value=99.0), {})
    assert not insert_outcome(wh, outcome(identity(1), attempt=3, error="late failure"), {})
    assert claim(wh, done.uuid, ME, retry_failed=True) is None
    release(wh, done.uuid, ME)
    assert held(wh) == before


def test_an_old_failure_does_not_disturb_a_newer_attempt(wh):
    plan(wh, MODEL, CELLS)
    claim(wh, RUN, ME)
    first = outcome(identity(1), error="out of memory")
    assert insert_outcome(wh, first, {})
    assert not insert_outcome(wh, first, {})
    claim(wh, RUN, ME, retry_failed=True)
    assert not insert_outcome(wh, first, {})
    assert state_of(wh, RUN) == ("running", 2)
    assert insert_outcome(wh, outcome(identity(1), attempt=2), {})
    row = wh.rows("SELECT state, error FROM runs WHERE uuid = :uuid", uuid=RUN)[0]
    assert row == {"state": "done", "error": None}


@pytest.mark.parametrize(
    ("bad", "word"),
    [
        ([ScoreRow(behavior="bias", metric="rho", split="eval", value=1.5, se=None, n=3)], "signed_unit_range"),
        ([ScoreRow(behavior="bias", metric="gap", split="eval", value=float("nan"), se=None, n=3)], "value"),
    ],
)
def test_an_outcome_that_breaks_a_rule_is_refused_whole(wh, bad, word):
    good = ScoreRow(behavior="bias", metric="gap", split="train", value=1.0, se=None, n=3)
    with pytest.raises(DatabaseError, match=word):
        insert_outcome(wh, outcome(identity(1), scores=[good, *bad]), {})
    assert wh.rows("SELECT * FROM runs") == [] and wh.rows("SELECT * FROM behavior_scores") == []


def test_notes_that_are_no_json_are_refused_whole(wh):
    with pytest.raises(DatabaseError, match="not inserted"):
        insert_outcome(wh, replace(outcome(identity(1)), notes={"loss": float("nan")}), {})
    assert wh.rows("SELECT * FROM runs") == [] and wh.rows("SELECT * FROM behavior_scores") == []


def test_probes_that_are_not_known_are_refused(wh):
    record = probe_set()
    rows = probe_scores(record, np.random.default_rng(0))
    with pytest.raises(InputError, match="not here"):
        insert_outcome(wh, outcome(identity(1), probe_rows=rows), {})
    stray: ProbeScoreRow = replace(rows[0], probe_key="nosuch")
    with pytest.raises(InputError, match="nosuch"):
        insert_outcome(wh, outcome(identity(1), probe_rows=[stray]), {record.fingerprint: record})
    assert wh.rows("SELECT * FROM runs") == []


SHARE = """
import sys
from warehouse_samples import MODEL, identity, outcome
from rhodb.store import PlannedCell, claim, insert_outcome, plan, this_process
from rhodb.warehouse import Warehouse
cells = [PlannedCell(identity=identity(seed), baseline=None) for seed in range(40)]
me = this_process()
with Warehouse.open(sys.argv[1]) as wh:
    for cell, status in zip(cells, plan(wh, MODEL, cells)):
        attempt = claim(wh, status.uuid, me)
        if attempt is not None:
            assert insert_outcome(wh, outcome(cell.identity, attempt=attempt), {})
            print(cell.identity.seed)
"""


def test_eight_processes_make_one_warehouse_and_share_its_runs(tmp_path, python):
    path = tmp_path / "new" / "master.db"
    processes = [python(SHARE, path) for _ in range(8)]
    outputs = [process.communicate(timeout=240) for process in processes]
    assert [process.returncode for process in processes] == [0] * 8, outputs
    claimed = Counter(int(seed) for output, _ in outputs for seed in output.split())
    assert claimed == Counter(range(40))
    with Warehouse.open(path) as wh:
        assert wh.rows("SELECT count(*) AS n, sum(attempt) AS k FROM runs WHERE state = 'done'") == [{"n": 40, "k": 40}]
        assert wh.rows("SELECT count(*) AS n FROM models") == [{"n": 1}]


DIE = """
import os, sys
import numpy as np
from sqlalchemy import event
from warehouse_samples import identity, outcome, probe_scores, probe_set
from rhodb.store import insert_outcome
from rhodb.warehouse import Warehouse
wh = Warehouse.open(sys.argv[1])
record = probe_set(pairs=2000)
done = outcome(identity(1), probe_rows=probe_scores(record, np.random.default_rng(0)))
def die(connection, cursor, statement, *rest):
    if statement.startswith(sys.argv[2]):
        os.kill(os.getpid(), 9)
event.listen(wh.engine, "before_cursor_execute", die)
insert_outcome(wh, done, {record.fingerprint: record})
"""


@pytest.mark.parametrize("moment", ["INSERT INTO probes", "INSERT INTO probe_scores", "UPDATE runs"])
def test_a_kill_in_the_middle_of_an_insert_leaves_nothing(wh, python, moment):
    before = held(wh)
    process = python(DIE, address(wh), moment)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL, errors
    assert held(wh) == before
    assert check(wh) == []
    assert insert_outcome(wh, outcome(identity(1)), {})
