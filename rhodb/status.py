"""How far the warehouse's runs are: what is planned, running, interrupted, failed and done, and the time left."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from rhodb.liveness import Owner, is_dead, now
from rhodb.sql import saved_query
from rhodb.warehouse import Warehouse

STATES: Final = ("planned", "running", "interrupted", "failed", "done")
"""`interrupted`: running, as far as the warehouse knows, but its process is gone; the same command takes it up."""


@dataclass(frozen=True, kw_only=True)
class Status:
    """The state of the warehouse's runs."""

    counts: Mapping[str, int]
    runs: list[dict[str, Any]]
    """Those that are not done."""
    seconds_left: float | None
    """For one process, judged by finished runs of the same kind and model; None where there are none to judge by."""
    not_judged: int
    """Runs to do whose duration nothing is known of."""


def status(wh: Warehouse) -> Status:
    """Look at all runs."""
    time = now()
    runs = [_run(row, time) for row in wh.rows(saved_query("status"))]
    counts = Counter(run["state"] for run in runs)
    counts["done"] = wh.rows("SELECT count(*) AS n FROM runs WHERE state = 'done'")[0]["n"]
    to_do = [run for run in runs if run["state"] != "failed"]
    known = [run["seconds_left"] for run in to_do if run["seconds_left"] is not None]
    return Status(
        counts={state: counts[state] for state in STATES},
        runs=runs,
        seconds_left=sum(known) if known or not to_do else None,
        not_judged=len(to_do) - len(known),
    )


def _run(row: Mapping[str, Any], time: str) -> dict[str, Any]:
    """`host` and `pid` are those of the process that executes the run; on a cluster another one coordinates it."""
    state = _state(row)
    elapsed = _seconds(row["started_at"], time) if state == "running" else None
    expected = row["expected_seconds"]
    left = None if expected is None or state == "failed" else max(0.0, expected - (elapsed or 0.0))
    owner = {"host": row["host"], "pid": row["pid"]}
    worker = json.loads(row["notes"]).get("worker") if row["state"] == "running" else None
    condition = json.loads(row["config"]).get("condition")
    return {
        "run": row["uuid"],
        "what": " ".join(word for word in (row["kind"], condition) if word),
        "model": row["model"],
        "seed": row["seed"],
        "state": state,
        **(worker or owner),
        "coordinator": f"{row['host']}, pid {row['pid']}" if worker else None,
        "heartbeat_s": _seconds(row["heartbeat_at"], time),
        "elapsed_s": elapsed,
        "seconds_left": left,
        "error": row["error"],
    }


def _state(row: Mapping[str, Any]) -> str:
    if row["state"] != "running":
        return str(row["state"])
    known = all(row[name] is not None for name in ("host", "pid", "process_started"))
    owner = Owner(host=row["host"], pid=row["pid"], process_started=row["process_started"]) if known else None
    return "interrupted" if is_dead(owner, row["heartbeat_at"]) else "running"


def _seconds(since: str | None, until: str) -> float | None:
    if since is None:
        return None
    return (datetime.fromisoformat(until) - datetime.fromisoformat(since)).total_seconds()
