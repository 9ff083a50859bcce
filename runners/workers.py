"""Worker processes on this machine: started, given one cell at a time, watched, and replaced where they die."""

import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from rhodb.errors import RhodbError
from rhodb.exits import describe_exit
from runners.cells import Cell
from runners.events import Ended, Event, Lost, Told
from runners.plans import PlannedRun
from runners.resources import free_memory, usable_cores
from runners.worker import Description, Ready, Refused, Setup, Task

HUNG_UP: Final = (EOFError, BrokenPipeError, ConnectionResetError)
STARTS: Final = 3
"""A command gives up after so many workers that ended before they were ready."""
GIB: Final = 2**30


class WorkerLostError(RhodbError):
    """Workers end before they are ready."""


class Worker:
    """One process, from its start on."""

    def __init__(self, setup: Setup) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", "from runners.worker import main; main()", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.PIPE,  # nothing is written: it ends when this process does
                stdout=2,  # stderr: what libraries print must not get among the command's own output
            )
        self.connection = Connection(ours.detach())
        self.ready = False
        """Its session is prepared."""
        self.run: str | None = None
        """Uuid of the run that it executes."""
        self.send(setup)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def idle(self) -> bool:
        return self.ready and self.run is None

    def send(self, message: Any) -> None:
        """A worker that is gone is noticed when it is read from."""
        with suppress(*HUNG_UP):
            self.connection.send(message)

    def end(self) -> str:
        """Wait for a process that has hung up; how it ended, as a sentence without its stop."""
        how = f"the worker (pid {self.pid}) {describe_exit(self._process.wait())}"
        self.kill()
        return how

    def kill(self) -> None:
        """End the process and let go of what belongs to it."""
        self._process.kill()
        self._process.wait()
        self.connection.close()
        assert self._process.stdin is not None, "it was opened as a pipe"
        self._process.stdin.close()


class ProcessPool:
    """Worker processes of one plan (a `runners.coordinator.Pool`). As a context manager it leaves none behind.

    The first worker says what there is to do and what that takes (`describe`); `expect` starts the others.
    """

    def __init__(self, runs: Sequence[PlannedRun], *, is_plan: bool, db: str | None, workers: int | None) -> None:
        """`workers`: how many; None chooses by cores, memory and work."""
        setup = Setup(runs=runs, is_plan=is_plan, db=db, describe=True)
        self._further = replace(setup, describe=False)
        self._asked = workers
        self._workers = [Worker(setup)]
        self._at_once = 1
        """Workers that there should be."""
        self._failed_starts = 0
        self._session: Description | None = None

    def __enter__(self) -> "ProcessPool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abandon()

    def describe(self) -> Description:
        """What the first worker says of the session. Raises what preparing it raised, or WorkerLostError."""
        while self._session is None:
            self.poll(None)
        return self._session

    def expect(self, cells: Sequence[Cell]) -> str | None:
        """Start as many workers as suit the cells that are to be run; a remark on their number, if there is one."""
        self._at_once, remark = number_of_workers(self.describe(), cells, self._asked)
        self._workers += [Worker(self._further) for _ in range(self._at_once - len(self._workers))]
        return remark

    @property
    def free(self) -> int:
        """How many runs it can take now."""
        return sum(worker.idle for worker in self._workers)

    @property
    def next_worker(self) -> Mapping[str, str | int] | None:
        """Host and pid of the process that the next run will be submitted to."""
        worker = next((worker for worker in self._workers if worker.idle), None)
        return {"host": socket.gethostname(), "pid": worker.pid} if worker else None

    @property
    def starting(self) -> bool:
        """Some worker is still getting ready."""
        return any(not worker.ready for worker in self._workers)

    def submit(self, uuid: str, attempt: int, artefacts: Path, waiting: int) -> None:
        """Give a run to a free worker. Runs that others could take at once leave it fewer cores."""
        worker = next(worker for worker in self._workers if worker.idle)
        worker.run = uuid
        busy = sum(worker.run is not None for worker in self._workers)
        beside = min(self._at_once, busy + waiting)
        worker.send(Task(uuid=uuid, artefacts=artefacts, cores=max(1, usable_cores() // beside)))

    def poll(self, seconds: float | None) -> Sequence[Event]:
        """What the workers have said since; waits for one to say something, but not longer."""
        ready = wait([worker.connection for worker in self._workers], seconds)
        return [event for worker in list(self._workers) if worker.connection in ready for event in self._read(worker)]

    def abandon(self) -> None:
        """End all workers, whatever they do."""
        for worker in self._workers:
            worker.kill()
        self._workers = []

    def _read(self, worker: Worker) -> list[Event]:
        """Take one message of a worker, or its end."""
        try:
            message = worker.connection.recv()
        except HUNG_UP:
            return self._replace(worker)
        match message:
            case Description():
                self._session = message
                return []
            case Ready():
                worker.ready = True
                return []
            case Refused() if self._session is None:
                raise message.error()
            case Refused():  # though the first one got ready: its end, which follows, is acted on
                return [Told(text=f"a further worker could not get ready: {message.message}")]
            case Ended():
                worker.run = None
        return [message]

    def _replace(self, worker: Worker) -> list[Event]:
        """A worker has ended: say how, and start another one if there is memory for it or it was the last."""
        self._workers.remove(worker)
        how = worker.end()
        events: list[Event] = [Told(text=how)] if worker.run is None else [Lost(uuid=worker.run, reason=how)]
        if self._session is None:
            raise WorkerLostError(f"{how} while it was getting ready; nothing was run")
        self._failed_starts += not worker.ready
        if self._failed_starts >= STARTS and not self._workers:
            raise WorkerLostError(f"{how} while it was getting ready, as others before; what was finished is stored")
        if not self._workers or (self._failed_starts < STARTS and free_memory() > self._session.peak_bytes):
            self._workers.append(Worker(self._further))
        else:
            self._at_once = len(self._workers)
            events.append(Told(text=f"no worker takes its place: {self._at_once} go on"))
        return events


def number_of_workers(session: Description, cells: Sequence[Cell], asked: int | None) -> tuple[int, str | None]:
    """How many workers execute the cells, and a remark where memory decides or will be short.

    One a core, as far as free memory goes, and one on a GPU, where the work is shared, and where it is done before a
    second one is ready.
    """
    most = max(1, len(cells))
    room = max(1, int((free_memory() + session.resident_bytes) // session.peak_bytes))
    needs = f"each worker takes about {session.peak_bytes / GIB:.1f} GiB at its peak"
    if asked is not None:
        count = min(asked, most)
        short = f"{needs}, and there is room for {room} of {count}: one may be ended for lack of memory"
        return count, short if count > room else None
    if session.on_gpu or session.shares_work or sum(c.work for c in cells) * session.rate <= session.start_seconds:
        return 1, None
    count = min(usable_cores(), most)
    return min(count, room), f"{needs}, and there is room for {room}, not {count}" if count > room else None
