"""The process that executes cells for a coordinator on the same machine.

It prepares the session once, describes it, and then executes one run after the other. It speaks through the socket
that it was given and lives as long as its standard input stays open, so that a coordinator that is killed takes its
workers along.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import psutil

from rhodb.errors import RhodbError
from rhodb.records import ModelRecord, ProbeSetRecord, Provenance, TrainStepRow
from rhodb.rows import run_uuid
from runners.cells import Cell, Session
from runners.events import Ended, Scored, Stepped
from runners.execution import execute
from runners.plans import PlannedRun, PlanSession, models_by_identity
from runners.resources import check_mlx

REPORT_S: Final = 0.2
"""Progress is sent no more often, but for the last of a phase."""
PROCESS_BYTES: Final = 400 * 2**20
"""What a worker takes beside MLX's arrays."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What a worker is told first."""

    runs: Sequence[PlannedRun]
    is_plan: bool
    """A plan's cells are ordered; those of a single experiment come as it gives them."""
    db: str | None
    """Where vectors of texts are kept."""
    describe: bool
    """Say what there is to do, before saying that one is ready."""


@dataclass(frozen=True, kw_only=True)
class Description:
    """A session as its coordinator needs to know it (a `runners.cells.Described`)."""

    models: Sequence[ModelRecord]
    probe_sets: dict[str, ProbeSetRecord]
    cells: Sequence[Cell]
    rate: float
    """Seconds for one unit of `Cell.work`, on as many cores as the process was granted."""
    provenance: Provenance
    on_gpu: bool
    shares_work: bool
    """A second process would do again what the first has done for all cells."""
    peak_bytes: int
    """Memory that a worker takes at its peak, estimated."""
    resident_bytes: int
    """What it takes now."""
    start_seconds: float
    """How long the session took to prepare, from the start of the process."""

    @property
    def model(self) -> ModelRecord:
        return self.models[0]

    def seconds_per_work(self) -> float:
        return self.rate


@dataclass(frozen=True, kw_only=True)
class Ready:
    """The session is prepared: runs may come."""


@dataclass(frozen=True, kw_only=True)
class Refused:
    """The session could not be prepared, for a reason that a person can act on."""

    message: str
    exit_code: int

    def error(self) -> RhodbError:
        """The same error in the coordinator."""
        error = RhodbError(self.message)
        error.exit_code = self.exit_code
        return error


@dataclass(frozen=True, kw_only=True)
class Task:
    """A run to be executed."""

    uuid: str
    artefacts: Path
    cores: int


def main() -> None:
    """Serve the coordinator at the other end of the socket until it hangs up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the coordinator decides
    threading.Thread(target=_live_with_coordinator, daemon=True).start()
    connection = Connection(int(sys.argv[1]))
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        _serve(connection)
    sys.stderr.flush()
    os._exit(0)  # nothing is left to tidy up, and MLX's threads need not be waited for


def _live_with_coordinator() -> None:
    """End at once when standard input is closed: the coordinator is gone."""
    while os.read(0, 4096):
        pass
    os._exit(1)


def _serve(connection: Connection) -> None:
    setup: Setup = connection.recv()
    try:
        check_mlx()
    except RhodbError as error:
        connection.send(Refused(message=str(error), exit_code=error.exit_code))
        return
    from rhodb.vectors import WarehouseVectors
    from runners.backend.blas import blas_threads
    from runners.backend.cores import granted
    from runners.landscape_vectors import kept_in
    from runners.provenance import of_this_process

    provenance = of_this_process()
    with blas_threads(1), kept_in(WarehouseVectors(setup.db)):
        try:
            session = PlanSession(setup.runs) if setup.is_plan else setup.runs[0].prepare()
            if setup.describe:
                connection.send(describe(session, provenance))
        except RhodbError as error:
            connection.send(Refused(message=str(error), exit_code=error.exit_code))
            return
        connection.send(Ready())
        cells = {run_uuid(cell.identity): cell for cell in session.cells}
        while True:
            task: Task = connection.recv()
            progress = _Progress(connection, task.uuid)
            with granted(task.cores):
                executed = execute(session, cells[task.uuid], task.artefacts, progress, provenance=provenance)
            connection.send(Ended(uuid=task.uuid, executed=executed))


def describe(session: Session, provenance: Provenance) -> Description:
    """What the coordinator needs to know."""
    from runners.backend.device import is_cpu

    process = psutil.Process()
    resident = process.memory_info().rss
    estimate = getattr(session, "peak_bytes", None)
    return Description(
        models=list(models_by_identity(session).values()),
        probe_sets=dict(session.probe_sets),
        cells=list(session.cells),
        rate=session.seconds_per_work(),
        provenance=provenance,
        on_gpu=not is_cpu(),
        shares_work=getattr(session, "shares_work", False),
        peak_bytes=max(resident, PROCESS_BYTES + (estimate() if estimate is not None else resident)),
        resident_bytes=resident,
        start_seconds=time.time() - process.create_time(),
    )


class _Progress:
    """A cell's progress as events."""

    def __init__(self, connection: Connection, uuid: str) -> None:
        self._connection, self._uuid = connection, uuid
        self._sent = 0.0

    def step(self, row: TrainStepRow, total: int) -> None:
        if self._due(row.step == total):
            self._connection.send(Stepped(uuid=self._uuid, row=row, total=total))

    def scored(self, done: int, total: int) -> None:
        if self._due(done == total):
            self._connection.send(Scored(uuid=self._uuid, done=done, total=total))

    def _due(self, last: bool) -> bool:
        due = last or time.monotonic() - self._sent >= REPORT_S
        if due:
            self._sent = time.monotonic()
        return due
