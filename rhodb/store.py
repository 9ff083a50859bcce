"""All writes of runs: plan, claim, heartbeat, release, insert an outcome.

A run's life: planned -> running -> done or failed; running -> planned when it is given back, running ->
running when its process died and another takes it up, failed -> running when it is retried. Every function
is one short transaction and may be called by many processes at once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError

from rhodb.errors import DatabaseError
from rhodb.liveness import Owner, is_dead, now, this_process
from rhodb.records import ModelRecord, Outcome, ProbeSetRecord, RunIdentity, canonical_json
from rhodb.rows import RowBuffer, collect_rows, ensure_model, ensure_run, find_run, model_id, run_uuid
from rhodb.warehouse import Warehouse

__all__ = [
    "Owner",
    "PlannedCell",
    "RunStatus",
    "claim",
    "find",
    "heartbeat",
    "insert_outcome",
    "insert_outcomes",
    "plan",
    "release",
    "run_uuid",
    "this_process",
]


Worker = Mapping[str, str | int]
"""`host` and `pid` of a process that executes a run for another one, its owner."""


@dataclass(frozen=True, kw_only=True)
class PlannedCell:
    """A run that is wanted, and the run it will be compared with."""

    identity: RunIdentity
    baseline: RunIdentity | None


@dataclass(frozen=True, kw_only=True)
class RunStatus:
    """How far a run is."""

    uuid: str
    state: str
    attempt: int
    """How often it was begun."""
    error: str | None
    owner: Owner | None
    """Process that runs or ran it."""
    heartbeat_at: str | None
    seconds: float | None
    """Duration of the last finished attempt."""

    @property
    def is_abandoned(self) -> bool:
        """Running, as far as the warehouse knows, but its process is gone."""
        return self.state == "running" and is_dead(self.owner, self.heartbeat_at)


STATUS_COLUMNS = "uuid, state, attempt, error, host, pid, process_started, heartbeat_at, seconds"


def _status(connection: Connection, where: str, value: Any) -> RunStatus | None:
    row = connection.execute(
        text(f"SELECT {STATUS_COLUMNS} FROM runs WHERE {where} = :value"), {"value": value}
    ).first()
    if row is None:
        return None
    known = row.host is not None and row.pid is not None and row.process_started is not None
    return RunStatus(
        uuid=row.uuid,
        state=row.state,
        attempt=row.attempt,
        error=row.error,
        owner=Owner(host=row.host, pid=row.pid, process_started=row.process_started) if known else None,
        heartbeat_at=row.heartbeat_at,
        seconds=row.seconds,
    )


def plan(wh: Warehouse, model: ModelRecord, cells: Sequence[PlannedCell]) -> list[RunStatus]:
    """Make a planned row for every cell that has none; the status of each, in the order of the cells."""
    with wh.write() as connection:
        ensure_model(connection, model)
        statuses = []
        for cell in cells:
            baseline = ensure_run(connection, cell.baseline)[0] if cell.baseline else None
            run_id, _ = ensure_run(connection, cell.identity, baseline=baseline)
            status = _status(connection, "id", run_id)
            assert status is not None
            statuses.append(status)
        return statuses


def find(wh: Warehouse | None, identities: Sequence[RunIdentity]) -> list[RunStatus | None]:
    """What `plan` would find, without writing. `wh` is None where there is no warehouse yet (`Warehouse.peek`)."""
    if wh is None:
        return [None] * len(identities)
    with wh.read() as connection:
        ids = [find_run(connection, identity) for identity in identities]
        return [_status(connection, "id", run_id) if run_id is not None else None for run_id in ids]


def claim(
    wh: Warehouse,
    uuid: str,
    owner: Owner,
    *,
    retry_failed: bool = False,
    seen_attempt: int | None = None,
    worker: Worker | None = None,
) -> int | None:
    """Take a run: the number of this attempt (from 1), or None if it is done, failed or in other hands.

    `worker` is the process that will execute it, where its owner only coordinates.

    A running run whose process is dead is taken over. With `retry_failed` a failed run is taken too, but only
    if it was not begun again since `seen_attempt` was seen: of several retrying processes one succeeds.
    """
    with wh.write() as connection:
        seen = _status(connection, "uuid", uuid)
        if seen is None:
            raise DatabaseError(f"{wh.location} holds no run {uuid}: plan it first")
        retry = retry_failed and seen_attempt in (None, seen.attempt)
        if not (seen.state == "planned" or seen.is_abandoned or (seen.state == "failed" and retry)):
            return None
        # State and attempt are compared once more by the UPDATE: PostgreSQL lets two processes get here.
        taken = connection.execute(
            text(
                "UPDATE runs SET state = 'running', attempt = attempt + 1, started_at = :now, heartbeat_at = :now, "
                "finished_at = NULL, seconds = NULL, error = NULL, notes = :notes, host = :host, pid = :pid, "
                "process_started = :process_started "
                "WHERE uuid = :uuid AND state = :state AND attempt = :attempt"
            ),
            {
                "now": now(),
                "uuid": uuid,
                "state": seen.state,
                "attempt": seen.attempt,
                "notes": canonical_json({"worker": worker} if worker else {}),
                **vars(owner),
            },
        )
        return seen.attempt + 1 if taken.rowcount == 1 else None


OWNED = "uuid = :uuid AND state = 'running' AND host = :host AND pid = :pid AND process_started = :process_started"


def heartbeat(wh: Warehouse, uuid: str, owner: Owner) -> None:
    """Note that the owner of a running run is alive."""
    with wh.write() as connection:
        connection.execute(
            text(f"UPDATE runs SET heartbeat_at = :now WHERE {OWNED}"),
            {"now": now(), "uuid": uuid, **vars(owner)},
        )


def executed_by(wh: Warehouse, uuid: str, owner: Owner, worker: Worker) -> None:
    """Note the process that executes a running run for its owner, where that was not known at the claim."""
    with wh.write() as connection:
        connection.execute(
            text(f"UPDATE runs SET notes = :notes WHERE {OWNED}"),
            {"notes": canonical_json({"worker": worker}), "uuid": uuid, **vars(owner)},
        )


def release(wh: Warehouse, uuid: str, owner: Owner) -> None:
    """Give a running run back to the plan, e.g. after Ctrl-C."""
    with wh.write() as connection:
        connection.execute(
            text(
                "UPDATE runs SET state = 'planned', started_at = NULL, heartbeat_at = NULL, host = NULL, pid = NULL, "
                f"process_started = NULL, notes = '{{}}' WHERE {OWNED}"
            ),
            {"uuid": uuid, **vars(owner)},
        )


Finished = tuple[Outcome, Mapping[str, ProbeSetRecord]]
"""An outcome and the probe sets, by fingerprint, that it may bring with it."""


def insert_outcome(wh: Warehouse, outcome: Outcome, probe_sets: Mapping[str, ProbeSetRecord]) -> bool:
    """Insert all rows of a finished run and set its state, in one transaction.

    Model, probe sets, run and baseline are created where they are missing, so that this works in an empty
    warehouse too. False, and nothing is changed, if the run is done already, or if the outcome is a failure
    older than what the warehouse knows. Raises DatabaseError for rows that break a rule of the schema.
    """
    return insert_outcomes(wh, [(outcome, probe_sets)])[0]


def insert_outcomes(wh: Warehouse, finished: Sequence[Finished]) -> list[bool]:
    """As `insert_outcome` for several runs in one transaction: all of them, or, after an error, none."""
    rows = RowBuffer()
    try:
        with wh.write() as connection:
            inserted = [_insert(connection, outcome, probe_sets, rows) for outcome, probe_sets in finished]
            rows.flush(connection)
            return inserted
    except (IntegrityError, ValueError) as error:  # ValueError: JSON knows no NaN
        reason = str(error.orig if isinstance(error, IntegrityError) else error).strip().splitlines()[0]
        which = f"run {finished[0][0].uuid} breaks" if len(finished) == 1 else "one of the runs breaks"
        raise DatabaseError(f"{which} a rule of the warehouse and was not inserted: {reason}") from error


def _insert(
    connection: Connection, outcome: Outcome, probe_sets: Mapping[str, ProbeSetRecord], rows: RowBuffer
) -> bool:
    if model_id(connection, outcome.model.key, outcome.model.fingerprint) is None:
        ensure_model(connection, outcome.model)
    baseline = ensure_run(connection, outcome.baseline)[0] if outcome.baseline else None
    run_id, is_new = ensure_run(connection, outcome.identity, uuid=outcome.uuid, baseline=baseline)
    if not is_new and not _is_news(connection, run_id, outcome):
        return False
    if outcome.error is None:
        collect_rows(connection, run_id, outcome, probe_sets, rows)
    _finish(connection, run_id, outcome)
    return True


def _is_news(connection: Connection, run_id: int, outcome: Outcome) -> bool:
    lock = "" if connection.dialect.name == "sqlite" else " FOR UPDATE"
    state, attempt = connection.execute(
        text(f"SELECT state, attempt FROM runs WHERE id = :id{lock}"), {"id": run_id}
    ).one()
    if state == "done":
        return False
    if outcome.error is None:
        return True
    return bool(outcome.attempt > attempt or (outcome.attempt == attempt and state != "failed"))


FINISH = text(
    "UPDATE runs SET state = :state, error = :error, "
    "attempt = CASE WHEN attempt < :attempt THEN :attempt ELSE attempt END, "
    "started_at = :started_at, finished_at = :finished_at, seconds = :seconds, heartbeat_at = NULL, "
    "host = :host, pid = :pid, device = :device, platform = :platform, python = :python, blas = :blas, "
    "git_commit = :git_commit, git_dirty = :git_dirty, versions = :versions, notes = :notes WHERE id = :id"
)


def _finish(connection: Connection, run_id: int, outcome: Outcome) -> None:
    """Set state, times and provenance of a run."""
    provenance = outcome.provenance
    connection.execute(
        FINISH,
        {
            **vars(provenance),
            "id": run_id,
            "state": "done" if outcome.error is None else "failed",
            "error": outcome.error,
            "attempt": outcome.attempt,
            "started_at": outcome.started_at,
            "finished_at": outcome.finished_at,
            "seconds": outcome.seconds,
            "git_dirty": None if provenance.git_dirty is None else int(provenance.git_dirty),
            "versions": canonical_json(provenance.versions),
            "notes": canonical_json(outcome.notes),
        },
    )
