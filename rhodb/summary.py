"""What a finished plan shows: the change of each behavior per arm, over the seeds that are done."""

import statistics
from collections import Counter
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
    `arms` names the arm of a run by its uuid where its kind has no condition. Runs of two models or configurations
    are two arms, whatever their condition, λ and γ.
    """
    sql = saved_query("run_deltas")
    rows = [
        {"arm": (arms or {}).get(uuid, ""), **row}
        for uuid in uuids
        for row in warehouse.rows(sql, uuid=uuid, metric=metric)
    ]
    strata = {(row["model_id"], row["config_hash"]): row for row in rows}
    names = _labels(strata)
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((names[row["model_id"], row["config_hash"]], row["behavior"], row["split"]), []).append(row)
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
        for (arm, behavior, _), group in groups.items()
    ]


def _labels(strata: Mapping[tuple[int, str], dict[str, Any]]) -> dict[tuple[int, str], str]:
    """The arm of each stratum; with its model, configuration or weights (their beginnings) where two share one."""
    plain = {key: arm_label(row) for key, row in strata.items()}
    models = Counter((name, strata[key]["model"]) for key, name in plain.items())
    several = Counter(plain.values())
    names = {}
    for key, name in plain.items():
        model = strata[key]["model"]
        parts = [name]
        if several[name] > 1:
            parts.append(f"[{model}]" if models[name, model] == 1 else f"[{model} {key[1][:8]}]")
        names[key] = " ".join(parts)
    alike = Counter(names.values())
    weights = {key: strata[key]["model_fingerprint"][:8] for key in names}
    return {key: name if alike[name] == 1 else f"{name} [weights {weights[key]}]" for key, name in names.items()}


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
