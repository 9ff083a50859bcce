"""The first part of the design gate: which rows of a frame are measurements, and which belong side by side.

`admit` leaves out rows that are no measurements, with a message each time; `alike` splits rows into groups that agree
in everything but the declared axes. `analysis.design` then holds each look to its declaration.
"""

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from analysis.design import AXES, AXIS_KEYS, Declared
from analysis.strata import ARM_KEYS, SEED_KEYS, settings_of
from rhodb.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

NATS: Final = ("gap", "answer_gap")
"""Continuous metrics: a mean of differences of cross-entropies is never exactly 0, and no two are equal by chance."""
SCORE: Final = ["run", "behavior", "metric", "split"]
_STRATUM: Final = ["model", "model_fingerprint", "config", "condition", "rho_weight", "margin", "behavior", "metric",
                   "split"]  # fmt: skip
SEVERAL: Final = 2
"""Seeds of a stratum with the same impossible value from which it is a stand-in for a missing score."""


def admit(frame: "pd.DataFrame") -> tuple["pd.DataFrame", list[str]]:
    """The rows that hold a measurement, each score of a run once; what was left out, in words."""
    messages: list[str] = []
    missing = frame["value"].isna()
    if missing.any():
        messages.append(f"{int(missing.sum())} rows without a value are left out")
        frame = frame[~missing]
    frame = _each_once(frame, messages)
    return _without_stand_ins(frame, messages), messages


def without_settings(frame: "pd.DataFrame", names: Sequence[str]) -> "pd.DataFrame":
    """The rows as if no run had stated these settings. Raises InputError for one that no run states."""
    if not names or "config" not in frame.columns:
        return frame
    configs = {text: json.loads(text) for text in frame["config"].unique()}
    stated = {key for config in configs.values() for key in config}
    for name in names:
        if name not in stated:
            raise InputError(f"no run states the setting {name!r}; there are: {', '.join(sorted(stated))}")
    kept = {
        text: json.dumps({key: value for key, value in config.items() if key not in names}, sort_keys=True)
        for text, config in configs.items()
    }
    return frame.assign(config=frame["config"].map(kept))


def _each_once(frame: "pd.DataFrame", messages: list[str]) -> "pd.DataFrame":
    """A run that is present several times counts once; where its copies contradict each other, not at all."""
    again = frame.duplicated(SCORE, keep=False)
    if not again.any():
        return frame
    values = frame[again].groupby(SCORE)["value"].transform("nunique")
    contradicting = values.index[values > 1]
    if len(contradicting):
        runs = sorted(frame.loc[contradicting, "run"].unique())
        messages.append(f"{_named(runs)}: the same score stands there several times with different values: left out")
        frame = frame.drop(index=contradicting)
    copies = frame.duplicated(SCORE)
    if copies.any():
        runs = sorted(frame.loc[copies, "run"].unique())
        messages.append(f"{_named(runs)}: present several times: counted once")
        frame = frame[~copies]
    return frame


def _without_stand_ins(frame: "pd.DataFrame", messages: list[str]) -> "pd.DataFrame":
    for what, rows in stand_ins(frame):
        for (model, condition, behavior, metric), part in rows.groupby(["model", "condition", "behavior", "metric"]):
            messages.append(
                f"{model}, {condition}: {behavior} {metric} {what} in {part['run'].nunique()} runs: a missing score "
                "stored as a number, or training that changed nothing: left out"
            )
        frame = frame.drop(index=rows.index)
    return frame


def stand_ins(frame: "pd.DataFrame") -> list[tuple[str, "pd.DataFrame"]]:
    """Scores of trained runs that several seeds of a stratum share with 0 or with the untouched model.

    With what they are, in words. Such numbers stand for a missing measurement, or for training that did nothing.
    """
    trained = (frame["kind"] == "alignment") & frame["metric"].isin(NATS)
    zero = trained & (frame["value"] == 0.0)
    copied = trained & ~zero & (frame["value"] == frame["baseline_value"])
    found = []
    for mask, what in ((zero, "is exactly 0"), (copied, "is the untouched model's to the last digit")):
        if mask.any():
            seeds = frame[mask].groupby(_STRATUM, dropna=False)["seed"].transform("nunique")
            if (seeds >= SEVERAL).any():
                found.append((what, frame.loc[seeds.index[seeds >= SEVERAL]]))
    return found


def alike(frame: "pd.DataFrame", declared: Declared) -> list["pd.DataFrame"]:
    """Groups of rows that agree in every axis and setting that `declared` does not let vary; behaviors stay together.

    A setting that some runs do not state splits nothing, unless the others contradict each other in it.
    """
    if frame.empty:
        return []
    axes = [axis for axis in AXES if axis in frame.columns and axis not in declared.varies and axis != "model"]
    keys = ["model", "model_fingerprint", *axes]
    skip = ARM_KEYS | SEED_KEYS | frozenset().union(*(AXIS_KEYS.get(axis, frozenset()) for axis in declared.varies))
    groups = []
    for _, part in frame.groupby(keys, dropna=False, sort=True):
        stated = {config: dict(settings_of(json.loads(config), skip=skip)) for config in part["config"].unique()}
        values: dict[str, set[str]] = defaultdict(set)
        for settings in stated.values():
            for key, value in settings.items():
                values[key].add(value)
        split = sorted(key for key, found in values.items() if len(found) > 1)
        names = {config: json.dumps([settings.get(key) for key in split]) for config, settings in stated.items()}
        groups += [rows for _, rows in part.groupby(part["config"].map(names), sort=True)]
    return groups


def _named(runs: list[str]) -> str:
    shown = ", ".join(run[:8] for run in runs[:4])
    return f"runs {shown}" + (f" and {len(runs) - 4} more" if len(runs) > 4 else "")
