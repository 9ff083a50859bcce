"""Runs of a file into the tables: which are new, which are there already, which differ."""

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Literal

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from rhodb.ingest.drafts import RunDraft, same_results
from rhodb.ingest.fields import FormatError
from rhodb.ingest.files import Contents
from rhodb.ingest.formats import Reading
from rhodb.ingest.rows import LOOK_UP, Identity, Known, Rows, StoredRuns, draft_uuid

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
        self._links: list[tuple[int, str]] = []

    def forget(self) -> None:
        """A file was rolled back: what was cached while it was written may be wrong."""
        self.stored = StoredRuns(self.connection)
        self.rows = Rows(self.connection)
        self._links = []

    def runs_of_known_file(self, contents: Contents) -> int | None:
        """Runs of a file whose contents are ingested already, else None. A new path of it is noted.

        With `replace` the newest version of a file is read again: an earlier `keep` may have kept older results.
        """
        path = str(contents.candidate.path)
        rows = self.stored.fetch(
            "SELECT id, path, format, runs_read FROM sources WHERE sha256 = ? ORDER BY id", (contents.sha256,)
        )
        if not rows:
            return None
        first, _, format_, n_runs = rows[0]
        newest = self.stored.fetch("SELECT max(id) FROM sources WHERE name = ?", (contents.candidate.name,))[0][0]
        if self.policy == "replace" and newest in {row[0] for row in rows}:
            return None
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
        self._older = self.stored.versions(contents.candidate.name)
        self._in_conflict: set[int] = set()
        failed: list[RunDraft] = []
        try:
            source = self.rows.source(contents, reading.format, extra={}, n_read=0, n_added=0)
            runs = iter(reading.runs)
            while drafts := list(islice(runs, LOOK_UP)):
                for draft in drafts:
                    report.count(draft)
                # Finished runs first, so that the failed attempts of a run are its repeats, not the other way round.
                failed += [draft for draft in drafts if draft.error is not None]
                self._take_all([draft for draft in drafts if draft.error is None], source, report)
            for start in range(0, len(failed), LOOK_UP):
                self._take_all(failed[start : start + LOOK_UP], source, report)
            self._flush(source)
            contents.check_unchanged()
            report.extra += len(reading.extra)
            self.rows.complete_source(source, extra=reading.extra, n_read=report.read, n_added=report.added)
        except IntegrityError as error:
            raise FormatError(f"breaks a rule of the warehouse: {str(error.orig).splitlines()[0]}") from error

    def _take_all(self, drafts: list[RunDraft], source: int, report: "FileReport") -> None:
        """Place runs. What waits is written now and then, so that memory is bounded."""
        self.stored.look_up(self._identity(draft) for draft in drafts)
        for draft in drafts:
            self._take(draft, report)
        if self.rows.is_full:
            self._flush(source)

    def _take(self, draft: RunDraft, report: "FileReport") -> int:
        """Place a run, its baseline first; each once."""
        if draft.row is None:
            baseline = self._take(draft.baseline, report) if draft.baseline is not None else None
            draft.row = self._place(draft, baseline, report)
            if draft.kind != "baseline" or draft.family:
                self._links.append((draft.row, draft.place))
        return draft.row

    def _identity(self, draft: RunDraft) -> Identity:
        return draft.kind, self.rows.model(draft.model), draft.seed, draft.config_hash

    def _flush(self, source: int) -> None:
        self.rows.flush()
        self.rows.link(source, self._links)
        self._links.clear()
        self.stored.forget()

    def _place(self, draft: RunDraft, baseline: int | None, report: "FileReport") -> int:
        """Find the run that a draft is, or add it; the id of its row."""
        counted = draft.kind != "baseline" or bool(draft.family)
        identity = self._identity(draft)
        known = self.stored.find(identity)
        results = draft.results()
        for other in known:
            if (draft.error is None) == (other.error is None) and self._same(other, draft, results):
                report.already += counted
                report.completed += self._complete(other, draft) and counted
                return other.id
        changed = next((other for other in known if self._stood_here(other)), None) if counted else None
        # A second run of the same settings in the same changed file is a repeat, not a second conflict.
        if changed is not None and changed.id not in self._in_conflict:
            return self._conflict(changed, draft, baseline, report)
        repeat = max((other.repeat for other in known), default=-1) + 1
        run_id = self.rows.add(draft, identity[1], baseline, repeat)
        self.stored.remember(identity, Known(id=run_id, repeat=repeat, error=draft.error, draft=draft))
        report.added += counted
        if repeat and counted and draft.error is None:
            rival = next((other for other in known if other.error is None), None)
            if rival is not None:
                report.repeated += 1
                report.repeats.append(self._compare(rival, draft))
        return run_id

    def _stood_here(self, other: Known) -> bool:
        """Whether a run stands in an earlier version of the file."""
        return not self.rows.waits(other.id) and self.stored.stands_in(other.id, self._older)

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
        self._in_conflict.add(other.id)
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
