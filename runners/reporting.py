"""Showing the progress of a plan: a live display on a terminal, plain lines elsewhere. Always on stderr."""

import sys
import time
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from rhodb.records import TrainStepRow
from runners.cells import Cell


def duration(seconds: float) -> str:
    """Seconds as a person says them: `48 s`, `6 min 05 s`, `3 h 12 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


class Estimate:
    """How much of the plan's work is done, and how long the rest takes at the speed seen so far."""

    def __init__(self, seconds_per_work: float) -> None:
        self._prior = seconds_per_work
        self._cells: list[Cell] = []
        self._done = 0.0
        self._running: dict[int, float] = {}
        """Work done of each cell that runs, by the cell's `id`."""
        self._started = time.monotonic()

    def planned(self, to_do: Sequence[Cell]) -> None:
        self._cells = list(to_do)
        self._started = time.monotonic()

    def started(self, cell: Cell) -> None:
        self._running[id(cell)] = 0.0

    def trained(self, cell: Cell, step: int, total: int) -> None:
        self._running[id(cell)] = cell.train_work * step / total

    def scored(self, cell: Cell, done: int, total: int) -> None:
        self._running[id(cell)] = cell.train_work + cell.score_work * done / max(total, 1)

    def finished(self, cell: Cell) -> None:
        self._running.pop(id(cell), None)
        self._done += cell.work

    def lost(self, cell: Cell) -> None:
        self._running.pop(id(cell), None)

    def share(self, cell: Cell) -> float:
        """How much of a running cell is done, in [0, 1]."""
        return self._running.get(id(cell), 0.0) / max(cell.work, 1.0)

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def total(self) -> float:
        return sum(cell.work for cell in self._cells)

    @property
    def done(self) -> float:
        return self._done + sum(self._running.values())

    def seconds_left(self) -> float:
        """The prior counts like a tenth of the plan, so that the first estimates do not jump."""
        weight = 0.1 * self.total
        elapsed = time.monotonic() - self._started
        rate = (elapsed + self._prior * weight) / (self.done + weight) if self.total else 0.0
        return rate * max(self.total - self.done, 0.0)


class PlainReporter:
    """One line an event, for logs and pipes."""

    def __init__(self, seconds_per_work: float) -> None:
        self._estimate = Estimate(seconds_per_work)
        self._count = 0
        self._total = 0
        self._steps: dict[int, int] = {}

    def planned(self, cells: Sequence[Cell], to_do: Sequence[Cell]) -> None:
        self._estimate.planned(to_do)
        self._total = len(to_do)
        done = len(cells) - len(to_do)
        about = duration(self._estimate.seconds_left())
        self._line(f"{len(cells)} cells, {done} done before, {len(to_do)} to run, about {about}")

    def cell_started(self, cell: Cell, attempt: int) -> None:
        self._estimate.started(cell)
        self._count += 1
        again = f" (attempt {attempt})" if attempt > 1 else ""
        self._line(f"[{self._count}/{self._total}] {cell.label}{again}")

    def step(self, cell: Cell, row: TrainStepRow, total: int) -> None:
        quarter = max(1, total // 4)
        before, self._steps[id(cell)] = self._steps.get(id(cell), 0), row.step
        self._estimate.trained(cell, row.step, total)
        if row.step == total or row.step // quarter > before // quarter:  # steps may be left out on their way here
            self._line(f"    {self._which(cell)}{step_line(row, total)}, {self._left()} left in all")

    def scored(self, cell: Cell, done: int, total: int) -> None:
        self._estimate.scored(cell, done, total)

    def cell_done(self, cell: Cell, seconds: float) -> None:
        which = self._which(cell)
        self._estimate.finished(cell)
        self._line(f"    {which}done in {duration(seconds)}, {self._left()} left in all")

    def cell_failed(self, cell: Cell, error: str) -> None:
        self._estimate.finished(cell)
        self._line(f"    FAILED {cell.label}: {error}")

    def cell_lost(self, cell: Cell, reason: str) -> None:
        self._estimate.lost(cell)
        self._steps.pop(id(cell), None)
        self._count -= 1
        self._line(f"    {lost_line(cell, reason)}")

    def message(self, text: str) -> None:
        self._line(text)

    def close(self) -> None:
        """Nothing to tidy up."""

    def _which(self, cell: Cell) -> str:
        """The cell's label where others run beside it."""
        return f"{cell.label}: " if self._estimate.running > 1 else ""

    def _left(self) -> str:
        return duration(self._estimate.seconds_left())

    def _line(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)  # noqa: T201  this class is the printing


def lost_line(cell: Cell, reason: str) -> str:
    """A cell whose worker has ended."""
    return f"{cell.label} is run again: {reason} while it executed it"


def step_line(row: TrainStepRow, total: int) -> str:
    """`step 12/48  ce 2.31  rho 0.084  active 3/4`, leaving out what the condition does not have."""
    parts = [f"step {row.step}/{total}"]
    if row.ce_loss is not None:
        parts.append(f"ce {row.ce_loss:.3f}")
    if row.rho_loss is not None:
        parts.append(f"rho {row.rho_loss:.4f}")
    if row.pairs:
        parts.append(f"active {row.active_pairs}/{row.pairs}")
    return "  ".join(parts)


class _TimeLeft(ProgressColumn):
    def __init__(self, estimate: Estimate) -> None:
        super().__init__()
        self._estimate = estimate

    def render(self, task: Task) -> Text:
        """Of the plan's bar only."""
        if task.id != 0:
            return Text("")
        return Text(f"{duration(self._estimate.seconds_left())} left", style="progress.remaining")


class LiveReporter:
    """A bar over the plan's work and one for each cell that runs; events stay above them as lines."""

    def __init__(self, seconds_per_work: float) -> None:
        self._estimate = Estimate(seconds_per_work)
        self._console = Console(stderr=True, highlight=False)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            _TimeLeft(self._estimate),
            console=self._console,
            transient=True,
        )
        self._task = self._progress.add_task("plan", total=None)
        self._running: dict[int, TaskID] = {}
        """Bar of each cell that runs, by the cell's `id`."""
        self._cells = (0, 0)

    def planned(self, cells: Sequence[Cell], to_do: Sequence[Cell]) -> None:
        self._estimate.planned(to_do)
        self._cells = (0, len(to_do))
        self.message(f"{len(cells)} cells, {len(cells) - len(to_do)} done before, {len(to_do)} to run")
        self._progress.start()
        self._show()

    def cell_started(self, cell: Cell, attempt: int) -> None:
        self._estimate.started(cell)
        self._running[id(cell)] = self._progress.add_task(f"  {escape(cell.label)}", total=1.0)
        self._show()

    def step(self, cell: Cell, row: TrainStepRow, total: int) -> None:
        self._estimate.trained(cell, row.step, total)
        self._show(cell, step_line(row, total))

    def scored(self, cell: Cell, done: int, total: int) -> None:
        self._estimate.scored(cell, done, total)
        self._show(cell, f"scored {done}/{total}")

    def cell_done(self, cell: Cell, seconds: float) -> None:
        self._end_cell(cell)
        self._console.print(f"[green]✓[/green] {escape(cell.label)}  [dim]{duration(seconds)}[/dim]")

    def cell_failed(self, cell: Cell, error: str) -> None:
        self._end_cell(cell)
        self._console.print(f"[red]✗[/red] {escape(cell.label)}: {escape(error)}")

    def cell_lost(self, cell: Cell, reason: str) -> None:
        self._estimate.lost(cell)
        self._remove_bar(cell)
        self._console.print(f"[yellow]↻[/yellow] {escape(lost_line(cell, reason))}")
        self._show()

    def message(self, text: str) -> None:
        self._console.print(escape(text))

    def close(self) -> None:
        self._progress.stop()

    def _end_cell(self, cell: Cell) -> None:
        self._estimate.finished(cell)
        self._remove_bar(cell)
        self._cells = (self._cells[0] + 1, self._cells[1])
        self._show()

    def _remove_bar(self, cell: Cell) -> None:
        if (task := self._running.pop(id(cell), None)) is not None:
            self._progress.remove_task(task)

    def _show(self, cell: Cell | None = None, detail: str = "") -> None:
        done, total = self._cells
        self._progress.update(
            self._task,
            description=f"{done} of {total} cells",
            completed=self._estimate.done,
            total=self._estimate.total or None,
        )
        if cell is not None and id(cell) in self._running:
            text = escape(f"  {cell.label}  {detail}")
            self._progress.update(self._running[id(cell)], description=text, completed=self._estimate.share(cell))


def make_reporter(seconds_per_work: float) -> PlainReporter | LiveReporter:
    """A live display if stderr is a terminal, else plain lines."""
    return LiveReporter(seconds_per_work) if sys.stderr.isatty() else PlainReporter(seconds_per_work)
