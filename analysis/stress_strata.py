"""Strata of stress tests: how a model was trained and how it answered. Answers of two strata are never added up."""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from analysis.strata import ARM_KEYS, SEED_KEYS, Arm, Stratum, is_missing, labels, settings_of

if TYPE_CHECKING:
    import pandas as pd


def strata_of(rows: "pd.DataFrame") -> dict[str, Stratum]:
    """Run -> its stratum: how it was trained (λ, γ, settings) and how it answered.

    Experiments are told apart where one stratum has a seed twice.
    """
    heads = rows.drop_duplicates("run").to_dict("records")
    found = {row["run"]: _stratum(row) for row in heads}
    seeds = Counter((found[row["run"]], row["seed"]) for row in heads)
    repeated = {stratum for (stratum, _), count in seeds.items() if count > 1}
    for row in heads:
        if found[row["run"]] in repeated and isinstance(row.get("experiment"), str):
            found[row["run"]] = replace(found[row["run"]], experiment=row["experiment"])
    return found


def _stratum(row: Mapping[Any, Any]) -> Stratum:
    trained, weight, margin = (row.get(name) for name in ("training_config", "rho_weight", "margin"))
    own = SEED_KEYS | {"condition"}
    if isinstance(trained, str):  # what it was trained with says more than the hash of that
        own |= {"training"}
    answering = settings_of(_parsed(row.get("config")), skip=own)
    training = settings_of(_parsed(trained), skip=ARM_KEYS | SEED_KEYS)
    return Stratum(
        kind="stress",
        model=row["model"],
        model_fingerprint=row["model_fingerprint"],
        arm=Arm.of(
            str(row["condition"]),
            0.0 if weight is None or is_missing(weight) else float(weight),
            None if margin is None or is_missing(margin) else float(margin),
        ),
        settings=tuple(sorted((*answering, *((f"training.{key}", value) for key, value in training)))),
    )


def _parsed(text: object) -> Mapping[str, Any]:
    parsed: Mapping[str, Any] = json.loads(text) if isinstance(text, str) else {}
    return parsed


def arms_of(strata: Mapping[str, Stratum]) -> dict[str, list[str]]:
    """Label of each stratum -> its runs."""
    names = labels(list(dict.fromkeys(strata.values())))
    found: dict[str, list[str]] = defaultdict(list)
    for run, stratum in strata.items():
        found[names[stratum]].append(run)
    return found
