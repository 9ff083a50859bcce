"""Runs of a file into the tables: which are new, which are there already, which differ."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from rhodb.ingest.drafts import RunDraft, same_results
from rhodb.ingest.fields import FormatError
from rhodb.ingest.files import Contents
from rhodb.ingest.formats import Reading
from rhodb.ingest.rows import Known, Rows, StoredRuns, draft_uuid

if TYPE_CHECKING:
    from rhodb.ingest.driver import FileReport

Policy = Literal["report", "keep", "replace"]


@dataclass(frozen=True, kw_only=True)
class Conflict:
    """A run that differs from one of the same settings."""

    place: str
    run: str
    """uuid of the other."""
    differences: tuple[tuple[str, float | None, float | None], ...]
    """(what, old, new)."""

    def __str__(self) -> str:
        shown = ", ".join(f"{what} {_number(old)} -> {_number(new)}" for what, old, new in self.differences[:6])
        more = len(self.differences) - 6
        return f"{self.place} (run {self.run[:8]}): {shown}" + (f" and {more} more" if more > 0 else "")


def _number(value: float | None) -> str:
    return "nothing" if value is None else f"{value:.10g}"


class Writer:
    """Writes files into one transaction. Caches only what the transaction holds."""

    def __init__(self, connection: Connection, policy: Policy) -> None:
        self.connection = connection
        self.policy = policy
        self.stored = StoredRuns(connection)
        self.rows = Rows(connection)

    def forget(self) -> None:
        """A file was rolled back: what was cached while it was written may be wrong."""
        self.stored = StoredRuns(self.connection)
        self.rows = Rows(self.connection)

    def runs_of_known_file(self, contents: Contents) -> int | None:
        """Runs of a file whose contents are ingested already, else None. A new path of it is noted."""
        path = str(contents.candidate.path)
        rows = self.stored.fetch(
            "SELECT id, path, format, runs_read FROM sources WHERE sha256 = ? ORDER BY id", (contents.sha256,)
        )
        if not rows:
            return None
        first, _, format_, n_runs = rows[0]
        if all(row[1] != path for row in rows):
            source = self.rows.source(contents, format_, extra={}, n_read=n_runs, n_added=0)
            self.stored.execute(
                "INSERT INTO run_sources (run_id, source_id, place) "
                "SELECT run_id, ?, place FROM run_sources WHERE source_id = ?",
                (source, first),
            )
        return int(n_runs)

    def write(self, contents: Contents, reading: Reading, report: "FileReport") -> None:
        """Write a file's runs and account for them in the report. Raises FormatError for what the schema refuses."""
        older = self.stored.runs_of_document(contents.candidate.name)
        ids: dict[int, int] = {}
        links: list[tuple[int, str]] = []
        # Finished runs first, so that the failed attempts of a run are its repeats, not the other way round.
        for draft in sorted(_with_baselines(reading.runs), key=lambda run: run.error is not None):
            baseline = ids[id(draft.baseline)] if draft.baseline is not None else None
            run_id = self._place(draft, baseline, older, report)
            ids[id(draft)] = run_id
            if draft.kind != "baseline" or draft.family:
                links.append((run_id, draft.place))
        try:
            self.rows.flush()
            source = self.rows.source(
                contents, reading.format, extra=reading.extra, n_read=len(reading.runs), n_added=report.added
            )
            self.rows.link(source, links)
        except IntegrityError as error:
            raise FormatError(f"breaks a rule of the warehouse: {str(error.orig).splitlines()[0]}") from error
        report.read = len(reading.runs)

    def _place(self, draft: RunDraft, baseline: int | None, older: set[int], report: "FileReport") -> int:
        """Find the run that a draft is, or add it; the id of its row."""
        counted = draft.kind != "baseline" or bool(draft.family)
        model = self.rows.model(draft.model)
        identity = (draft.kind, model, draft.seed, draft.config_hash)
        known = self.stored.find(identity)
        results = draft.results()
        for other in known:
            if (draft.error is None) == (other.error is None) and self._same(other, draft, results):
                report.already += counted
                report.completed += self._complete(other, draft) and counted
                return other.id
        changed = next((other for other in known if other.id in older), None) if counted else None
        if changed is not None and not self._claimed(changed, report):
            return self._conflict(changed, draft, baseline, report)
        repeat = max((other.repeat for other in known), default=-1) + 1
        run_id = self.rows.add(draft, model, baseline, repeat)
        self.stored.remember(identity, Known(id=run_id, repeat=repeat, error=draft.error, draft=draft))
        report.added += counted
        if repeat and counted and draft.error is None:
            rival = next((other for other in known if other.error is None), None)
            if rival is not None:
                report.repeated += 1
                report.repeats.append(self._compare(rival, draft))
        return run_id

    def _claimed(self, other: Known, report: "FileReport") -> bool:
        """A second run of the same settings in the same changed file is a repeat, not a second conflict."""
        return any(conflict.run == self._uuid(other) for conflict in report.conflicts)

    def _uuid(self, other: Known) -> str:
        return draft_uuid(other.draft, other.repeat) if other.draft is not None else self.stored.uuid(other.id)

    def _same(self, other: Known, draft: RunDraft, results: dict[tuple[str, str], float]) -> bool:
        if draft.error is not None:
            return draft.error == other.error
        return same_results(self._results(other), results)

    def _results(self, other: Known) -> dict[tuple[str, str], float]:
        return other.draft.results() if other.draft is not None else self.stored.results(other.id)

    def _complete(self, other: Known, draft: RunDraft) -> bool:
        """Add the scores that the other copy lacks. True if there were any."""
        held = self._results(other)
        missing = {key: score for key, score in draft.scores.items() if key not in held}
        if not missing:
            return False
        if other.draft is not None and self.rows.waits(other.id):
            other.draft.scores |= missing
        else:
            self.rows.add_scores(other.id, missing)
            if other.draft is not None:
                other.draft.scores |= missing
        return True

    def _conflict(self, other: Known, draft: RunDraft, baseline: int | None, report: "FileReport") -> int:
        report.conflicts.append(self._compare(other, draft))
        if self.policy == "replace":
            self.rows.replace(other.id, draft, baseline)
            other.draft, other.error = draft, draft.error
            report.replaced += 1
        return other.id

    def _compare(self, other: Known, draft: RunDraft) -> Conflict:
        old, new = self._results(other), draft.results()
        if draft.error is not None or other.error is not None:
            old, new = old or {("run", "finished"): 0.0}, new or {("run", "finished"): 0.0}
        differences = tuple(
            (" ".join(key), old.get(key), new.get(key))
            for key in dict.fromkeys([*old, *new])
            if old.get(key) != new.get(key)
        )
        return Conflict(place=draft.place, run=self._uuid(other), differences=differences)


def _with_baselines(runs: Iterable[RunDraft]) -> list[RunDraft]:
    """The runs and, before each, the baseline that it is compared with; every object once."""
    found: dict[int, RunDraft] = {}
    for run in runs:
        chain = []
        step: RunDraft | None = run
        while step is not None and id(step) not in found:
            chain.append(step)
            step = step.baseline
        for draft in reversed(chain):
            found[id(draft)] = draft
    return list(found.values())
