"""`ingest`: files one by one, each whole or not at all; what was added, known, repeated, in conflict or broken."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, OperationalError

from rhodb.engine import lock_bulk_writers
from rhodb.errors import InputError
from rhodb.ingest.drafts import RunDraft
from rhodb.ingest.external import read_evaluations
from rhodb.ingest.external_rows import write_evaluations
from rhodb.ingest.fields import FormatError, noting_texts
from rhodb.ingest.files import Candidate, find, load, parse, recognise
from rhodb.ingest.formats import BELOW_0, read_format
from rhodb.ingest.write import Conflict, Policy, Writer
from rhodb.warehouse import Warehouse

NOT_JSON = (".eval", ".jsonl", ".db", ".sqlite")
GROUP_S = 1.0
"""Files are written together until this much time has passed: a commit waits for the disk."""

Status = Literal["added", "known", "passed over", "broken", "conflict"]


@dataclass(kw_only=True)
class FileReport:
    """What became of one file."""

    path: Path
    status: Status
    format: str | None = None
    reason: str | None = None
    """Why it was refused or passed over."""
    json_path: str | None = None
    read: int = 0
    """Runs (or evaluations) in the file, failed ones included."""
    added: int = 0
    already: int = 0
    """Runs that the warehouse, or an earlier file, held already."""
    completed: int = 0
    """Of these, runs that gained scores which the other copy lacked."""
    repeated: int = 0
    """Runs of the same settings as another, but with other results: kept beside it."""
    replaced: int = 0
    failed_runs: list[str] = field(default_factory=list)
    """Place and error of runs that failed."""
    conflicts: list[Conflict] = field(default_factory=list)
    repeats: list[Conflict] = field(default_factory=list)
    missing: int = 0
    """Scores that are null or NaN in the file."""
    extra: int = 0
    """Unknown keys, kept in the column `extra`."""
    warnings: list[str] = field(default_factory=list)

    def count(self, run: RunDraft) -> None:
        """Account for a run of the file."""
        self.read += 1
        if run.error is not None:
            self.failed_runs.append(f"{run.place}: {run.error}")
        for draft in (run, run.baseline):
            if draft is not None and not draft.reported:
                self._account(draft)

    def _account(self, run: RunDraft) -> None:
        run.reported = True
        self.missing += run.missing
        self.extra += len(run.extra)
        self.warnings += [f"{run.place}: {warning}" for warning in run.warnings]
        for behavior, (value, _) in run.extra.get(BELOW_0, {}).items():
            reason = "which is no share: kept in `extra`, not as a score"
            self.warnings.append(f"{run.place}: {behavior} is {value:g}, {reason}")


@dataclass(kw_only=True)
class IngestReport:
    """What became of all files."""

    files: list[FileReport] = field(default_factory=list)
    written: bool = True
    """False for a dry run, and where --strict found a problem: then nothing was written."""

    @property
    def problems(self) -> list[FileReport]:
        return [report for report in self.files if report.status in ("broken", "conflict")]

    def total(self, name: str) -> int:
        """Sum of a count over files."""
        return sum(getattr(report, name) for report in self.files)


class _Stop(Exception):  # noqa: N818  not an error: ends a transaction that must not be committed
    """Leave the transaction without committing."""


def ingest(
    wh: Warehouse,
    paths: Iterable[Path],
    *,
    on_conflict: Policy = "report",
    strict: bool = False,
    dry_run: bool = False,
) -> IngestReport:
    """Read files and folders into the warehouse.

    A broken file or a conflict does not stop the others; with `strict` it does, and nothing is written.
    `on_conflict`: what happens when a changed file has other results for a run: `report` refuses the file,
    `keep` keeps the old results and takes the file's other runs, `replace` takes the new results.
    """
    report = IngestReport()
    candidates = iter(list(find(paths)))
    if not (strict or dry_run):
        while True:
            with wh.write() as connection:
                if not _write_group(connection, candidates, report, on_conflict, seconds=GROUP_S):
                    return report
    try:
        with wh.write() as connection:
            _write_group(connection, candidates, report, on_conflict, seconds=None)
            if dry_run or report.problems:
                raise _Stop
    except _Stop:
        report.written = False
    return report


def _write_group(
    connection: Connection,
    candidates: Iterator[Candidate],
    report: IngestReport,
    policy: Policy,
    *,
    seconds: float | None,
) -> bool:
    """Ingest files until the time is up. False when there are no more."""
    lock_bulk_writers(connection)
    writer = Writer(connection, policy)
    started = time.monotonic()
    for candidate in candidates:
        report.files.append(ingest_file(connection, writer, candidate))
        if seconds is not None and time.monotonic() - started > seconds:
            return True
    return False


def ingest_file(connection: Connection, writer: Writer, candidate: Candidate) -> FileReport:
    """Ingest one file inside the caller's transaction: whole, or not at all and the report says why."""
    report = FileReport(path=candidate.path, status="added")
    try:
        contents = load(candidate)
        known = writer.runs_of_known_file(contents)
        again = writer.policy == "replace" and candidate.path.suffix in NOT_JSON
        if known is not None and not again:
            report.status, report.reason = "known", "the same contents were ingested before"
            report.read = report.already = known
            return report
        value: Any = None if candidate.path.suffix in NOT_JSON else parse(contents)
        evaluations = read_evaluations(candidate.path, value)
        if evaluations is not None:
            report.format = evaluations[0].tool if evaluations else "mlflow"
            with _whole(connection, writer):
                write_evaluations(writer, contents, evaluations, report)
            if report.conflicts and writer.policy == "report":
                kept = "the warehouse's is kept, --on-conflict replace takes the file's"
                report.status = "conflict"
                report.reason = f"{len(report.conflicts)} of {report.read} evaluations have other results: {kept}"
            return report
        format_ = recognise(value, candidate)
        if format_ is None:
            if candidate.named:
                raise FormatError("is no result file that rhodb knows")
            report.status, report.reason = "passed over", "not a result file"
            return report
        report.format = format_.name
        reading = read_format(format_, value, candidate.path.stem)
        with _whole(connection, writer), noting_texts() as texts:
            writer.write(contents, reading, report)
            if texts:
                numbers = f"{len(texts)} numbers stand" if len(texts) > 1 else "a number stands"
                report.warnings.append(
                    f"{numbers} in quotes and {'were' if len(texts) > 1 else 'was'} read as "
                    f"number{'s' * (len(texts) > 1)}: {', '.join(map(repr, texts[:3]))}"
                )
            if not report.read:
                report.warnings.append("the file holds no runs")
            if report.conflicts and writer.policy == "report":
                raise _Stop
    except _Stop:
        report.status, report.reason = "conflict", "a run of this file has other results than before"
        report.added = report.already = report.completed = report.repeated = 0
    except FormatError as error:
        status: Status = "broken" if candidate.must_fit or report.format else "passed over"
        place = f"${error.path}" if error.path else None
        return FileReport(
            path=candidate.path, status=status, format=report.format, reason=error.reason, json_path=place
        )
    return report


@contextmanager
def _whole(connection: Connection, writer: Writer) -> Iterator[None]:
    """All of a file or none of it."""
    savepoint = connection.begin_nested()
    try:
        yield
        savepoint.commit()
    except BaseException as error:
        writer.forget()
        try:
            savepoint.rollback()
        except OperationalError:
            # On a full disk SQLite ends the whole transaction by itself: there is no savepoint to go back to.
            if not isinstance(error, DBAPIError):
                raise
        raise


def check_policy(word: str | None) -> Policy:
    """`--on-conflict` as typed."""
    if word not in (None, "keep", "replace"):
        raise InputError(f"--on-conflict must be keep or replace, got {word!r}")
    return word or "report"  # type: ignore[return-value]
