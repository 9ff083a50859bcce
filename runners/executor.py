"""The one executor: plans cells, claims them one by one, runs them, spools and inserts what they return.

Several processes may run the same plan on the same warehouse: a cell belongs to whoever claims it. A cell's
outcome is on disk before the warehouse is asked to take it, so that neither a lock, a full disk nor a kill can
lose it or count it twice.
"""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from rhodb import spool as spooling
from rhodb import store
from rhodb.errors import DatabaseBusyError, DatabaseError, RhodbError
from rhodb.liveness import this_process
from rhodb.records import Outcome, ProbeSetRecord, Provenance, RunIdentity, TrainStepRow
from rhodb.warehouse import Warehouse
from runners.cells import Cell, Described, Session
from runners.execution import Executed, execute
from runners.plans import model_of, models_by_identity

HEARTBEAT_S: Final = 60.0
POLL_S: Final = 1.0


class Reporter(Protocol):
    """Shows what the executor does. It is told everything and decides nothing. Several cells may run at a time."""

    def planned(self, cells: Sequence[Cell], to_do: Sequence[Cell]) -> None: ...

    def cell_started(self, cell: Cell, attempt: int) -> None: ...

    def step(self, cell: Cell, row: TrainStepRow, total: int) -> None: ...

    def scored(self, cell: Cell, done: int, total: int) -> None: ...

    def cell_done(self, cell: Cell, seconds: float) -> None: ...

    def cell_failed(self, cell: Cell, error: str) -> None: ...

    def cell_lost(self, cell: Cell, reason: str) -> None:
        """It will be started again."""

    def message(self, text: str) -> None: ...


@dataclass(frozen=True)
class ProgressOf:
    """What one cell reports, on its way to the reporter of all."""

    reporter: Reporter
    cell: Cell

    def step(self, row: TrainStepRow, total: int) -> None:
        self.reporter.step(self.cell, row, total)

    def scored(self, done: int, total: int) -> None:
        self.reporter.scored(self.cell, done, total)


@dataclass(kw_only=True)
class Report:
    """How the cells of a plan stand after an invocation, by label."""

    executed: list[str] = field(default_factory=list)
    already_done: list[str] = field(default_factory=list)
    done_elsewhere: list[str] = field(default_factory=list)
    """Executed by another process while this one ran."""
    spooled: list[str] = field(default_factory=list)
    """Finished and on disk, but the warehouse could not take them yet."""
    failed: dict[str, str] = field(default_factory=dict)
    """Label -> error: of this invocation, or of an earlier one that was not retried."""
    uuids: list[str] = field(default_factory=list)
    """The runs of the plan that the warehouse holds as done."""


Claimable = tuple[Cell, store.RunStatus]
"""A cell that is to be run, with what the warehouse knew of it when it was planned."""


class Planner:
    """Plans the cells of one session against one warehouse, and keeps what they yield; subclasses run them."""

    def __init__(
        self,
        session: Described,
        warehouse: Warehouse,
        reporter: Reporter,
        *,
        provenance: Provenance,
        retry_failed: bool = False,
    ) -> None:
        self._session, self._warehouse, self._reporter = session, warehouse, reporter
        self._provenance, self._retry_failed = provenance, retry_failed
        self._models = models_by_identity(session)
        self._spool = spooling.Spool.beside(warehouse)
        self._owner = this_process()
        self._report = Report()
        self._said: set[str] = set()
        """What was said about how a model is computed: once is enough."""
        self._finished: set[str] = set()
        """Keys of the identities known to be done, here, before or elsewhere (spooled ones too)."""

    def run(self) -> Report:
        """Execute every cell that is not done yet, then say how all of them stand.

        KeyboardInterrupt gives the current cell back to the plan and goes on to the caller. DatabaseBusyError
        means that no further cell could be claimed; what was finished is in the warehouse or in the spool.
        """
        for record in self._session.probe_sets.values():
            self._spool.write_probe_set(record)
        spooling.recover(self._warehouse, self._spool)  # what an earlier process finished but could not insert
        cells = list(self._session.cells)
        to_do = self._take_stock(cells)
        self._prepare([cell for cell, _ in to_do])
        self._reporter.planned(cells, [cell for cell, _ in to_do])
        while to_do:
            to_do = self._one_round(to_do)
        if self._report.spooled:
            self._insert_spooled()
        self._report.uuids = [s.uuid for s in self._statuses(cells) if s.state == "done"]
        return self._report

    def _prepare(self, to_do: Sequence[Cell]) -> None:
        """What is to be done before the first of these cells is begun: nothing, unless a subclass knows more."""

    def _statuses(self, cells: Sequence[Cell]) -> list[store.RunStatus]:
        by_model: dict[tuple[str, str], list[Cell]] = {}
        for cell in cells:
            by_model.setdefault((cell.identity.model_key, cell.identity.model_fingerprint), []).append(cell)
        found = {}
        for key, group in by_model.items():
            planned = [store.PlannedCell(identity=cell.identity, baseline=cell.baseline) for cell in group]
            for cell, status in zip(group, store.plan(self._warehouse, self._models[key], planned), strict=True):
                found[key_of(cell.identity)] = status
        return [found[key_of(cell.identity)] for cell in cells]

    def _take_stock(self, cells: Sequence[Cell]) -> list[Claimable]:
        """Sort the cells into done, failed and to do."""
        to_do = []
        for cell, status in zip(cells, self._statuses(cells), strict=True):
            if status.state == "done":
                self._report.already_done.append(cell.label)
                self._finished.add(key_of(cell.identity))
            elif status.state == "failed" and not self._retry_failed:
                self._report.failed[cell.label] = f"failed earlier (--retry-failed tries again): {status.error}"
            else:
                to_do.append((cell, status))
        return to_do

    def _one_round(self, to_do: list[Claimable]) -> list[Claimable]:
        """Run cells that are ready; return those that are left, having waited if none could be run."""
        raise NotImplementedError

    def _is_ready(self, cell: Cell) -> bool:
        return all(key_of(needed) in self._finished for needed in cell.needs)

    def _claim(self, planned: store.RunStatus, worker: store.Worker | None = None) -> int | None:
        return store.claim(
            self._warehouse,
            planned.uuid,
            self._owner,
            retry_failed=self._retry_failed,
            seen_attempt=planned.attempt,
            worker=worker,
        )

    def _look_elsewhere(self, left: list[Claimable]) -> list[Claimable]:
        """None of these could be run: drop what another process has ended and what can never start; wait."""
        still = []
        lost = False
        for (cell, planned), status in zip(left, self._statuses([cell for cell, _ in left]), strict=True):
            if status.state == "done":
                self._report.done_elsewhere.append(cell.label)
                self._finished.add(key_of(cell.identity))
            elif status.state == "failed" and not (self._retry_failed and status.attempt == planned.attempt):
                self._report.failed[cell.label] = status.error or "failed in another process"
            elif status.state != "running" and (failed := self._failed_need(cell)):
                self._report.failed[cell.label] = f"not run, since {failed} failed"
                lost = True
            else:
                still.append((cell, planned))
        if still and not lost and len(still) == len(left):
            time.sleep(POLL_S)
        return still

    def _failed_need(self, cell: Cell) -> str | None:
        """Label of a failed cell that this one cannot do without."""
        needed = {key_of(identity) for identity in cell.needs}
        labels = [c.label for c in self._session.cells if key_of(c.identity) in needed]
        return next((label for label in labels if label in self._report.failed), None)

    def _record(self, cell: Cell, uuid: str, attempt: int, done: Executed) -> None:
        """Keep what a cell yielded, and say so."""
        rows = done.rows
        outcome = Outcome(
            uuid=uuid,
            identity=cell.identity,
            model=model_of(cell.identity, self._models),
            attempt=attempt,
            started_at=done.started_at,
            finished_at=done.finished_at,
            seconds=done.seconds,
            provenance=done.provenance,
            baseline=cell.baseline,
            probe_sets=tuple(sorted({row.probe_set for row in rows.probe_scores})),
            scores=tuple(rows.scores),
            probe_scores=tuple(rows.probe_scores),
            train_steps=tuple(rows.train_steps),
            alignment=rows.alignment,
            landscape=rows.landscape,
            clusters=tuple(rows.clusters),
            cluster_members=tuple(rows.cluster_members),
            family_rows=tuple(rows.family_rows),
            error=done.error,
            notes={**rows.notes, "work": cell.work},
        )
        stored = self._keep(outcome)
        if done.error is not None:
            self._report.failed[cell.label] = done.error
            self._reporter.cell_failed(cell, done.error)
            return
        for sentence in rows.notes.get("forward_slower", ()):
            if sentence not in self._said:
                self._said.add(sentence)
                self._reporter.message(f"    {sentence}")
        (self._report.executed if stored else self._report.spooled).append(cell.label)
        self._finished.add(key_of(cell.identity))
        self._reporter.cell_done(cell, done.seconds)

    def _keep(self, outcome: Outcome) -> bool:
        """Spool the outcome, then insert it. False if the warehouse could not take it: it stays spooled."""
        path = self._spool.write(outcome)
        try:
            store.insert_outcome(self._warehouse, outcome, self._probe_sets_of(outcome))
        except (DatabaseBusyError, DatabaseError) as error:
            self._reporter.message(f"kept in {path} until the warehouse can take it: {error}")
            return False
        self._spool.settle(path)
        return True

    def _probe_sets_of(self, outcome: Outcome) -> Mapping[str, ProbeSetRecord]:
        return {fingerprint: self._session.probe_sets[fingerprint] for fingerprint in outcome.probe_sets}

    def _insert_spooled(self) -> None:
        recovered = spooling.recover(self._warehouse, self._spool)
        if not recovered.failed:
            self._report.executed += self._report.spooled
            self._report.spooled = []

    def _artefacts(self, uuid: str) -> Path:
        return self._warehouse.location.folder / "adapters" / uuid

    @contextmanager
    def _heartbeat(self, uuid: str) -> Iterator[None]:
        """Keep the run's sign of life fresh while the cell runs, so that other hosts leave it alone."""
        stop = threading.Event()

        def beat() -> None:
            while not stop.wait(HEARTBEAT_S):
                try:
                    store.heartbeat(self._warehouse, uuid, self._owner)
                except RhodbError as error:  # a beat that is missed costs nothing: the next one follows
                    self._reporter.message(f"no heartbeat this time: {error}")

        thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


class Executor(Planner):
    """Runs the cells of one session in this process, one after the other."""

    def __init__(self, session: Session, *arguments: Any, **options: Any) -> None:
        super().__init__(session, *arguments, **options)
        self._executes = session

    def _one_round(self, to_do: list[Claimable]) -> list[Claimable]:
        left = []
        ran = False
        for cell, planned in to_do:
            attempt = self._claim(planned) if self._is_ready(cell) else None
            if attempt is None:
                left.append((cell, planned))
            else:
                ran = True
                self._run_cell(cell, planned.uuid, attempt)
        return left if ran else self._look_elsewhere(left)

    def _run_cell(self, cell: Cell, uuid: str, attempt: int) -> None:
        self._reporter.cell_started(cell, attempt)
        progress = ProgressOf(self._reporter, cell)
        try:
            with self._heartbeat(uuid):
                done = execute(self._executes, cell, self._artefacts(uuid), progress, provenance=self._provenance)
        except KeyboardInterrupt:
            store.release(self._warehouse, uuid, self._owner)
            raise
        self._record(cell, uuid, attempt, done)


def key_of(identity: RunIdentity) -> str:
    return f"{identity.kind} {identity.model_fingerprint} {identity.seed} {identity.config_hash}"
