"""Experiments under one configuration: where seeds repeat with other results, each experiment is a stratum."""

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from analysis.strata import EXPERIMENT

Row = Mapping[str, Any]


def grouped(runs: Mapping[str, tuple[str, Hashable, int]]) -> dict[str, str]:
    """Run -> name of its group, from its experiment, arm and seed.

    Experiments with the same arms and disjoint seeds are parts of one: a sweep that was run in two goes.
    """
    parts: dict[str, list[str]] = defaultdict(list)
    for run, (experiment, _, _) in runs.items():
        parts[experiment].append(run)
    merged: list[tuple[list[str], list[str]]] = []
    for name, members in parts.items():
        arms, seeds = {runs[run][1] for run in members}, {runs[run][2] for run in members}
        for names, gathered in merged:
            if {runs[run][1] for run in gathered} == arms and not seeds & {runs[run][2] for run in gathered}:
                names.append(name)
                gathered.extend(members)
                break
        else:
            merged.append(([name], list(members)))
    return {run: " + ".join(_short(name) for name in names) for names, gathered in merged for run in gathered}


def by_experiment(rows: Sequence[Row]) -> tuple[list[Row], list[str]]:
    """Rows of models whose seeds repeat with other results get the name of their experiment; one message a model."""
    models: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        models[row["kind"], row["model"], row["model_fingerprint"]].append(row)
    told, messages = [], []
    for key, bucket in models.items():
        if not _repeats(bucket):
            told += bucket
            continue
        runs = {
            row["run"]: (
                row["experiment"] if isinstance(row.get("experiment"), str) else "",
                (row["condition"], row["rho_weight"], None if row["margin"] != row["margin"] else row["margin"]),
                row["seed"],
            )
            for row in bucket
        }
        names = grouped(runs)
        if len(set(names.values())) > 1:
            messages.append(
                f"{key[1]}: seeds repeat with other results, so each experiment is a stratum of its own "
                f"({', '.join(sorted(set(names.values())))})"
            )
            told += [{**row, EXPERIMENT: names[row["run"]]} for row in bucket]
        else:
            told += bucket
    return told, messages


def _repeats(bucket: Sequence[Row]) -> bool:
    """Whether one configuration and seed has two different values of the same score."""
    seen: dict[tuple[Any, ...], float] = {}
    for row in bucket:
        key = tuple(row[k] for k in ("config", "seed", "behavior", "metric", "split"))
        if seen.setdefault(key, row["value"]) != row["value"]:
            return True
    return False


def _short(name: str) -> str:
    """A name fit for a label: long ones keep both ends."""
    if not name:
        return "unnamed experiment"
    return name if len(name) <= 32 else f"{name[:18]}…{name[-12:]}"
