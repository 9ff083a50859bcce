"""Workers of a Dask cluster (a `runners.coordinator.Pool`), on machines that share the warehouse's folder.

A cell travels as the runner's name, its resolved configuration and the run's uuid; models and probes are loaded by
the worker, by name, and only rows come back. A cell whose worker is lost is given to another one by Dask itself; where
the coordinator is lost, its cells are taken up by whoever runs the plan next. What a cell reports on its way travels as
an event of the scheduler, under a topic of this coordinator's own.
"""

import importlib
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final
from uuid import uuid4

from rhodb.errors import InputError
from rhodb.records import Provenance, TrainStepRow
from runners.cells import Cell
from runners.events import Begun, Ended, Event, Scored, Stepped
from runners.execution import Executed, execute
from runners.plans import PlannedRun, PlanSession, decode_runs, encode_runs

Client = Any
Future = Any
"""Dask's, which has no types and is an extra."""
CONNECT_S: Final = 20.0
LOOK_S: Final = 0.1
EVENT_S: Final = 1.0
INSTALL: Final = "install the extra with `pip install 'rhodb[cluster]'`"


@contextmanager
def connected(address: str) -> Iterator[Client]:
    """A client of the scheduler at `address`. Raises InputError where Dask is not installed or nobody answers."""
    try:
        distributed: Any = importlib.import_module("distributed")
    except ImportError as error:
        raise InputError(f"--cluster needs Dask: {INSTALL}") from error
    try:
        client = distributed.Client(address, timeout=CONNECT_S)
    except (OSError, ValueError, TimeoutError) as error:
        raise InputError(f"no Dask scheduler answers at {address}: {error}") from error
    with client:
        yield client


class DaskPool:
    """Every thread of the cluster's workers executes one cell at a time."""

    def __init__(self, client: Client, runs: Sequence[PlannedRun], provenance: Provenance) -> None:
        """`provenance`: what a run gets whose worker could not say its own."""
        self._client, self._payload, self._provenance = client, encode_runs(runs), provenance
        self._futures: dict[Future, str] = {}
        self._topic = f"rhodb-{uuid4().hex}"
        self._said: SimpleQueue[Mapping[str, Any]] = SimpleQueue()
        client.subscribe_topic(self._topic, lambda event: self._said.put(event[1]))

    next_worker = None
    starting = False
    """Dask starts workers, and they may come and go; work that waits for one is no worse than an idle coordinator."""

    def expect(self, cells: Sequence[Cell]) -> None:
        """The cluster is there already."""

    @property
    def free(self) -> int:
        """Threads without a cell; one while there is no worker at all, so that Dask can wait for the first."""
        threads: int = sum(self._client.nthreads().values())
        return max(1, threads) - len(self._futures)

    def submit(self, uuid: str, attempt: int, artefacts: Path, waiting: int) -> None:
        """Hand a run to the scheduler."""
        arguments = (self._payload, uuid, str(artefacts), self._topic)
        future = self._client.submit(execute_remotely, *arguments, key=f"{uuid}-{attempt}", pure=False)
        self._futures[future] = uuid

    def poll(self, seconds: float) -> Sequence[Event]:
        """What was reported, then what ended: what a cell reports comes before its end."""
        ended = [future for future in self._futures if future.done()]
        events = list(self._reported())
        if not ended:
            time.sleep(min(seconds, LOOK_S))
        return [*events, *(Ended(uuid=self._futures.pop(future), executed=self._result(future)) for future in ended)]

    def abandon(self) -> None:
        """What waits is not begun; what runs comes to an end, and nobody asks for it."""
        self._client.cancel(list(self._futures))

    def _reported(self) -> Iterator[Event]:
        with suppress(Empty):
            while True:
                said = dict(self._said.get_nowait())
                uuid = said["uuid"]
                if "pid" in said:
                    yield Begun(uuid=uuid, host=said["host"], pid=said["pid"])
                elif "row" in said:
                    yield Stepped(uuid=uuid, row=TrainStepRow(**said["row"]), total=said["total"])
                else:
                    yield Scored(uuid=uuid, done=said["done"], total=said["total"])

    def _result(self, future: Future) -> Executed:
        if future.status == "finished":
            result: Executed = future.result()
            return result
        error = future.exception()
        return Executed.failed(f"{type(error).__name__}: {error}", self._provenance)


def execute_remotely(payload: str, uuid: str, artefacts: str, topic: str) -> Executed:
    """In a worker: execute the cell of this run, and tell the coordinator's topic about it."""
    progress = _Events(uuid, topic)
    progress.send(host=socket.gethostname(), pid=os.getpid())
    session, provenance = _prepared(payload)
    return execute(session, session.cell_of(uuid), Path(artefacts), progress, provenance=provenance)


@lru_cache(maxsize=1)
def _prepared(payload: str) -> tuple[PlanSession, Provenance]:
    """The worker's session of a plan, made once a process."""
    from runners.provenance import of_this_process

    return PlanSession(decode_runs(payload)), of_this_process()


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
