"""What `rhodb run` and `rhodb plan` print: cells that wait, and what became of those that were run."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer

from rhodb.cli.output import console, doing, emit, emit_json, note, table

if TYPE_CHECKING:
    from rhodb.warehouse import Warehouse
    from runners.cells import Cell, Session
    from runners.executor import Report


def measured_rate(session: "Session") -> float:
    """Seconds for one unit of work on this machine now, measured once the cells are planned."""
    with doing("planning the cells"):
        _ = session.cells
    with doing("measuring this machine's speed on a few pairs"):
        return session.seconds_per_work()


def print_plan(session: "Session", db: str | None, *, json: bool) -> None:
    """Each cell with its state in the warehouse (which is not created) and the time it should take."""
    from rhodb import store
    from rhodb.warehouse import Warehouse
    from runners.reporting import duration
    from runners.scoring_session import ScoringSession

    rate = measured_rate(session)
    warehouse = Warehouse.peek(db)
    identities = [cell.identity for cell in session.cells]
    statuses = [None] * len(identities) if warehouse is None else store.find(warehouse, identities)
    rows: list[dict[str, Any]] = [
        {
            "cell": cell.label,
            "state": status.state if status else "new",
            "seconds": 0.0 if status and status.state == "done" else round(cell.work * rate, 3),
            "config_hash": cell.identity.config_hash[:12],
        }
        for cell, status in zip(session.cells, statuses, strict=True)
    ]
    emit(rows, format="json" if json else "table")
    to_do = [row for row in rows if row["state"] != "done"]
    note(f"{len(rows)} cells, {len(to_do)} to run; nothing was run")
    if isinstance(session, ScoringSession):
        note(f"memory: about {session.peak_bytes() / 2**30:.2g} GiB for MLX at the peak, by the model's shapes")
    if to_do:
        about = duration(sum(row["seconds"] for row in to_do))
        note(f"time: about {about} in one process, at the speed of this machine right now (measured on a few pairs)")


def print_report(report: "Report", warehouse: "Warehouse", cells: "Sequence[Cell]", *, json: bool) -> None:
    """What was done, the change against the baseline, and what needs attention (on stderr)."""
    from rhodb.rows import run_uuid
    from rhodb.summary import run_deltas, truncated_texts

    arms = {run_uuid(c.identity): c.label.removesuffix(f" seed {c.identity.seed}") for c in cells}
    rows = run_deltas(warehouse, report.uuids, arms=arms)
    truncated, texts = truncated_texts(warehouse, report.uuids)
    if json:
        emit_json(
            {
                "warehouse": str(warehouse.location),
                "executed": report.executed,
                "already_done": report.already_done,
                "done_elsewhere": report.done_elsewhere,
                "spooled": report.spooled,
                "failed": report.failed,
                "runs": report.uuids,
                "truncated_texts": truncated,
                "deltas": rows,
            }
        )
    else:
        _print_deltas(rows)
        done = len(report.executed) + len(report.already_done) + len(report.done_elsewhere)
        typer.echo(
            f"{done} runs done ({len(report.executed)} now, {len(report.already_done)} before"
            + (f", {len(report.done_elsewhere)} by another process" if report.done_elsewhere else "")
            + f") in {warehouse.location}"
        )
        study = "effects" if rows else "list"
        typer.echo(f"next: rhodb analyze {study}   |   rhodb runs list   |   rhodb runs show UUID")
    if truncated:
        note(f"{truncated} of {texts} scored texts were longer than --max-length and were cut (probe_scores.truncated)")
    for label in report.spooled:
        note(f"kept in the spool: {label}; `rhodb runs recover` inserts it once the warehouse can be written")
    for label, error in report.failed.items():
        note(f"failed: {label}: {error}")


def _print_deltas(rows: list[dict[str, Any]]) -> None:
    """One line an arm, one column a behavior: mean ± SD over seeds of the change against the baseline."""
    if not rows:
        return
    behaviors = list(dict.fromkeys(row["behavior"] for row in rows))
    arms: dict[str, dict[str, Any]] = {}
    for row in rows:
        line = arms.setdefault(row["arm"], {"condition": row["arm"], "n": row["n"]})
        spread = "" if row["sd"] is None else f" ± {row['sd']:.3f}"
        line[row["behavior"]] = f"{row['mean']:+.3f}{spread}"
    split, metric = rows[0]["split"], rows[0]["metric"]
    title = f"Δ {metric} against the untouched model, {split} split, nats/token, mean ± SD over n seeds"
    out = table(list(arms.values()), ["condition", "n", *behaviors], title=title)
    sys.stdout.flush()
    console().print(out)
