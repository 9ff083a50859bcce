"""A plan on a Dask cluster: workers execute cells, the coordinator alone writes to the warehouse.

A cell travels as the runner's name, its resolved configuration and the run's uuid; models and probes are loaded by
the worker, by name, and only rows come back. A cell whose worker is lost is given to another one; where the
coordinator is lost, its cells are taken up by whoever runs the plan next. What a cell reports on its way travels as
an event of the scheduler, under a topic of this coordinator's own. Adapters are written by the worker into the folder
beside the warehouse, which the machines of a cluster must share.
"""

import importlib
import os
import socket
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final
from uuid import uuid4

from rhodb import store
from rhodb.errors import InputError, RhodbError
from rhodb.liveness import now
from rhodb.records import Provenance, TrainStepRow
from runners.cells import Cell, CellRows
from runners.executor import POLL_S, Claimable, Executed, Executor
from runners.plans import PlannedRun, PlanSession, decode_runs, encode_runs

Client = Any
Future = Any
"""Dask's, which has no types and is an extra."""
CONNECT_S: Final = 20.0
EVENT_S: Final = 1.0
INSTALL: Final = "install the extra with `pip install 'rhodb[cluster]'`"


@contextmanager
def connected(workers: int, address: str | None) -> Iterator[Client]:
    """A client of the running scheduler at `address`, or of a new one with `workers` processes on this machine.

    Raises InputError where Dask is not installed, both or neither are given, or nobody answers.
    """
    try:
        distributed: Any = importlib.import_module("distributed")
    except ImportError as error:
        raise InputError(f"--workers and --cluster need Dask: {INSTALL}") from error
    if bool(workers) == (address is not None):
        raise InputError("give either --workers N or --cluster ADDRESS")
    with ExitStack() as stack:
        if address is None:
            cluster = stack.enter_context(
                distributed.LocalCluster(
                    n_workers=workers,
                    threads_per_worker=1,
                    processes=True,
                    dashboard_address=None,
                    env={"OPENBLAS_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // workers))},
                )
            )
            yield stack.enter_context(distributed.Client(cluster))
            return
        try:
            client = distributed.Client(address, timeout=CONNECT_S)
        except (OSError, ValueError, TimeoutError) as error:
            raise InputError(f"no Dask scheduler answers at {address}: {error}") from error
        yield stack.enter_context(client)


class ClusterExecutor(Executor):
    """Claims cells and hands them to the workers; keeps what comes back."""

    def __init__(self, *arguments: Any, runs: Sequence[PlannedRun], client: Client, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._payload = encode_runs(runs)
        self._client = client
        self._topic = f"rhodb-{uuid4().hex}"
        self._events: SimpleQueue[Mapping[str, Any]] = SimpleQueue()
        client.subscribe_topic(self._topic, lambda event: self._events.put(event[1]))

    def _one_round(self, to_do: list[Claimable]) -> list[Claimable]:
        """Keep every thread of the workers busy with cells that are ready; return those of others."""
        running: dict[Future, _Submitted] = {}
        left = list(to_do)
        ran = False
        try:
            while True:
                left = self._submit_ready(left, running)
                if not running:
                    return left if ran else self._look_elsewhere(left)
                ran = True
                self._collect(running)
        except KeyboardInterrupt:
            self._client.cancel(list(running))
            for submitted in running.values():
                store.release(self._warehouse, submitted.uuid, self._owner)
            raise
        finally:
            for submitted in running.values():
                submitted.heartbeat.close()

    def _submit_ready(self, to_do: list[Claimable], running: dict[Future, "_Submitted"]) -> list[Claimable]:
        """Claim and submit as many as there are threads for: what waits is not in anybody's hands."""
        left = []
        free = max(1, sum(self._client.nthreads().values())) - len(running) if to_do else 0
        for cell, planned in to_do:
            attempt = self._claim(planned) if free > 0 and self._is_ready(cell) else None
            if attempt is None:
                left.append((cell, planned))
                continue
            free -= 1
            self._reporter.cell_started(cell, attempt)
            heartbeat = ExitStack()
            heartbeat.enter_context(self._heartbeat(planned.uuid))
            future = self._client.submit(
                execute_remotely,
                self._payload,
                planned.uuid,
                str(self._artefacts(planned.uuid).resolve()),
                self._topic,
                key=f"{planned.uuid}-{attempt}",
                pure=False,
            )
            running[future] = _Submitted(cell=cell, uuid=planned.uuid, attempt=attempt, heartbeat=heartbeat)
        return left

    def _collect(self, running: dict[Future, "_Submitted"]) -> None:
        """Show what was reported, wait for some cell to end, and record every one that has."""
        ended = [future for future in running if future.done()]
        self._show_events(running)  # of the ended ones, too: what they reported came before their end
        if not ended:
            time.sleep(POLL_S / 10)
        for future in ended:
            submitted = running.pop(future)
            submitted.heartbeat.close()
            self._record(submitted.cell, submitted.uuid, submitted.attempt, self._result(future))

    def _show_events(self, running: Mapping[Future, "_Submitted"]) -> None:
        """Pass on what the running cells have reported; a cell that has ended since is told of no more."""
        cells = {submitted.uuid: submitted.cell for submitted in running.values()}
        with suppress(Empty):
            while event := self._events.get_nowait():
                cell = cells.get(event["uuid"])
                if cell is None:
                    continue
                if "pid" in event:
                    self._note_worker(cell, event)
                elif "row" in event:
                    self._reporter.step(cell, TrainStepRow(**event["row"]), event["total"])
                else:
                    self._reporter.scored(cell, event["done"], event["total"])

    def _note_worker(self, cell: Cell, event: Mapping[str, Any]) -> None:
        """Tell where the cell runs, and note it with the run for `rhodb status`."""
        self._reporter.message(f"    {cell.label}: on {event['host']}, pid {event['pid']}")
        worker = {name: event[name] for name in ("host", "pid")}
        try:
            store.executed_by(self._warehouse, event["uuid"], self._owner, worker)
        except RhodbError as error:  # nothing hangs on it
            self._reporter.message(f"    {cell.label}: its worker could not be noted: {error}")

    def _result(self, future: Future) -> Executed:
        if future.status == "finished":
            result: Executed = future.result()
            return result
        error = future.exception()
        moment = now()
        return Executed(
            rows=CellRows(),
            error=f"{type(error).__name__}: {error}",
            started_at=moment,
            finished_at=moment,
            seconds=0.0,
            provenance=self._provenance,
        )


@dataclass(frozen=True, kw_only=True)
class _Submitted:
    """A cell in a worker's hands."""

    cell: Cell
    uuid: str
    attempt: int
    heartbeat: ExitStack
    """Open while the coordinator vouches for the run."""


def execute_remotely(payload: str, uuid: str, artefacts: str, topic: str) -> Executed:
    """In a worker: execute the cell of this run, and tell the coordinator's topic about it."""
    progress = _Events(uuid, topic)
    progress.send(host=socket.gethostname(), pid=os.getpid())
    session, provenance = _prepared(payload)
    started_at, started = now(), time.monotonic()
    rows, error = CellRows(), None
    try:
        rows = session.execute(session.cell_of(uuid), Path(artefacts), progress)
    except Exception as exception:  # noqa: BLE001  whatever a cell dies of is kept with the run; the others go on
        error = f"{type(exception).__name__}: {exception}"
        rows = CellRows(notes={"traceback": traceback.format_exc()})
    return Executed(
        rows=rows,
        error=error,
        started_at=started_at,
        finished_at=now(),
        seconds=time.monotonic() - started,
        provenance=provenance,
    )


@lru_cache(maxsize=1)
def _prepared(payload: str) -> tuple[PlanSession, Provenance]:
    """The worker's session of a plan, made once a process."""
    from runners.backend.blas import load_openblas
    from runners.backend.device import device_name
    from runners.provenance import collect

    blas = load_openblas()
    provenance = collect(device=device_name(), blas=f"{blas.name}, {blas.threads} threads, {blas.kernel}")
    return PlanSession(decode_runs(payload)), provenance


class _Events:
    """A cell's progress as events of the scheduler, not more than one a second but for the last of a phase."""

    def __init__(self, uuid: str, topic: str) -> None:
        distributed: Any = importlib.import_module("distributed")
        self._worker = distributed.get_worker()
        self._uuid, self._topic = uuid, topic
        self._sent = 0.0

    def send(self, **event: Any) -> None:
        """Dask adds the key `worker`, its own address."""
        self._worker.log_event(self._topic, {"uuid": self._uuid, **event})
        self._sent = time.monotonic()

    def step(self, row: TrainStepRow, total: int) -> None:
        if self._due(row.step == total):
            self.send(row=asdict(row), total=total)

    def scored(self, done: int, total: int) -> None:
        if self._due(done == total):
            self.send(done=done, total=total)

    def _due(self, last: bool) -> bool:
        return last or time.monotonic() - self._sent >= EVENT_S
