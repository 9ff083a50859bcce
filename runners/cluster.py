"""A plan on a Dask cluster: workers execute cells, the coordinator alone writes to the warehouse.

A cell travels as the runner's name, its resolved configuration and the run's uuid; models and probes are loaded by
the worker, by name, and only rows come back. A cell whose worker is lost is given to another one; where the
coordinator is lost, its cells are taken up by whoever runs the plan next. Adapters are written by the worker into the
folder beside the warehouse, which the machines of a cluster must share.
"""

import importlib
import os
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from rhodb import store
from rhodb.errors import InputError
from rhodb.liveness import now
from rhodb.records import Provenance, TrainStepRow
from runners.cells import Cell, CellRows
from runners.executor import POLL_S, Claimable, Executed, Executor
from runners.plans import PlannedRun, PlanSession, decode_runs, encode_runs

Client = Any
Future = Any
"""Dask's, which has no types and is an extra."""
CONNECT_S: Final = 20.0
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

    def _one_round(self, to_do: list[Claimable]) -> list[Claimable]:
        """Submit every cell that is ready, and others as soon as what they need is done; return those of others."""
        running: dict[Future, tuple[Cell, str, int]] = {}
        left = list(to_do)
        ran = False
        with ExitStack() as heartbeats:
            try:
                while True:
                    left = self._submit_ready(left, running, heartbeats)
                    if not running:
                        return left if ran else self._look_elsewhere(left)
                    ran = True
                    self._collect(running)
            except KeyboardInterrupt:
                self._client.cancel(list(running))
                for _, uuid, _ in running.values():
                    store.release(self._warehouse, uuid, self._owner)
                raise

    def _submit_ready(
        self, to_do: list[Claimable], running: dict[Future, tuple[Cell, str, int]], heartbeats: ExitStack
    ) -> list[Claimable]:
        left = []
        for cell, planned in to_do:
            attempt = self._claim(planned) if self._is_ready(cell) else None
            if attempt is None:
                left.append((cell, planned))
                continue
            self._reporter.cell_started(cell, attempt)
            heartbeats.enter_context(self._heartbeat(planned.uuid))
            future = self._client.submit(
                execute_remotely,
                self._payload,
                planned.uuid,
                str(self._artefacts(planned.uuid).resolve()),
                key=f"{planned.uuid}-{attempt}",
                pure=False,
                priority=-len(running),
            )
            running[future] = (cell, planned.uuid, attempt)
        return left

    def _collect(self, running: dict[Future, tuple[Cell, str, int]]) -> None:
        """Wait for some cell to end, and record every one that has."""
        ended = [future for future in running if future.done()]
        if not ended:
            time.sleep(POLL_S / 10)
        for future in ended:
            cell, uuid, attempt = running.pop(future)
            self._record(cell, uuid, attempt, self._result(future))

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


def execute_remotely(payload: str, uuid: str, artefacts: str) -> Executed:
    """In a worker: execute the cell of this run."""
    session, provenance = _prepared(payload)
    started_at, started = now(), time.monotonic()
    rows, error = CellRows(), None
    try:
        rows = session.execute(session.cell_of(uuid), Path(artefacts), _Silent())
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


class _Silent:
    """Workers report nothing on the way."""

    def step(self, row: TrainStepRow, total: int) -> None: ...

    def scored(self, done: int, total: int) -> None: ...
