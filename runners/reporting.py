"""Showing the progress of a plan: a live display on a terminal, plain lines elsewhere. Always on stderr."""

import sys
import time
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
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
        self._current = 0.0
        self._cell: Cell | None = None
        self._started = time.monotonic()

    def planned(self, to_do: Sequence[Cell]) -> None:
        self._cells = list(to_do)
        self._started = time.monotonic()

    def started(self, cell: Cell) -> None:
        self._cell, self._current = cell, 0.0

    def trained(self, step: int, total: int) -> None:
        if self._cell:
            self._current = self._cell.train_work * step / total

    def scored(self, done: int, total: int) -> None:
        if self._cell:
            self._current = self._cell.train_work + self._cell.score_work * done / max(total, 1)

    def finished(self) -> None:
        if self._cell:
            self._done += self._cell.work
        self._cell, self._current = None, 0.0

    @property
    def total(self) -> float:
        return sum(cell.work for cell in self._cells)

    @property
    def done(self) -> float:
        return self._done + self._current

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

    def step(self, row: TrainStepRow, total: int) -> None:
        self._estimate.trained(row.step, total)
        if row.step == total or row.step % max(1, total // 4) == 0:
            self._line(f"    {step_line(row, total)}, {duration(self._estimate.seconds_left())} left in all")

    def scored(self, done: int, total: int) -> None:
        self._estimate.scored(done, total)

    def cell_done(self, cell: Cell, seconds: float) -> None:
        self._estimate.finished()
        self._line(f"    done in {duration(seconds)}, {duration(self._estimate.seconds_left())} left in all")

    def cell_failed(self, cell: Cell, error: str) -> None:
        self._estimate.finished()
        self._line(f"    FAILED {cell.label}: {error}")

    def message(self, text: str) -> None:
        self._line(text)

    def close(self) -> None:
        """Nothing to tidy up."""

    def _line(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)  # noqa: T201  this class is the printing


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
        return Text(f"{duration(self._estimate.seconds_left())} left", style="progress.remaining")


class LiveReporter:
    """A bar over the plan's work and a line for the current cell; events stay above it as lines."""

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
        self._what = ""
        self._cells = (0, 0)

    def planned(self, cells: Sequence[Cell], to_do: Sequence[Cell]) -> None:
        self._estimate.planned(to_do)
        self._cells = (0, len(to_do))
        self.message(f"{len(cells)} cells, {len(cells) - len(to_do)} done before, {len(to_do)} to run")
        self._progress.start()
        self._show("")

    def cell_started(self, cell: Cell, attempt: int) -> None:
        self._estimate.started(cell)
        self._what = cell.label
        self._show("")

    def step(self, row: TrainStepRow, total: int) -> None:
        self._estimate.trained(row.step, total)
        self._show(step_line(row, total))

    def scored(self, done: int, total: int) -> None:
        self._estimate.scored(done, total)
        self._show(f"scoring {done}/{total} pairs")

    def cell_done(self, cell: Cell, seconds: float) -> None:
        self._end_cell()
        self._console.print(f"[green]✓[/green] {escape(cell.label)}  [dim]{duration(seconds)}[/dim]")

    def cell_failed(self, cell: Cell, error: str) -> None:
        self._end_cell()
        self._console.print(f"[red]✗[/red] {escape(cell.label)}: {escape(error)}")

    def message(self, text: str) -> None:
        self._console.print(escape(text))

    def close(self) -> None:
        self._progress.stop()

    def _end_cell(self) -> None:
        self._estimate.finished()
        self._cells = (self._cells[0] + 1, self._cells[1])
        self._show("")

    def _show(self, detail: str) -> None:
        done, total = self._cells
        text = escape(f"cell {min(done + 1, total)}/{total} {self._what}  {detail}".rstrip())
        self._progress.update(
            self._task, description=text, completed=self._estimate.done, total=self._estimate.total or None
        )


def make_reporter(seconds_per_work: float) -> PlainReporter | LiveReporter:
    """A live display if stderr is a terminal, else plain lines."""
    return LiveReporter(seconds_per_work) if sys.stderr.isatty() else PlainReporter(seconds_per_work)
