"""Questions about runs that the command line and notebooks ask: list, show, compare."""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rhodb.adhoc import read
from rhodb.errors import InputError, UnknownNameError
from rhodb.location import Location
from rhodb.sql import saved_query
from rhodb.vocabulary import CONDITIONS, FAMILY_TABLES, RUN_KINDS, RUN_STATES

if TYPE_CHECKING:
    from rhodb.warehouse import Warehouse

Row = dict[str, Any]

PROVENANCE = ("host", "device", "platform", "python", "blas", "git_commit", "git_dirty")


def list_runs(
    location: Location,
    *,
    kind: str | None = None,
    state: str | None = None,
    model: str | None = None,
    condition: str | None = None,
    seed: int | None = None,
    limit: int = 50,
) -> list[Row]:
    """Runs that match, newest first, at most `limit`. Needs no SQLAlchemy, so that the command answers quickly."""
    for what, value, choices in (
        ("kind of run", kind, RUN_KINDS),
        ("state", state, RUN_STATES),
        ("condition", condition, CONDITIONS),
    ):
        if value is not None and value not in choices:
            raise UnknownNameError(what, value, choices)
    if limit < 1:
        raise InputError(f"limit must be >= 1, got {limit}")
    params = {"kind": kind, "state": state, "model": model, "condition": condition, "seed": seed, "limit": limit}
    answer = read(location, saved_query("runs"), params)
    return [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]


def resolve_run(wh: "Warehouse", prefix: str) -> str:
    """The uuid that begins with a prefix of at least 4 characters; InputError if there is none or several."""
    prefix = prefix.strip().lower()
    if len(prefix) < 4 or set(prefix) - set("0123456789abcdef-"):
        raise InputError(f"{prefix!r} is not the beginning of a run's uuid: give at least 4 of its characters")
    found = [
        row["uuid"]
        for row in wh.rows(
            "SELECT uuid FROM runs WHERE uuid >= :low AND uuid < :high ORDER BY uuid LIMIT 4",
            low=prefix,
            high=prefix + "g",
        )
    ]
    if not found:
        raise InputError(f"no run begins with {prefix!r}: `rhodb runs list` shows them")
    if len(found) > 1:
        raise InputError(f"{prefix!r} is ambiguous ({', '.join(found[:3])}): give more characters")
    return str(found[0])


@dataclass(frozen=True, kw_only=True)
class RunDetails:
    """Everything the warehouse knows about a run, but for its probe scores and training steps."""

    run: Row
    """Columns of `runs`, with model and baseline by name; JSON columns decoded."""
    family: Row
    """Columns of the family's table, empty where there is none."""
    scores: list[Row]
    probe_sets: list[Row]
    counts: dict[str, int]
    """Rows of the run in `probe_scores` and `train_steps`."""


def show_run(wh: "Warehouse", prefix: str) -> RunDetails:
    """Everything about the run whose uuid begins with the prefix."""
    uuid = resolve_run(wh, prefix)
    run = wh.rows(saved_query("run"), uuid=uuid)[0]
    table = FAMILY_TABLES.get(run["kind"])
    family = wh.rows(f"SELECT * FROM {table} WHERE run_id = :id", id=run["id"]) if table else []
    counts = {
        table: int(wh.rows(f"SELECT count(*) AS n FROM {table} WHERE run_id = :id", id=run["id"])[0]["n"])
        for table in ("probe_scores", "train_steps")
    }
    for column in ("config", "versions", "notes", "extra"):
        run[column] = json.loads(run[column]) if run[column] else None
    hidden = ("id", "model_id", "baseline_run_id")
    return RunDetails(
        run={key: value for key, value in run.items() if key not in hidden},
        family={key: value for key, value in family[0].items() if key != "run_id"} if family else {},
        scores=wh.rows(saved_query("run_scores"), uuid=uuid),
        probe_sets=wh.rows(saved_query("run_probe_sets"), uuid=uuid),
        counts=counts,
    )


@dataclass(frozen=True, kw_only=True)
class RunDiff:
    """What two runs differ in. `settings` and `provenance` hold only what differs; `scores` holds all."""

    a: str
    b: str
    settings: list[Row]
    provenance: list[Row]
    scores: list[Row]


def diff_runs(wh: "Warehouse", a: str, b: str) -> RunDiff:
    """Compare two runs: identity and configuration, provenance, scores (difference is b - a)."""
    left, right = show_run(wh, a), show_run(wh, b)
    uuids = (str(left.run["uuid"]), str(right.run["uuid"]))
    identity = ("kind", "model", "model_fingerprint", "seed", "state", "baseline")
    settings = [
        ({key: details.run[key] for key in identity} | _flatten(details.run["config"], "config"))
        for details in (left, right)
    ]
    provenance = [
        ({key: details.run[key] for key in PROVENANCE} | _flatten(details.run["versions"] or {}, "versions"))
        for details in (left, right)
    ]
    return RunDiff(
        a=uuids[0],
        b=uuids[1],
        settings=_differences(*settings),
        provenance=_differences(*provenance),
        scores=wh.rows(saved_query("score_diff"), a=uuids[0], b=uuids[1]),
    )


def _flatten(value: Any, name: str) -> Row:
    """Nested objects as dotted names; lists stay whole."""
    if not isinstance(value, dict):
        return {name: value}
    flat: Row = {}
    for key, inner in value.items():
        flat |= _flatten(inner, f"{name}.{key}")
    return flat


def _differences(a: Row, b: Row) -> list[Row]:
    absent = object()
    return [
        {"what": key, "a": a.get(key), "b": b.get(key)}
        for key in sorted(a.keys() | b.keys())
        if a.get(key, absent) != b.get(key, absent)
    ]
