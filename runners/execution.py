"""Executing one cell, in whatever process: what it yields or dies of, when, and with what."""

import time
import traceback
from dataclasses import dataclass
from pathlib import Path

from rhodb.liveness import now
from rhodb.records import Provenance
from runners.cells import Cell, CellProgress, CellRows, Session


@dataclass(frozen=True, kw_only=True)
class Executed:
    """What executing a cell yielded."""

    rows: CellRows
    error: str | None
    started_at: str
    finished_at: str
    seconds: float
    provenance: Provenance

    @classmethod
    def failed(cls, error: str, provenance: Provenance) -> "Executed":
        """A cell that ended without having said anything itself."""
        moment = now()
        return cls(
            rows=CellRows(), error=error, started_at=moment, finished_at=moment, seconds=0.0, provenance=provenance
        )


def execute(
    session: Session, cell: Cell, artefacts: Path, progress: CellProgress, *, provenance: Provenance
) -> Executed:
    """Run one cell; whatever it dies of, but for Ctrl-C, becomes its error.

    Matrix products use one BLAS thread: with two, OpenBLAS adds up in another order, and the numbers would depend on
    the machine's cores and on who runs beside.
    """
    from runners.backend.blas import blas_threads

    started_at, started = now(), time.monotonic()
    rows, error = CellRows(), None
    try:
        with blas_threads(1):
            rows = session.execute(cell, artefacts, progress)
    except Exception as exception:  # noqa: BLE001  whatever a cell dies of is kept with the run; the others go on
        error = describe_error(exception)
        rows = CellRows(notes={"traceback": traceback.format_exc()})
    return Executed(
        rows=rows,
        error=error,
        started_at=started_at,
        finished_at=now(),
        seconds=time.monotonic() - started,
        provenance=provenance,
    )


def describe_error(exception: Exception) -> str:
    """An exception as the error of a run; one of memory says what to do about it."""
    text = f"{type(exception).__name__}: {exception}".removesuffix(": ")
    if isinstance(exception, MemoryError) or "unable to allocate" in text.lower() or "bad_alloc" in text:
        return f"out of memory ({text}): run again with fewer --workers or a smaller batch, and --retry-failed"
    return text
