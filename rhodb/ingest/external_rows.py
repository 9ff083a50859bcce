"""Other tools' evaluations into their tables: each once, changed ones reported."""

from itertools import islice
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import IntegrityError

from rhodb.ingest.external import NOT_NUMBERS, Evaluation
from rhodb.ingest.fields import FormatError
from rhodb.ingest.files import Contents
from rhodb.ingest.rows import BATCH, to_json
from rhodb.ingest.write import Conflict, Writer
from rhodb.rows import bulk_insert

if TYPE_CHECKING:
    from rhodb.ingest.driver import FileReport

SCORE_COLUMNS = ("evaluation_id", "task", "metric", "task_version", "value", "se", "n")
MISSING_COLUMNS = ("evaluation_id", "task", "metric", "reason", "n")
SAMPLE_COLUMNS = ("evaluation_id", "task", "sample", "metric", "value", "text_value")


def write_evaluations(writer: Writer, contents: Contents, evaluations: list[Evaluation], report: "FileReport") -> None:
    """Write a file's evaluations and account for them in the report. Raises FormatError."""
    tool = evaluations[0].tool if evaluations else "unknown"
    try:
        source = writer.rows.source(contents, tool, extra={}, n_read=len(evaluations), n_added=0)
        for evaluation in evaluations:
            _write(writer, source, evaluation, report)
        contents.check_unchanged()
        writer.stored.execute("UPDATE sources SET runs_added = ? WHERE id = ?", (report.added, source))
    except IntegrityError as error:
        raise FormatError(f"breaks a rule of the warehouse: {str(error.orig).splitlines()[0]}") from error
    report.read = len(evaluations)


def _write(writer: Writer, source: int, evaluation: Evaluation, report: "FileReport") -> None:
    sql = "SELECT id FROM external_evaluations WHERE tool = ? AND identity = ?"
    key = (evaluation.tool, evaluation.identity)
    found = writer.stored.fetch(sql, key)
    if found:
        number = int(found[0][0])
        report.already += 1
        _compare(writer, number, evaluation, report)
    else:
        writer.stored.execute(
            "INSERT INTO external_evaluations (tool, tool_version, identity, model_id, source_id, started_at, config) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                evaluation.tool,
                evaluation.tool_version,
                evaluation.identity,
                writer.rows.model(evaluation.model),
                source,
                evaluation.started_at,
                to_json(evaluation.config),
            ),
        )
        number = int(writer.stored.fetch(sql, key)[0][0])
        report.added += 1
        _insert_scores(writer, number, evaluation)
        _insert_outcome(writer, number, evaluation)
    _account(evaluation, report)
    _insert_samples(writer, number, evaluation, report)


def _insert_scores(writer: Writer, number: int, evaluation: Evaluation) -> None:
    rows = [(number, s.task, s.metric, s.task_version, s.value, s.se, s.n) for s in evaluation.scores]
    bulk_insert(writer.connection, "external_scores", SCORE_COLUMNS, rows)


def _insert_outcome(writer: Writer, number: int, evaluation: Evaluation) -> None:
    """How it ended, and what is no number."""
    if evaluation.status is not None:
        writer.stored.execute(
            "INSERT INTO external_outcomes (evaluation_id, status, finished, samples, samples_done) "
            "VALUES (?, ?, ?, ?, ?)",
            (number, evaluation.status, int(evaluation.finished), evaluation.n_samples, evaluation.n_done),
        )
    rows = [(number, one.task, one.metric, one.reason, one.n) for one in evaluation.missing]
    bulk_insert(writer.connection, "external_missing", MISSING_COLUMNS, rows)


def _account(evaluation: Evaluation, report: "FileReport") -> None:
    """Tell what is no number, and what did not come to its end."""
    report.missing += sum(one.n for one in evaluation.missing)
    if not evaluation.finished:
        share = "" if evaluation.n_samples is None else f" with {evaluation.n_done} of {evaluation.n_samples} samples"
        words = f"{evaluation.place}: ended as {evaluation.status}{share}: stored, and left out of comparisons"
        report.warnings.append(words)


def _insert_samples(writer: Writer, number: int, evaluation: Evaluation, report: "FileReport") -> None:
    """Samples may come in a file of their own, after the scores."""
    before = _count_samples(writer, number)
    samples = iter(evaluation.samples)
    while part := list(islice(samples, BATCH)):
        rows = [(number, s.task, s.sample, s.metric, s.value, s.text_value) for s in part]
        bulk_insert(writer.connection, "external_samples", SAMPLE_COLUMNS, rows, new_only=True)
        report.missing += sum(s.value is None and s.text_value in NOT_NUMBERS for s in part)
    report.completed += report.added == 0 and _count_samples(writer, number) > before


def _count_samples(writer: Writer, number: int) -> int:
    sql = "SELECT count(*) FROM external_samples WHERE evaluation_id = ?"
    return int(writer.stored.fetch(sql, (number,))[0][0])


def _compare(writer: Writer, number: int, evaluation: Evaluation, report: "FileReport") -> None:
    """An evaluation that is there with other scores, or that ended otherwise, is a conflict."""
    old, new = _held(writer, number), _given(evaluation)
    keys = [key for key in dict.fromkeys([*old, *new]) if old.get(key) != new.get(key)]
    differences = tuple((key, old.get(key), new.get(key)) for key in keys)
    if not differences:
        return
    report.conflicts.append(Conflict(place=evaluation.place, run=evaluation.identity, differences=differences))
    if writer.policy == "replace":
        for table in ("external_scores", "external_outcomes", "external_missing"):
            writer.stored.execute(f"DELETE FROM {table} WHERE evaluation_id = ?", (number,))
        writer.stored.execute(
            "UPDATE external_evaluations SET config = ?, started_at = ? WHERE id = ?",
            (to_json(evaluation.config), evaluation.started_at, number),
        )
        _insert_scores(writer, number, evaluation)
        _insert_outcome(writer, number, evaluation)
        report.replaced += 1


def _held(writer: Writer, number: int) -> dict[str, Any]:
    """What the warehouse says of an evaluation: scores, what is missing, how it ended."""
    scores = writer.stored.fetch("SELECT task, metric, value FROM external_scores WHERE evaluation_id = ?", (number,))
    missing = writer.stored.fetch(
        "SELECT task, metric, reason, n FROM external_missing WHERE evaluation_id = ?", (number,)
    )
    ended = writer.stored.fetch("SELECT status FROM external_outcomes WHERE evaluation_id = ?", (number,))
    held: dict[str, Any] = {f"{task} {metric}": value for task, metric, value in scores}
    held |= {f"{task} {metric}: {reason}": n for task, metric, reason, n in missing}
    return held | ({"status": ended[0][0]} if ended else {})


def _given(evaluation: Evaluation) -> dict[str, Any]:
    """The same as the file says it."""
    given: dict[str, Any] = {f"{one.task} {one.metric}": one.value for one in evaluation.scores}
    given |= {f"{one.task} {one.metric}: {one.reason}": one.n for one in evaluation.missing}
    return given | ({} if evaluation.status is None else {"status": evaluation.status})
