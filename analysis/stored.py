"""Results kept in the warehouse: an unchanged warehouse answers at once, a changed one says what moved."""

import gc
import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.findings import Estimate, Evidence, Finding, Group, Result, Robustness, Test
from analysis.query import Query
from analysis.study import Study, StudyOptions
from rhodb import __version__
from rhodb.records import canonical_json

if TYPE_CHECKING:
    import pandas as pd

    from rhodb.warehouse import Warehouse

LOOK = ("detector", "model", "behavior", "metric", "split", "stratum", "a", "b")
"""What makes two findings of two results the same look."""
MOST_STORED = 20_000
"""Findings up to which a result is kept: some 40 MiB of JSON."""


@dataclass(frozen=True, kw_only=True)
class Answered:
    """A result, and whether it was read rather than computed."""

    result: Result
    fingerprint: str
    from_store: bool


def fingerprint(frame: "pd.DataFrame") -> str:
    """SHA-256 over the rows that go into a study."""
    from pandas.util import hash_pandas_object

    digest = hashlib.sha256(",".join(frame.columns).encode())
    if len(frame):
        digest.update(np.asarray(hash_pandas_object(frame, index=False)).tobytes())
    return digest.hexdigest()


def parameters(options: StudyOptions) -> str:
    """The options as canonical JSON."""
    return canonical_json(json.loads(json.dumps(asdict(options))))


def answer(wh: "Warehouse", study: Study, options: StudyOptions) -> Answered:
    """The stored result for the rows as they are now, if this version computed it; else a new one (not yet stored)."""
    frame = study.load(wh, options)
    mark = fingerprint(frame)
    rows = wh.rows(
        "SELECT result FROM analysis_results WHERE study = :study AND parameters = :parameters "
        "AND input_fingerprint = :mark AND version = :version",
        study=study.name, parameters=parameters(options), mark=mark, version=__version__,
    )  # fmt: skip
    if rows:
        return Answered(result=from_json(json.loads(rows[0]["result"])), fingerprint=mark, from_store=True)
    with _no_garbage_collection():
        result = study.compute(frame, options, np.random.default_rng(options.seed))
    return Answered(result=result, fingerprint=mark, from_store=False)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Results are trees of many small objects: looking for cycles among them again and again takes a quarter longer."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def too_large(result: Result) -> bool:
    """Whether a result is not kept: it would weigh more than the rows that it is made from."""
    return len(result.findings) > MOST_STORED


def store(wh: "Warehouse", options: StudyOptions, answered: Answered) -> None:
    """Keep a result that is not `too_large`; one from an older version of rhodb over the same rows is replaced."""
    from sqlalchemy import text

    key = {
        "study": answered.result.study, "parameters": parameters(options), "input_fingerprint": answered.fingerprint,
    }  # fmt: skip
    with wh.write() as connection:
        connection.execute(
            text(
                "DELETE FROM analysis_results WHERE study = :study AND parameters = :parameters "
                "AND input_fingerprint = :input_fingerprint"
            ),
            key,
        )
        connection.execute(
            text(
                "INSERT INTO analysis_results (study, parameters, input_fingerprint, result, created_at, version) "
                "VALUES (:study, :parameters, :input_fingerprint, :result, :created_at, :version)"
            ),
            key
            | {
                "result": "".join(answered.result.json_pieces()),
                "created_at": datetime.now(UTC).isoformat(timespec="microseconds"),
                "version": __version__,
            },
        )


def last_two(wh: "Warehouse", study: str, options: StudyOptions) -> list[tuple[str, Result]]:
    """The newest stored results of a study with these options, newest first: when, and what."""
    rows = wh.rows(
        "SELECT created_at, result FROM analysis_results WHERE study = :study AND parameters = :parameters "
        "ORDER BY created_at DESC, id DESC LIMIT 2",
        study=study, parameters=parameters(options),
    )  # fmt: skip
    return [(row["created_at"], from_json(json.loads(row["result"]))) for row in rows]


def moved(old: Result, new: Result) -> list[dict[str, Any]]:
    """What differs between two results: looks that came, went, changed verdict or effect."""
    before, after = _by_look(old), _by_look(new)
    rows = []
    for look in dict.fromkeys([*before, *after]):
        was, now = before.get(look), after.get(look)
        if was is not None and now is not None and (was.verdict, was.effect) == (now.verdict, now.effect):
            continue
        change = "new" if was is None else "gone" if now is None else "moved"
        if was is not None and now is not None and was.verdict != now.verdict:
            change = "verdict"
        rows.append(
            {
                "change": change,
                **{key: value for key, value in zip(LOOK, look, strict=True) if value},
                "effect_before": was and was.effect.value,
                "effect_now": now and now.effect.value,
                "verdict_before": was and was.verdict,
                "verdict_now": now and now.verdict,
            }
        )
    order = ("verdict", "new", "gone", "moved")
    return sorted(rows, key=lambda row: order.index(row["change"]))


def _by_look(result: Result) -> dict[tuple[str, ...], Finding]:
    return {tuple(finding.about.get(key, "") for key in LOOK): finding for finding in result.findings}


def from_json(document: Mapping[str, Any]) -> Result:
    """The inverse of `Result.to_json`."""
    query = Query(**document["query"])
    return Result(
        study=document["study"],
        options=document["options"],
        findings=tuple(_finding(entry, query) for entry in document["findings"]),
        looks=document["looks"],
        messages=tuple(document["messages"]),
        query=query,
        caption=document["caption"],
    )


def _finding(entry: Mapping[str, Any], query: Query) -> Finding:
    evidence = entry["evidence"]
    own = evidence.get("query")
    return Finding(
        number=entry["number"],
        about=entry["about"],
        unit=entry["unit"],
        groups=tuple(
            Group(label=g["label"], seeds=tuple(g["seeds"]), values=tuple(g["values"]), mean=g["mean"], sd=g["sd"])
            for g in entry["groups"]
        ),
        effect=Estimate(**entry["effect"]),
        standardised=Estimate(**entry["standardised"]),
        tests=tuple(_test(test) for test in entry["tests"]),
        robustness=None if entry["robustness"] is None else Robustness(**entry["robustness"]),
        verdict=entry["verdict"],
        sentence=entry["sentence"],
        notes=tuple(entry["notes"]),
        evidence=Evidence(
            query=query if own is None else Query(**own),
            runs=tuple(evidence["runs"]),
            method=evidence["method"],
            reference=evidence["reference"],
        ),
    )


def _test(entry: Mapping[str, Any]) -> Test:
    effect = entry["effect"]
    return Test(**{**entry, "effect": None if effect is None else Estimate(**effect)})
