"""One process that claims cells, hands them to workers, and alone writes to the warehouse.

Where the workers are, a `Pool` knows: processes on this machine (`workers.py`) or a Dask cluster (`cluster.py`).
"""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from rhodb import store
from rhodb.errors import DatabaseBusyError, RhodbError
from rhodb.records import RunIdentity
from runners.cells import Cell
from runners.events import Begun, Ended, Event, Lost, Scored, Stepped, Told
from runners.execution import Executed
from runners.executor import Claimable, Planner, key_of

POLL_S: Final = 1.0
TRIES: Final = 2
"""How often a cell is begun whose worker is lost each time."""


class Pool(Protocol):
    """Workers that execute runs."""

    def expect(self, cells: Sequence[Cell]) -> str | None:
        """Get ready for these cells; a remark for people, if there is one."""

    @property
    def free(self) -> int:
        """How many runs it can take now."""

    @property
    def next_worker(self) -> store.Worker | None:
        """The process that the next run will be submitted to, if that is known before it begins."""

    @property
    def starting(self) -> bool:
        """More workers are on their way."""

    def submit(self, uuid: str, attempt: int, artefacts: Path, waiting: int) -> None:
        """Have a run executed. `waiting`: how many others could be run at once, but for a free worker."""

    def poll(self, seconds: float) -> Sequence[Event]:
        """What has happened since, in order; waits for something to happen, but not longer."""

    def abandon(self) -> None:
        """Stop what runs, where that is possible."""


@dataclass(frozen=True, kw_only=True)
class _Running:
    """A cell in a worker's hands."""

    cell: Cell
    planned: store.RunStatus
    attempt: int
    heartbeat: ExitStack
    """Open while the coordinator vouches for the run."""


class Coordinator(Planner):
    """Claims cells, hands them to a pool's workers, and keeps what comes back."""

    def __init__(self, *arguments: Any, pool: Pool, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._pool = pool
        self._running: dict[str, _Running] = {}
        """By the run's uuid."""
        self._lost: dict[str, int] = {}
        """How often a run's worker was lost."""
        self._busy: DatabaseBusyError | None = None
        self._refused: dict[str, float] = {}
        """When a run could not be claimed, by `time.monotonic`."""

    def _prepare(self, to_do: Sequence[Cell]) -> None:
        if to_do and (remark := self._pool.expect(to_do)):
            self._reporter.message(remark)

    def _one_round(self, to_do: list[Claimable]) -> list[Claimable]:
        """Keep the workers busy with cells that are ready; return those of others."""
        left = list(to_do)
        ran = False
        try:
            while True:
                left = self._submit_ready(left)
                awaited = self._pool.starting and any(self._is_ready(cell) for cell, _ in left)
                if not self._running and not awaited:
                    return left if ran else self._look_elsewhere(left)
                ran = ran or bool(self._running)
                for event in self._pool.poll(POLL_S):
                    left += self._take(event)
        except KeyboardInterrupt:
            self._pool.abandon()
            for uuid in self._running:
                store.release(self._warehouse, uuid, self._owner)
            raise
        finally:
            for running in self._running.values():
                running.heartbeat.close()

    def _submit_ready(self, to_do: list[Claimable]) -> list[Claimable]:
        """Claim and submit as many as there are free workers: what waits is in nobody's hands.

        A warehouse that stays locked stops the claiming, and what runs is finished and kept before that is said.
        """
        if self._busy is not None and not self._running:
            raise self._busy
        if self._pool.free + len(self._running) > 1:
            # Side by side the longest first, so that none is left alone at the end; before them what they wait for.
            to_do = sorted(to_do, key=lambda item: (bool(item[0].needs), -item[0].work))
        left = []
        for index, (cell, planned) in enumerate(to_do):
            attempt = self._claim_now(planned) if self._pool.free and self._is_ready(cell) else None
            if attempt is None:
                left.append((cell, planned))
                continue
            waiting = [other for other, _ in (*left, *to_do[index + 1 :]) if self._is_ready(other)]
            self._submit(cell, planned, attempt, len(waiting))
        return left

    def _claim_now(self, planned: store.RunStatus) -> int | None:
        """Claim a run, unless that was tried a moment ago or the warehouse is locked."""
        if self._busy is not None or time.monotonic() - self._refused.get(planned.uuid, -POLL_S) < POLL_S:
            return None
        try:
            attempt = self._claim(planned, self._pool.next_worker)
        except DatabaseBusyError as error:
            self._busy = error
            return None
        if attempt is None:
            self._refused[planned.uuid] = time.monotonic()
        return attempt

    def _submit(self, cell: Cell, planned: store.RunStatus, attempt: int, waiting: int) -> None:
        self._reporter.cell_started(cell, attempt)
        heartbeat = ExitStack()
        heartbeat.enter_context(self._heartbeat(planned.uuid))
        self._running[planned.uuid] = _Running(cell=cell, planned=planned, attempt=attempt, heartbeat=heartbeat)
        self._pool.submit(planned.uuid, attempt, self._artefacts(planned.uuid).resolve(), waiting)

    def _is_ready(self, cell: Cell) -> bool:
        """A baseline must only be under way: cells are compared with it, but computed without it."""

        def under_way(identity: RunIdentity) -> bool:
            running = (key_of(own.cell.identity) for own in self._running.values())
            return key_of(identity) in {*self._finished, *running}

        required = all(key_of(needed) in self._finished for needed in cell.requires)
        return required and (cell.baseline is None or under_way(cell.baseline))

    def _take(self, event: Event) -> list[Claimable]:
        """Act on an event; return the cells that are to be run again."""
        if isinstance(event, Told):
            self._reporter.message(event.text)
            return []
        running = self._running.get(event.uuid)
        if running is None:  # it has ended since
            return []
        match event:
            case Begun():
                self._note_worker(running.cell, event)
            case Stepped():
                self._reporter.step(running.cell, event.row, event.total)
            case Scored():
                self._reporter.scored(running.cell, event.done, event.total)
            case Ended():
                self._end(event.uuid, event.executed)
            case Lost():
                return self._mourn(event)
        return []

    def _end(self, uuid: str, executed: Executed) -> None:
        running = self._running.pop(uuid)
        with running.heartbeat:
            self._record(running.cell, uuid, running.attempt, executed)

    def _mourn(self, lost: Lost) -> list[Claimable]:
        """Give a run back whose worker is gone; record it as failed where that has happened before."""
        running = self._running[lost.uuid]
        self._lost[lost.uuid] = self._lost.get(lost.uuid, 0) + 1
        if self._lost[lost.uuid] >= TRIES:
            error = f"{lost.reason}, for the {_ordinal(TRIES)} time while it executed this run"
            self._end(lost.uuid, Executed.failed(error, self._provenance))
            return []
        running.heartbeat.close()
        del self._running[lost.uuid]
        self._reporter.cell_lost(running.cell, lost.reason)
        store.release(self._warehouse, lost.uuid, self._owner)
        return [(running.cell, running.planned)]

    def _note_worker(self, cell: Cell, begun: Begun) -> None:
        """Tell where the cell runs, and note it with the run for `rhodb status`."""
        self._reporter.message(f"    {cell.label}: on {begun.host}, pid {begun.pid}")
        try:
            store.executed_by(self._warehouse, begun.uuid, self._owner, {"host": begun.host, "pid": begun.pid})
        except RhodbError as error:  # nothing hangs on it
            self._reporter.message(f"    {cell.label}: its worker could not be noted: {error}")


def _ordinal(number: int) -> str:
    return {2: "second", 3: "third"}.get(number, f"{number}th")
