"""`rhodb run ... --until-decided`: blocks of seeds for the open hypotheses, a look after each, until all is decided."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from rhodb import hypotheses
from rhodb.cli.execution import Invocation, run_to_its_end
from rhodb.cli.output import emit, emit_json, note
from rhodb.errors import InputError
from rhodb.hypotheses import Hypothesis, Look
from rhodb.rows import run_uuid
from rhodb.warehouse import Warehouse

if TYPE_CHECKING:
    from runners.cells import Cell
    from runners.plans import PlannedRun
    from runners.worker import Description
    from runners.workers import ProcessPool

UNITS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What may be spent."""

    max_seeds: int | None = None
    budget_s: float | None = None


def read_limits(max_seeds: str | None, budget: str | None) -> Limits:
    """`--max-seeds 12`, `--budget 8h`. Raises InputError."""
    most = seconds = None
    if max_seeds is not None:
        if not max_seeds.isdigit() or int(max_seeds) < 1:
            raise InputError(f"--max-seeds must be a whole number above 0, got {max_seeds!r}")
        most = int(max_seeds)
    if budget is not None:
        number, unit = budget.rstrip("dhmins"), budget[len(budget.rstrip("dhmins")) :]
        try:
            seconds = float(number) * UNITS[unit or "s"]
        except (ValueError, KeyError):
            raise InputError(f"--budget is a time such as 8h, 30m or 90s, got {budget!r}") from None
        if not 0 < seconds < float("inf"):
            raise InputError(f"--budget must be above 0, got {budget!r}")
    return Limits(max_seeds=most, budget_s=seconds)


@dataclass
class Deciding:
    """The loop over blocks; `runs` are the experiments whose arms may be used, their seeds are the hypotheses'."""

    warehouse: Warehouse
    runs: "Sequence[PlannedRun]"
    invocation: Invocation
    limits: Limits
    started: float = field(default_factory=time.monotonic)
    blocks: int = 0

    def run(self) -> list[Hypothesis]:
        """Run until all answerable hypotheses are decided or the limits are reached; returns those."""
        asked = self._answerable()
        while due := self._due(asked):
            with self._session({h.name: h.seeds[:n] for h, n in due}) as (session, pool):
                if not self._affordable(session):
                    note("the budget does not allow another block")
                    break
                self._execute(session, pool)
            self._look(due)
            self.blocks += 1
        self._close_at_limit(asked)
        return asked

    def _answerable(self) -> list[Hypothesis]:
        """Open hypotheses whose arms these experiments train. Raises InputError where there are none."""
        every = [h for h in hypotheses.registered(self.warehouse) if h.withdrawn_at is None]
        if not every:
            raise InputError(
                "--until-decided needs a hypothesis: register one with `rhodb hypothesis add` (see --help)"
            )
        with self._session(None) as (session, _):
            configs = [cell.identity.config for cell in session.cells if cell.identity.kind == "alignment"]
            models = {cell.identity.model_key for cell in session.cells}
        found, why = [], []
        for h in every:
            untrained = []
            if h.model not in models:
                why.append(f"{h.name} is about {h.model}")
                continue
            for arm in h.arms:
                matching = {str(sorted(c.items())) for c in configs if h.matches(arm, c)}
                if not matching:
                    untrained.append(arm)
                if len(matching) > 1:
                    raise InputError(
                        f"hypothesis {h.name}: {len(matching)} strata of this command match {arm}: "
                        "register it with settings after @, e.g. rho-guided@rho_weight=0.5"
                    )
            why += [f"{h.name} needs {arm} under its settings, which these options do not train" for arm in untrained]
            if not untrained:
                found.append(h)
        if not found:
            raise InputError(f"no hypothesis can be answered by this command: {'; '.join(why)}")
        for reason in why:
            note(f"left out: {reason}")
        return found

    def _due(self, asked: Sequence[Hypothesis]) -> list[tuple[Hypothesis, int]]:
        """Each open hypothesis with the seeds of its next look, as far as --max-seeds allows."""
        from analysis.decide import next_look

        due = []
        for h in asked:
            n = next_look(h, hypotheses.looks_at(self.warehouse, h))
            if n is None:
                continue
            if self.limits.max_seeds is not None and n > self.limits.max_seeds:
                if self.blocks == 0 and not hypotheses.looks_at(self.warehouse, h):
                    raise InputError(
                        f"--max-seeds {self.limits.max_seeds} is too small for one block: {h.name} needs {n}"
                    )
                continue
            due.append((h, n))
        return due

    @contextmanager
    def _session(self, wanted: Mapping[str, tuple[int, ...]] | None) -> "Iterator[tuple[Description, ProcessPool]]":
        """The experiments for the hypotheses' seeds, in worker processes; only the cells that these need."""
        from runners.plans import PlannedRun
        from runners.workers import ProcessPool

        runs = list(self.runs)
        if wanted is not None:
            seeds = tuple(sorted({seed for own in wanted.values() for seed in own}))
            runs = [PlannedRun(runner=r.runner, config=r.config.model_copy(update={"seeds": seeds})) for r in runs]
        with ProcessPool(runs, is_plan=True, db=self.invocation.db, workers=self.invocation.workers) as pool:
            session = pool.describe()
            yield session if wanted is None else replace(session, cells=self._needed(session.cells, wanted)), pool

    def _needed(self, cells: "Sequence[Cell]", wanted: Mapping[str, tuple[int, ...]]) -> "list[Cell]":
        """The cells of these hypotheses' arms and seeds, and those that they need, in the plan's order."""
        every = {h.name: h for h in hypotheses.registered(self.warehouse)}
        by_uuid = {run_uuid(cell.identity): cell for cell in cells}
        found = {
            uuid
            for uuid, cell in by_uuid.items()
            for name, seeds in wanted.items()
            if cell.identity.kind == "alignment"
            and cell.identity.seed in seeds
            and any(every[name].matches(arm, cell.identity.config) for arm in every[name].arms)
        }
        left = list(found)
        while left:
            more = {run_uuid(identity) for identity in by_uuid[left.pop()].needs} - found
            found |= more
            left += more
        return [cell for uuid, cell in by_uuid.items() if uuid in found]

    def _affordable(self, session: "Description") -> bool:
        if self.limits.budget_s is None:
            return True
        from rhodb import store

        statuses = store.find(self.warehouse, [cell.identity for cell in session.cells])
        to_do = [c for c, s in zip(session.cells, statuses, strict=True) if s is None or s.state != "done"]
        needed = sum(cell.work for cell in to_do) * session.seconds_per_work() if to_do else 0.0
        left = self.limits.budget_s - (time.monotonic() - self.started)
        if needed > left and self.blocks == 0:
            raise InputError(
                f"--budget is too small for one block: {len(to_do)} runs take about {needed / 60:.1f} min here"
            )
        return needed <= left

    def _execute(self, session: "Description", pool: "ProcessPool") -> None:
        from runners.coordinator import Coordinator
        from runners.reporting import make_reporter

        reporter = make_reporter(session.seconds_per_work())
        coordinator = Coordinator(
            session, self.warehouse, reporter, provenance=session.provenance,
            retry_failed=self.invocation.retry_failed, pool=pool,
        )  # fmt: skip
        report = run_to_its_end(coordinator, reporter)
        if report.failed or report.spooled:
            for label, error in report.failed.items():
                note(f"failed: {label}: {error}")
            note("stopped: a hypothesis cannot be looked at while runs of its block are missing")
            raise typer.Exit(1)

    def _look(self, due: Sequence[tuple[Hypothesis, int]]) -> None:
        """Look at what is due, family by family, and store it."""
        from analysis.decide import look_at_family

        every = hypotheses.registered(self.warehouse)
        for name in dict.fromkeys(h.family for h, _ in due):
            family = [h for h in every if h.family == name]
            seeds = {h.id: n for h, n in due if h.family == name}
            evidence = {h.id: hypotheses.evidence(self.warehouse, h) for h in family}
            for h, n in due:
                if h.family == name and len(evidence[h.id].differences) < n:
                    missing = h.seeds[len(evidence[h.id].differences)]
                    raise InputError(
                        f"hypothesis {h.name}: seed {missing} has no score begun after its registration "
                        f"({h.registered_at}): withdraw it and register it with seeds that are new"
                    )
            made = {h.id: hypotheses.looks_at(self.warehouse, h) for h in family}
            new = look_at_family(family, evidence, made, seeds)
            for h in family:
                if h.id in new:
                    hypotheses.store_look(self.warehouse, h, new[h.id])
                    note(describe(h, new[h.id]))

    def _close_at_limit(self, asked: Sequence[Hypothesis]) -> None:
        """What is open although its looks are not used up: undecided at the budget, for now."""
        for h in asked:
            made = hypotheses.looks_at(self.warehouse, h)
            if made and made[-1].decision == "open":
                note(f"{h.name}: undecided at the budget after {made[-1].seeds} seeds; the same command goes on")


def describe(h: Hypothesis, look: Look) -> str:
    """One look in one line."""
    interval = "" if look.low is None or look.high is None else f" [{look.low:+.4f}, {look.high:+.4f}]"
    effect = look.mean if look.estimate is None else look.estimate
    return f"{h.name}: {look.decision} after {look.seeds} seeds, effect {effect:+.4f}{interval}, p {look.p:.2g}"


def decide_experiment(
    name: str,
    given: Mapping[str, Any],
    invocation: Invocation,
    limits: Limits,
    *,
    preset: str | None,
    config: Path | None,
) -> None:
    """`rhodb run NAME --until-decided`."""
    from runners.config import resolve
    from runners.plans import PlannedRun
    from runners.registry import load_runner

    if given.get("seeds") is not None:
        raise InputError("--seeds does not go with --until-decided: the seeds are those of the hypotheses")
    if invocation.dry_run:
        raise InputError("--dry-run does not go with --until-decided: `rhodb hypothesis plan NAME` says what it takes")
    resolved = resolve(load_runner(name).config, preset=preset, file=config, options=given)
    run_until_decided([PlannedRun(runner=name, config=resolved)], invocation, limits)


def decide_plan(plan: Path, invocation: Invocation, limits: Limits, *, cluster: str | None) -> None:
    """`rhodb run --plan FILE --until-decided`; the plan's seeds give way to the hypotheses'."""
    from runners.plans import read_plan

    if cluster is not None:
        raise InputError("--cluster does not go with --until-decided: use --workers on one machine")
    run_until_decided(read_plan(plan), invocation, limits)


def run_until_decided(runs: "Sequence[PlannedRun]", invocation: Invocation, limits: Limits) -> None:
    """The command: run, then print every hypothesis with its verdict."""
    with Warehouse.open(invocation.db) as warehouse:
        deciding = Deciding(warehouse, runs, invocation, limits)
        asked = deciding.run()
        names = {h.name for h in asked}
        rows = [r for r in warehouse.rows("SELECT * FROM v_hypotheses ORDER BY hypothesis_id") if r["name"] in names]
    if invocation.json:
        emit_json({"blocks": deciding.blocks, "hypotheses": rows})
        return
    shown = ["name", "state", "seeds_used", "looks_made", "estimate", "low", "high", "p", "level", "seconds"]
    emit(rows, columns=shown)
    typer.echo("next: rhodb hypothesis show NAME   |   rhodb analyze anomalies   |   rhodb report")
