"""Runs under `mlx.launch`: rank 0 plans, claims and writes; the others join it in each cell and write nothing."""

import tempfile
from pathlib import Path
from typing import Any

from rhodb.errors import RhodbError
from rhodb.records import TrainStepRow
from runners.backend.data_parallel import Ranks
from runners.cells import Cell, CellProgress, CellRows, Session

END = 0.0


class Leading:
    """A session whose every cell is announced to the other ranks before rank 0 executes it."""

    def __init__(self, session: Session, ranks: Ranks) -> None:
        self._session, self._ranks = session, ranks
        self._numbers = {_key(cell): number for number, cell in enumerate(session.cells, 1)}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def execute(self, cell: Cell, artefacts: Path, progress: CellProgress) -> CellRows:
        self._ranks.announced(float(self._numbers[_key(cell)]))
        return self._session.execute(cell, artefacts, progress)

    def end(self) -> None:
        """Let the other ranks go."""
        self._ranks.announced(END)


def follow(session: Session, ranks: Ranks) -> None:
    """On the other ranks: execute what rank 0 announces. A cell that fails fails on rank 0 too, which records it."""
    while (number := ranks.announced(0.0)) != END:
        with tempfile.TemporaryDirectory() as folder:
            try:
                session.execute(session.cells[int(number) - 1], Path(folder) / "adapter", _Silent())
            except RhodbError:
                continue


def _key(cell: Cell) -> tuple[str, int, str]:
    return cell.identity.kind, cell.identity.seed, cell.identity.config_hash


class _Silent:
    def step(self, row: TrainStepRow, total: int) -> None: ...

    def scored(self, done: int, total: int) -> None: ...
