"""What changed between two warehouses, or in one since a date: runs, verdicts that flipped, means that moved."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from analysis.report.addresses import Book, RunFacts
from analysis.report.document import (
    Address,
    Cell,
    Column,
    Number,
    Part,
    Report,
    Row,
    SavedQuery,
    Section,
    Sentence,
    Table,
    Text,
)  # fmt: skip
from rhodb.errors import InputError

if TYPE_CHECKING:
    from rhodb.warehouse import Warehouse

MOST = 200
"""Rows of a table."""
TOLERANCE = 1e-9
NOT_MEANS: Final = frozenset(
    {"p", "exact", "left_out", "g", "n", "mc_error", "runs", "seeds", "prompts", "more", "less", "configurations"}
)
"""Columns that are no scores or effects."""


@contextmanager
def earlier(wh: "Warehouse", *, other: str | None, since: str | None) -> "Iterator[Warehouse]":
    """The warehouse to compare with: another one, or this one as it was before a date. Raises InputError."""
    from rhodb.warehouse import Warehouse

    if other is not None:
        with Warehouse.open(other, create=False, read_only=True) as found:
            yield found
        return
    with TemporaryDirectory() as folder:
        yield from _before(wh, moment(since or ""), Path(folder) / "before.db")


def _before(wh: "Warehouse", since: str, path: Path) -> "Iterator[Warehouse]":
    from sqlalchemy import text

    from rhodb.maintenance import backup
    from rhodb.warehouse import Warehouse

    if not wh.is_sqlite:
        raise InputError("--since needs a warehouse in a file: compare two backups of the server with --compare")
    backup(wh, path)
    # An ingested run came into the warehouse when it was planned there; its own times are those of the experiment.
    later = "CASE origin WHEN 'legacy' THEN planned_at ELSE COALESCE(finished_at, planned_at) END >= :since"
    with Warehouse.open(path) as copy:
        with copy.write() as connection:
            given = {"since": since}
            connection.execute(
                text(
                    "UPDATE runs SET baseline_run_id = NULL WHERE baseline_run_id IN "
                    f"(SELECT id FROM runs WHERE {later})"
                ),
                given,
            )
            connection.execute(text(f"DELETE FROM runs WHERE {later}"), given)
        yield copy


def moment(since: str) -> str:
    """A date or time as the warehouse writes it, UTC. Raises InputError."""
    try:
        found = datetime.fromisoformat(since)
    except ValueError as error:
        raise InputError(f"--since needs a date such as 2026-03-01 or 2026-03-01T12:00, got {since!r}") from error
    found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    return found.isoformat()


def with_changes(old: Report, new: Report, *, before: Book, now: Book, what: str) -> Report:
    """The new report with a section, put first, on what differs from the old one; `what` names that one."""
    adopted = _Adopted(old, new)
    parts = [*_runs(before.facts, now.facts, adopted), *_verdicts(old, new, adopted), *_moved(old, new, adopted)]
    section = Section(
        key="changes", title="What changed", intro=f"Against {what}.", parts=tuple(parts),
        missing=None if parts else "Nothing: the same runs, the same numbers.",
    )  # fmt: skip
    return replace(
        new, sections=(section, *new.sections), addresses={**new.addresses, **adopted.addresses},
        queries={**new.queries, **adopted.queries}, versions={**new.versions, **adopted.versions},
    )  # fmt: skip


class _Adopted:
    """Addresses of the old report that the section names; their keys get a `b` (before), lest they clash."""

    def __init__(self, old: Report, new: Report) -> None:
        self._old = old
        self.addresses: dict[str, Address] = {}
        self.queries: dict[str, SavedQuery] = {}
        self.versions: dict[str, Mapping[str, str]] = {}

    def adopt(self, key: str) -> str:
        found = self._old.addresses[key]
        name = f"{key}b"
        if name not in self.addresses:
            query = None if found.query is None else f"{found.query}b"
            if found.query is not None and query is not None:
                self.queries[query] = self._old.queries[found.query]
            for version in found.versions:
                self.versions[f"{version}b"] = self._old.versions[version]
            self.addresses[name] = replace(found, query=query, versions=tuple(f"{v}b" for v in found.versions))
        return name

    def count(self, pick: str, runs: Sequence[str], facts: Mapping[str, RunFacts]) -> str:
        """An address of runs alone."""
        name = f"c{len(self.addresses) + 1}"
        configs = tuple(dict.fromkeys(facts[run].config_hash for run in runs))
        self.addresses[name] = Address(
            kind="count", query=None, pick=pick, runs=tuple(runs[:40]), run_count=len(runs), configs=configs[:40],
            command="rhodb runs list",
        )  # fmt: skip
        return name


def _runs(before: Mapping[str, RunFacts], now: Mapping[str, RunFacts], adopted: _Adopted) -> list[Part]:
    """New and removed runs by kind and model, and runs whose state changed."""
    rows = []
    changes = {
        "new": ([u for u, run in now.items() if run.state == "done" and not _done(before, u)], now),
        "removed": ([u for u, run in before.items() if run.state == "done" and not _done(now, u)], before),
    }
    for change, (runs, facts) in changes.items():
        groups: Counter[tuple[str, str]] = Counter((facts[u].kind, facts[u].model) for u in runs)
        for (kind, model), count in sorted(groups.items()):
            own = [u for u in runs if (facts[u].kind, facts[u].model) == (kind, model)]
            address = adopted.count(f"{change} {kind} runs", own, facts)
            seeds = Sentence(text=_seeds(facts[u].seed for u in own), address=address)
            cells: tuple[Cell, ...] = (
                change, kind, model, Number(value=count, text=str(count), address=address), seeds
            )  # fmt: skip
            rows.append(Row(key=f"{change}|{kind}|{model}", cells=cells, model=model))
    columns = (Column(key="change", title="change"), Column(key="kind", title="kind"),
               Column(key="model", title="model"), Column(key="runs", title="finished runs", numeric=True),
               Column(key="seeds", title="seeds"))  # fmt: skip
    return [Table(key="runs", title="Runs", columns=columns, rows=tuple(rows))] if rows else []


def _done(facts: Mapping[str, RunFacts], uuid: str) -> bool:
    return uuid in facts and facts[uuid].state == "done"


def _seeds(found: Iterator[int]) -> str:
    seeds = sorted(set(found))
    return ", ".join(map(str, seeds[:10])) + (f", ... ({len(seeds)})" if len(seeds) > 10 else "")


def _verdicts(old: Report, new: Report, adopted: _Adopted) -> list[Part]:
    """Findings that have another verdict."""
    was = {place: (row, cell) for place, row, cell in _verdict_cells(old)}
    rows = []
    for place, row, cell in _verdict_cells(new):
        if place not in was or was[place][1].text == cell.text:
            continue
        before = was[place][1]
        cells: tuple[Cell, ...] = (
            place.split("/")[0], ", ".join(part for part in row.key.split("|") if part),
            Sentence(text=before.text, address=adopted.adopt(before.address)), cell,
        )  # fmt: skip
        rows.append(
            replace(row, key=place, cells=cells)
        )  # fmt: skip
    columns = (Column(key="section", title="section"), Column(key="what", title="what"),
               Column(key="before", title="before"), Column(key="now", title="now"))  # fmt: skip
    shown = tuple(rows[:MOST])
    caption = f"The first {MOST} of {len(rows)}." if len(rows) > MOST else ""
    table = Table(key="verdicts", title="Verdicts that flipped", columns=columns, rows=shown, caption=caption)
    return [table] if rows else []


def _verdict_cells(report: Report) -> Iterator[tuple[str, Row, Sentence]]:
    for section in report.sections:
        for part in section.parts:
            if isinstance(part, Table) and part.columns and part.columns[-1].key == "verdict":
                for row in part.rows:
                    cell = row.cells[-1]
                    if isinstance(cell, Sentence):
                        yield f"{section.key}/{part.key}/{row.key}", row, cell


def _moved(old: Report, new: Report, adopted: _Adopted) -> list[Part]:
    """Scores and effects with another value; how many numbers came and went."""
    was = dict(_means(old))
    now = dict(_means(new))
    moved = [
        (place, was[place], cell) for place, cell in now.items()
        if place in was and not math.isclose(was[place].value, cell.value, rel_tol=TOLERANCE, abs_tol=1e-12)
    ]  # fmt: skip
    rows = tuple(
        Row(
            key=place,
            cells=(place.split("/")[0], ", ".join(p for p in place.split("/", 1)[1].replace("|", "/").split("/") if p),
                   replace(before, address=adopted.adopt(before.address)), cell),
        )
        for place, before, cell in moved[:MOST]
    )  # fmt: skip
    came, went = sum(place not in was for place in now), sum(place not in now for place in was)
    parts: list[Part] = []
    if came or went or moved:
        told = f"{len(moved)} scores and effects moved, {came} are new, {went} are gone."
        address = adopted.count("scores and effects of both reports", (), {})
        parts.append(Text(key="summary", items=(Sentence(text=told, address=address),)))
    columns = (Column(key="section", title="section"), Column(key="what", title="what"),
               Column(key="before", title="before", numeric=True),
               Column(key="now", title="now", numeric=True))  # fmt: skip
    caption = f"The first {MOST} of {len(moved)}." if len(moved) > MOST else ""
    if rows:
        title = "Scores and effects that moved"
        parts.append(Table(key="moved", title=title, columns=columns, rows=rows, caption=caption))
    return parts


def _means(report: Report) -> Iterator[tuple[str, Number]]:
    for section in report.sections:
        for part in section.parts:
            if isinstance(part, Table):
                for row in part.rows:
                    for column, cell in zip(part.columns, row.cells, strict=True):
                        if isinstance(cell, Number) and column.key not in NOT_MEANS:
                            yield f"{section.key}/{part.key}/{row.key}/{column.key}", cell
