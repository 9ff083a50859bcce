"""What a finished plan shows: the change of each behavior per arm, over the seeds that are done."""

import statistics
from collections.abc import Mapping
from typing import Any

from rhodb.sql import saved_query
from rhodb.warehouse import Warehouse

HEADLINE_METRIC = "gap"


def run_deltas(
    warehouse: Warehouse, uuids: list[str], metric: str = HEADLINE_METRIC, *, arms: Mapping[str, str] | None = None
) -> list[dict[str, Any]]:
    """Mean and SD over seeds of the change against the baseline, for each arm of these runs and each behavior.

    Shows the eval split, or split `none` where the runs did not split their probes. SD is None for one seed.
    `arms` names the arm of a run by its uuid where its kind has no condition.
    """
    sql = saved_query("run_deltas")
    rows = [
        {"arm": (arms or {}).get(uuid, ""), **row}
        for uuid in uuids
        for row in warehouse.rows(sql, uuid=uuid, metric=metric)
    ]
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((arm_label(row), row["behavior"]), []).append(row)
    return [
        {
            "arm": arm,
            "behavior": behavior,
            "metric": metric,
            "split": group[0]["split"],
            "n": len(group),
            "mean": statistics.fmean(row["delta"] for row in group),
            "sd": statistics.stdev([row["delta"] for row in group]) if len(group) > 1 else None,
        }
        for (arm, behavior), group in groups.items()
    ]


def truncated_texts(warehouse: Warehouse, uuids: list[str]) -> tuple[int, int]:
    """(scored texts cut at the length limit, scored texts) over these runs."""
    sql = saved_query("run_truncation")
    counts = [row for uuid in uuids for row in warehouse.rows(sql, uuid=uuid)]
    return sum(row["truncated"] for row in counts), sum(row["texts"] for row in counts)


def arm_label(row: dict[str, Any]) -> str:
    """`rho-guided λ=0.2 γ=0.1`; a condition without a contrastive term has no dose to name."""
    if row["condition"] is None:  # no training experiment
        return str(row["arm"])
    if row["condition"] == "sft-only":
        return "sft-only"
    margin = "" if row["margin"] is None else f" γ={row['margin']:g}"
    return f"{row['condition']} λ={row['rho_weight']:g}{margin}"
