"""Other tools' evaluations as they write them: lm-evaluation-harness, Inspect AI, MLflow."""

import json
import math
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import orjson

from rhodb.ingest import fields as f
from rhodb.ingest.fields import Field, FormatError, Object, step
from rhodb.ingest.files import parse_bytes
from rhodb.ingest.stream import MOST
from rhodb.location import read_only_uri
from rhodb.records import canonical_json, digest

MODEL_PARAMS = ("model", "model_name", "model_id", "base_model", "pretrained")
"""Parameters of an MLflow run that may name its model."""
STAMP = re.compile(r"_(\d{4}-\d\d-\d\dT[\d.\-]+)\.jsonl?$")
"""lm-evaluation-harness ends the names of the files of one run with the same time."""


@dataclass(frozen=True, kw_only=True)
class ScoreDraft:
    """A score in the tool's own words."""

    task: str
    metric: str
    value: float
    se: float | None = None
    n: int | None = None
    task_version: str | None = None


@dataclass(frozen=True, kw_only=True)
class SampleDraft:
    """The score of a single sample: a number or a word."""

    task: str
    sample: str
    metric: str
    value: float | None
    text_value: str | None


@dataclass(frozen=True, kw_only=True)
class MissingDraft:
    """A score that is no number, or scores of samples that are none."""

    task: str
    metric: str
    reason: str
    """What stands there instead: NaN, inf, a list, unscored."""
    n: int = 1


@dataclass(kw_only=True)
class Evaluation:
    """One evaluation of one model."""

    tool: str
    identity: str
    """The tool's own name of the run, else a hash of what came out."""
    model: str
    place: str
    tool_version: str | None = None
    started_at: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    status: str | None = None
    """The tool's own word of how it ended, where it has one."""
    finished: bool = True
    n_samples: int | None = None
    """Samples that were to be done, and those that were."""
    n_done: int | None = None
    scores: list[ScoreDraft] = field(default_factory=list)
    missing: list[MissingDraft] = field(default_factory=list)
    samples: Iterable[SampleDraft] = ()
    """Read from the file as they are gone through, once; raises FormatError on the way."""


def read_evaluations(path: Path, value: Any) -> list[Evaluation] | None:
    """The evaluations of a file, or None if it is none of these tools'. `value` is its JSON, if it has one.

    Raises FormatError.
    """
    if path.suffix == ".eval" or (isinstance(value, dict) and {"version", "status", "eval"} <= value.keys()):
        return [_inspect(path, value)]
    if isinstance(value, dict) and type(value.get("results")) is dict and {"configs", "n-shot"} & value.keys():
        return [_lm_eval(value)]
    if path.suffix == ".jsonl":
        return [_lm_eval_samples(path)]
    if path.suffix in (".db", ".sqlite"):
        return list(_mlflow(path))
    return None


NOT_NUMBERS = ("NaN", "inf", "-inf")


def not_a_number(value: float) -> str | None:
    """Why a value is kept as missing; None for a number. Beyond 1e300 a value stands for an infinity."""
    if math.isnan(value):
        return "NaN"
    return None if abs(value) < 1e300 else "inf" if value > 0 else "-inf"


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")


LM_EVAL = (
    Field(name="results", key="results", type=f.mapping, required=True),
    Field(name="versions", key="versions", type=f.mapping),
    Field(name="counts", key="n-samples", type=f.mapping),
    Field(name="shots", key="n-shot", type=f.mapping),
    Field(name="config", key="config", type=f.mapping),
    Field(name="date", key="date", type=f.not_negative),
    Field(name="model", key="model_name", type=f.text),
    Field(name="version", key="lm_eval_version", type=f.text),
)


def _lm_eval(value: Object) -> Evaluation:
    """A results file. Metrics are `name,filter`; `name_stderr,filter` is the standard error of it."""
    read, _ = f.read(LM_EVAL, value)
    config = dict(read["config"] or {})
    scores: list[ScoreDraft] = []
    missing: list[MissingDraft] = []
    for task, entries in read["results"].items():
        try:
            for draft in _lm_eval_scores(task, f.mapping(entries), read):
                (missing if isinstance(draft, MissingDraft) else scores).append(draft)  # type: ignore[arg-type]
        except FormatError as error:
            raise error.under(f".results{step(task)}") from None
    started = None if read["date"] is None else _time(read["date"])
    identity = digest(canonical_json([started, _name(read, config), {s.task + s.metric: s.value for s in scores}]))
    return Evaluation(
        tool="lm-eval",
        identity=identity,
        model=_name(read, config),
        place="$.results",
        tool_version=read["version"],
        started_at=started,
        config={**config, "n-shot": read["shots"]},
        scores=scores,
        missing=missing,
    )


def _name(read: Object, config: Object) -> str:
    """The model: its name, else `pretrained=` among the arguments, else the kind of backend."""
    arguments = config.get("model_args")
    if isinstance(arguments, str):
        arguments = dict(part.split("=", 1) for part in arguments.split(",") if "=" in part)
    stated = arguments.get("pretrained") or arguments.get("model") if isinstance(arguments, dict) else None
    found = read["model"] or stated or config.get("model")
    if not found:
        raise FormatError("names no model", ".config.model")
    return f.name(found)


def _lm_eval_scores(task: str, entries: Object, read: Object) -> Iterator[ScoreDraft | MissingDraft]:
    counts = (read["counts"] or {}).get(task) or {}
    n = counts.get("effective") if isinstance(counts, dict) else None
    version = (read["versions"] or {}).get(task)
    for key, raw in entries.items():
        name, comma, filter_ = key.partition(",")
        if not comma or name.endswith("_stderr"):
            continue  # alias, sample_len and the like
        if raw is None or (isinstance(raw, float) and not_a_number(raw)):
            yield MissingDraft(task=task, metric=key, reason="null" if raw is None else str(not_a_number(raw)))
            continue
        try:
            value = f.number(raw)
        except FormatError as error:
            raise error.under(step(key)) from None
        error_ = entries.get(f"{name}_stderr,{filter_}")
        yield ScoreDraft(
            task=task,
            metric=key,
            value=value,
            se=f.maybe_number(error_) if isinstance(error_, int | float) and not isinstance(error_, bool) else None,
            n=n if type(n) is int and n > 0 else None,
            task_version=None if version is None else str(version),
        )


def _lm_eval_samples(path: Path) -> Evaluation:
    """Samples of a task; the evaluation that they belong to stands in the results file of the same time beside them."""
    stamp = STAMP.search(path.name)
    if stamp is None or not path.name.startswith("samples_"):
        raise FormatError("is no file of samples of lm-evaluation-harness (samples_TASK_TIME.jsonl)")
    results = path.with_name(f"results_{stamp[1]}.json")
    if not results.exists():  # with `--output_path D/NAME.json` they are NAME_TIME.json
        results = next((file for file in sorted(path.parent.glob(f"*_{stamp[1]}.json"))), results)
    try:
        evaluation = _lm_eval(f.mapping(parse_bytes(results.read_bytes())))
    except (OSError, FormatError) as error:
        raise FormatError(f"needs {results.name} beside it, which cannot be read") from error
    task = path.name.removeprefix("samples_")[: -len(stamp[0])]
    evaluation.place = f"samples of {task}"
    evaluation.samples = _lm_eval_lines(task, path)
    return evaluation


def _lm_eval_lines(task: str, path: Path) -> Iterator[SampleDraft]:
    """Line by line: a line holds the whole prompt and answer, and there may be any number of them."""
    with path.open("rb") as file:
        for number, line in enumerate(iter(partial(file.readline, MOST + 1), b"")):
            try:
                if len(line) > MOST:
                    raise FormatError(f"a line holds more than {MOST >> 20} MiB")
                yield from _lm_eval_sample(task, f.mapping(parse_bytes(line)))
            except FormatError as error:
                raise error.under(f"[{number}]") from None


def _lm_eval_sample(task: str, entry: Object) -> Iterator[SampleDraft]:
    names = f.items(entry.get("metrics"))
    if "doc_id" not in entry:
        raise FormatError("is missing", ".doc_id")
    for name in names:
        value = entry.get(f.text(name))
        metric = f"{name},{entry.get('filter', 'none')}"
        yield _sample(task, str(entry["doc_id"]), metric, value)


def _sample(task: str, sample: str, metric: str, value: Any) -> SampleDraft:
    """A number as such; a word, a list (what f1, mcc or perplexity are computed of) or a NaN as text."""
    if isinstance(value, int | float) and not_a_number(value) is None:
        return SampleDraft(task=task, sample=sample, metric=metric, value=float(value), text_value=None)
    if isinstance(value, float):
        text = str(not_a_number(value))
    else:
        text = value if isinstance(value, str) else json.dumps(value, default=str)
    return SampleDraft(task=task, sample=sample, metric=metric, value=None, text_value=text)


def _inspect(path: Path, value: Any) -> Evaluation:
    """A log of Inspect AI, through its own reader: the head; samples as summaries, or from the JSON one by one."""
    try:
        reader = import_module("inspect_ai.log")
    except ModuleNotFoundError as error:
        raise FormatError("is a log of Inspect AI, whose reader is needed: pip install inspect-ai") from error
    log = _through(reader.read_eval_log, str(path), header_only=True)
    spec = log.eval
    if log.results is None:
        raise FormatError(f"holds no results: the evaluation ended with status {log.status!r}")
    version = None if spec.task_version is None else str(spec.task_version)
    evaluation = Evaluation(
        tool="inspect",
        identity=str(spec.eval_id or digest(path.read_bytes())),
        model=f.name(str(spec.model)),
        place="$.results",
        tool_version=(spec.packages or {}).get("inspect_ai"),
        started_at=str(spec.created),
        config=orjson.loads(orjson.dumps({"task_args": spec.task_args, "dataset": spec.dataset.name}, default=str)),
        status=str(log.status),
        finished=log.status == "success",
        n_samples=log.results.total_samples,
        n_done=log.results.completed_samples,
    )
    for score in log.results.scores:
        _inspect_scores(evaluation, spec.task, version, score)
    evaluation.samples = _inspect_samples(reader, spec.task, path, value)
    return evaluation


def _inspect_scores(evaluation: Evaluation, task: str, version: str | None, score: Any) -> None:
    """The metrics of a scorer. `stderr` is that of accuracy or mean; beside neither it stays a metric."""
    metrics = {name: float(metric.value) for name, metric in score.metrics.items()}
    error = metrics.pop("stderr") if "stderr" in metrics and {"accuracy", "mean"} & metrics.keys() else None
    for name, value in metrics.items():
        metric, reason = f"{score.name}/{name}", not_a_number(value)
        if reason is not None:
            evaluation.missing.append(MissingDraft(task=task, metric=metric, reason=reason))
            continue
        known = error if name in ("accuracy", "mean") and error is not None and not not_a_number(error) else None
        evaluation.scores.append(
            ScoreDraft(task=task, metric=metric, value=value, se=known, n=score.scored_samples, task_version=version)
        )
    if score.unscored_samples:
        unscored = MissingDraft(task=task, metric=str(score.name), reason="unscored", n=score.unscored_samples)
        evaluation.missing.append(unscored)


def _through(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """What a function of Inspect's reader says."""
    try:
        return function(*arguments, **options)
    except Exception as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise FormatError(f"Inspect AI cannot read it: {first[:200]}") from error


def _inspect_samples(reader: Any, task: str, path: Path, value: Any) -> Iterator[SampleDraft]:
    if value is None:
        # Whole scores with the texts cut short; reading sample by sample opens the archive anew for each.
        for raw in _through(reader.read_eval_log_sample_summaries, str(path)):
            yield from _inspect_sample(task, raw)
        return
    for number, raw in enumerate(value.get("samples") or ()):
        try:
            yield from _inspect_sample(task, _through(reader.EvalSample.model_validate, raw))
        except FormatError as error:
            raise error.under(f".samples[{number}]") from None


def _inspect_sample(task: str, raw: Any) -> Iterator[SampleDraft]:
    for name, score in (raw.scores or {}).items():
        yield _sample(task, f"{raw.id} (epoch {raw.epoch})", str(name), score.value)


def _mlflow(path: Path) -> Iterator[Evaluation]:
    """Runs of an MLflow SQLite store with the last value of each metric."""
    try:
        with closing(sqlite3.connect(read_only_uri(path), uri=True, timeout=30)) as store:
            runs = store.execute(
                "SELECT run_uuid, runs.name, status, start_time, experiments.name FROM runs "
                "JOIN experiments ON experiments.experiment_id = runs.experiment_id "
                "WHERE runs.lifecycle_stage = 'active' ORDER BY start_time, run_uuid"
            ).fetchall()
            for uuid, name, status, started, experiment in runs:
                params = dict(store.execute("SELECT key, value FROM params WHERE run_uuid = ? ORDER BY key", (uuid,)))
                sql = "SELECT key, value, is_nan FROM latest_metrics WHERE run_uuid = ? ORDER BY key"
                evaluation = Evaluation(
                    tool="mlflow",
                    identity=str(uuid),
                    model=next((params[key] for key in MODEL_PARAMS if params.get(key)), "unknown"),
                    place=f"run {uuid}",
                    started_at=None if started is None else _time(started / 1000),
                    config={"run": name, "status": status, "params": params},
                    status=str(status),
                    finished=status == "FINISHED",
                )
                for key, value, is_nan in store.execute(sql, (uuid,)):
                    # An infinity is stored as the largest float.
                    reason = "NaN" if is_nan else not_a_number(value)
                    if reason is None:
                        evaluation.scores.append(ScoreDraft(task=str(experiment), metric=str(key), value=float(value)))
                    else:
                        missing = MissingDraft(task=str(experiment), metric=str(key), reason=reason)
                        evaluation.missing.append(missing)
                yield evaluation
    except sqlite3.Error as error:
        raise FormatError(f"is no SQLite store of MLflow ({error})") from error
