"""The design gate of the detectors: rows become sheets (one stratum: seeds x behaviors) and designs.

A sheet holds runs that agree in everything but seed. A design is a set of sheets of one model and one
configuration that differ only in condition, λ and γ. What breaks a design is split or left out and named.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.admission import NATS
from analysis.design import UNDECLARED, seed_meaning
from analysis.experiments import grouped
from analysis.stats.results import Array
from analysis.strata import ARM_KEYS, SEED_KEYS, Arm, is_missing, settings_of, short_setting, usual_settings, usual_text
from rhodb.frames import values_of
from rhodb.vocabulary import BEHAVIORS

if TYPE_CHECKING:
    import pandas as pd

_RANK = {behavior: i for i, behavior in enumerate(BEHAVIORS)}


@dataclass(frozen=True, kw_only=True, eq=False)
class Sheet:
    """One stratum. `values` is Δ (the score where no run has a baseline): seeds x behaviors, NaN where missing."""

    model: str
    fingerprint: str
    """Of the model's weights: two models may bear one key."""
    arm: Arm
    settings: tuple[tuple[str, str], ...]
    experiment: str
    """Experiments that the runs stem from, where they had to be told apart; else empty."""
    apart: str = ""
    """Settings in which it differs from other sheets of the same condition, λ and γ, and its weights where its model's
    key stands for several; empty where there are none."""
    metric: str
    split: str
    quantity: str
    """delta or value."""
    seeds: tuple[int, ...]
    seeds_known: bool
    behaviors: tuple[str, ...]
    values: Array
    baselines: Array
    runs: tuple[str, ...]
    baseline_runs: tuple[str | None, ...]
    baseline_settings: tuple[str, ...]
    """Weights and configuration hash of each run's baseline: what its measurements have to share to be replicates."""

    @cached_property
    def label(self) -> str:
        arm = self.arm
        parts = [arm.condition]
        if arm.rho_weight is not None:
            parts.append(f"λ={arm.rho_weight:g}")
        if arm.rho_weight:
            parts.append("γ=unknown" if arm.margin is None else f"γ={arm.margin:g}")
        parts += [self.apart] if self.apart else []
        return " ".join([*parts, *([f"({self.experiment})"] if self.experiment else [])])

    @property
    def dose(self) -> float:
        """λ; sft-only is dose 0."""
        return self.arm.rho_weight or 0.0

    def column(self, behavior: str) -> Array:
        """The values of a behavior, NaN where a run lacks it."""
        return self.values[:, self.behaviors.index(behavior)]

    def sample(self, behavior: str) -> tuple[Array, tuple[int, ...], tuple[str, ...]]:
        """Values, seeds and runs that have the behavior."""
        return self._samples.get(behavior, (np.empty(0), (), ()))

    @cached_property
    def _samples(self) -> dict[str, tuple[Array, tuple[int, ...], tuple[str, ...]]]:
        there = ~np.isnan(self.values)
        if there.all():
            return {b: (self.values[:, k], self.seeds, self.runs) for k, b in enumerate(self.behaviors)}
        kept = [np.flatnonzero(column).tolist() for column in there.T]
        return {
            b: (self.values[rows, k], tuple(self.seeds[i] for i in rows), tuple(self.runs[i] for i in rows))
            for k, (b, rows) in enumerate(zip(self.behaviors, kept, strict=True))
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class Design:
    """Sheets of one model that agree in all settings: any two differ in condition, λ or γ."""

    model: str
    fingerprint: str
    sheets: tuple[Sheet, ...]

    @property
    def metric(self) -> str:
        return self.sheets[0].metric

    def ladders(self) -> list[list[Sheet]]:
        """Dose series of rho-guided sheets by γ, from λ = 0 (sft-only stands in for it); at least two doses."""
        guided: dict[float | None, dict[float, Sheet]] = defaultdict(dict)
        zero = None
        for sheet in self.sheets:
            if sheet.arm.condition == "rho-guided" and sheet.dose:
                guided[sheet.arm.margin].setdefault(sheet.dose, sheet)
            elif zero is None or sheet.arm.condition == "sft-only":
                zero = sheet if sheet.dose == 0 and sheet.arm.condition in ("sft-only", "rho-guided") else zero
        ladders = []
        for _, doses in sorted(guided.items(), key=lambda item: (item[0] is None, item[0] or 0.0)):
            start = [] if zero is None else [zero]
            ladder = [*start, *(doses[dose] for dose in sorted(doses))]
            if len(ladder) > 1:
                ladders.append(ladder)
        return ladders

    def ablations(self) -> list[list[Sheet]]:
        """Sheets of different conditions at one λ and γ (sft-only belongs to all); at least two conditions."""
        groups: dict[tuple[float | None, float | None], list[Sheet]] = defaultdict(list)
        plain = [sheet for sheet in self.sheets if sheet.arm.condition == "sft-only"]
        for sheet in self.sheets:
            if sheet.arm.condition != "sft-only" and sheet.dose:
                groups[sheet.arm.rho_weight, sheet.arm.margin].append(sheet)
        made = [[*plain[:1], *group] for group in groups.values()]
        return [group for group in made if len({sheet.arm.condition for sheet in group}) > 2]

    def pairs(self) -> list[tuple[Sheet, Sheet]]:
        """Sheets that differ in exactly one axis."""
        return [(a, b) for a, b in combinations(self.sheets, 2) if a.arm.differences(b.arm) == 1]


@dataclass(kw_only=True)
class Panel:
    """Everything the gate let through, and what it did."""

    designs: list[Design] = field(default_factory=list)
    sheets: list[Sheet] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    copies: list[tuple[str, str]] = field(default_factory=list)
    """Pairs of runs with exactly the same scores under the same identity."""


@dataclass(frozen=True, kw_only=True)
class _Run:
    uuid: str
    model: str
    fingerprint: str
    seed: int
    seed_known: bool
    experiment: str
    arm: Arm
    settings: tuple[tuple[str, str], ...]
    baseline: str | None
    baseline_settings: str
    scores: Mapping[str, tuple[float, float]]
    """Behavior -> (value, baseline value or NaN)."""


def panels(frame: "pd.DataFrame") -> Panel:
    """Sheets and designs of the alignment runs among admitted rows; one metric at a time, in the order of the rows."""
    whole = Panel()
    rows = frame[frame["kind"] == "alignment"]
    undeclared = _undeclared(rows)
    if undeclared:
        whole.messages.append(
            f"{len(undeclared)} runs do not say what their seed varies: their seeds are numbers only, and never paired"
        )
        rows = rows.assign(seed_known=rows["seed_known"].where(~rows["run"].isin(undeclared), 0))
    for (metric, split), part in rows.groupby(["metric", "split"], sort=True):
        buckets: dict[tuple[str, str], list[_Run]] = defaultdict(list)
        for run in _runs(part):
            buckets[run.model, run.fingerprint].append(run)
        weights = Counter(model for model, _ in buckets)
        for (model, fingerprint), bucket in buckets.items():
            usual = usual_settings([dict(settings) for _, settings in {(run.arm, run.settings) for run in bucket}])
            apart = _apart(bucket, usual, f"weights {fingerprint[:8]}" if weights[model] > 1 else "")
            if usual and (said := usual_text(bucket[0].model, usual)) not in whole.messages:
                whole.messages.append(said)
            for peers in _same_settings(bucket):
                _add_designs(whole, peers, str(metric), str(split), apart)
    return whole


def _apart(runs: Sequence[_Run], usual: Mapping[str, str], weights: str) -> dict[tuple[Any, ...], str]:
    """(arm, settings) -> what tells it from the same condition, λ and γ under other settings, for its label.

    Less the usual settings, which are said once for all; with `weights` where the model's key does not tell them.
    """
    arms: dict[Arm, set[tuple[tuple[str, str], ...]]] = defaultdict(set)
    for run in runs:
        arms[run.arm].add(run.settings)
    texts: dict[tuple[Any, ...], str] = {}
    for arm, variants in arms.items():
        plain = [dict(settings) for settings in variants]
        keys = sorted({key for settings in plain for key in settings})
        varying = [key for key in keys if len({settings.get(key) for settings in plain}) > 1]
        for settings in variants:
            known = dict(settings)
            told = [key for key in varying if key not in known or known[key] != usual.get(key)]
            parts = [f"{key}={short_setting(known.get(key, 'unset'))}" for key in told]
            texts[arm, settings] = " ".join([*parts, weights] if weights else parts)
    return texts


def _undeclared(rows: "pd.DataFrame") -> set[str]:
    """Runs whose seed has no stated meaning."""
    if not {"origin", "notes"} <= set(rows.columns):
        return set()
    heads = rows.drop_duplicates("run")
    stated = zip(heads["run"], heads["origin"], heads["notes"], strict=True)
    return {run for run, origin, notes in stated if seed_meaning(origin, notes) == UNDECLARED}


def _runs(part: "pd.DataFrame") -> list[_Run]:
    columns = ["run", "model", "model_fingerprint", "seed", "seed_known", "experiment", "config", "condition",
               "rho_weight", "margin", "baseline", "behavior", "value", "baseline_value",
               *(["baseline_settings"] if "baseline_settings" in part.columns else [])]  # fmt: skip
    heads: dict[str, tuple[Any, ...]] = {}
    scores: dict[str, dict[str, tuple[float, float]]] = defaultdict(dict)
    for row in zip(*(values_of(part[column]) for column in columns), strict=True):
        uuid, behavior, value, base = row[0], row[11], row[12], row[13]
        heads.setdefault(uuid, row)
        scores[uuid][behavior] = (value, np.nan if base is None else base)
    known: dict[str, tuple[tuple[str, str], ...]] = {}
    made = []
    for uuid, row in heads.items():
        config = row[6]
        if config not in known:
            known[config] = settings_of(json.loads(config), skip=ARM_KEYS | SEED_KEYS)
        margin = None if is_missing(row[9]) else float(row[9])
        weight = 0.0 if is_missing(row[8]) else float(row[8])
        made.append(
            _Run(
                uuid=uuid, model=row[1], fingerprint=row[2], seed=int(row[3]), seed_known=bool(row[4]),
                experiment=row[5] if isinstance(row[5], str) else "",
                arm=Arm.of(row[7], weight, margin), settings=known[config],
                baseline=row[10] if isinstance(row[10], str) else None, scores=scores[uuid],
                baseline_settings=f"{row[2]} {row[14]}" if len(row) > 14 else row[2],
            )
        )  # fmt: skip
    return made


def _same_settings(runs: Sequence[_Run]) -> list[list[_Run]]:
    """Runs that agree in every setting that all of them state."""
    distinct = {run.settings for run in runs}
    shared = set.intersection(*({key for key, _ in settings} for settings in distinct))
    keys = {s: tuple(value for key, value in s if key in shared) for s in distinct}
    groups: dict[tuple[str, ...], list[_Run]] = defaultdict(list)
    for run in runs:
        groups[keys[run.settings]].append(run)
    return list(groups.values())


def _add_designs(
    whole: Panel, runs: Sequence[_Run], metric: str, split: str, apart: Mapping[tuple[Any, ...], str]
) -> None:
    runs = _without_copies(runs, metric, whole)
    cells: dict[tuple[Any, ...], set[str]] = defaultdict(set)
    for run in runs:
        cells[run.settings, run.arm, run.seed].add(run.uuid)
    repeated = any(len(found) > 1 for found in cells.values())
    for name, members in _experiments(runs) if repeated else [("", list(runs))]:
        if repeated:
            whole.messages.append(f"{members[0].model}: runs of {name} are a stratum of their own (seeds repeat)")
        strata: dict[tuple[Any, ...], list[_Run]] = defaultdict(list)
        for run in members:
            strata[run.settings, run.arm].append(run)
        made = (_sheet(group, name, metric, split, whole) for group in strata.values())
        sheets = [replace(sheet, apart=apart[sheet.arm, sheet.settings]) for sheet in made if sheet]
        whole.sheets += sheets
        whole.designs += _designs(sheets)


def _without_copies(runs: Sequence[_Run], metric: str, whole: Panel) -> list[_Run]:
    """Runs of one arm whose scores agree to the last digit are one run, under whatever seeds they are stored."""
    seen: dict[tuple[Any, ...], _Run] = {}
    kept = []
    for run in runs:
        scores = tuple(sorted((b, v) for b, (v, _) in run.scores.items()))
        telling = metric in NATS and len(scores) > 1
        key = (run.settings, run.arm, None if telling else run.seed, scores)
        if key in seen:
            first = seen[key]
            seeds = "" if first.seed == run.seed else f" (seed {run.seed} and {first.seed})"
            whole.copies.append((run.uuid, first.uuid))
            whole.messages.append(f"run {run.uuid[:8]} copies {first.uuid[:8]}{seeds}: counted once")
        else:
            seen[key] = run
            kept.append(run)
    return kept


def _experiments(runs: Sequence[_Run]) -> list[tuple[str, list[_Run]]]:
    """Runs by experiment; experiments with the same arms and disjoint seeds are parts of one."""
    names = grouped({run.uuid: (run.experiment, run.arm, run.seed) for run in runs})
    parts: dict[str, list[_Run]] = defaultdict(list)
    for run in runs:
        parts[names[run.uuid]].append(run)
    return list(parts.items())


def _sheet(runs: Sequence[_Run], experiment: str, metric: str, split: str, whole: Panel) -> Sheet | None:
    by_seed: dict[int, list[_Run]] = defaultdict(list)
    for run in runs:
        by_seed[run.seed].append(run)
    twice = sorted(seed for seed, found in by_seed.items() if len(found) > 1)
    if twice:
        seeds = ", ".join(map(str, twice))
        whole.messages.append(
            f"{runs[0].model} {runs[0].arm.condition}: seeds {seeds} were measured more than once with different "
            "results and nothing tells the runs apart: left out"
        )
    kept = [found[0] for seed, found in sorted(by_seed.items()) if len(found) == 1]
    if not kept:
        return None
    behaviors = sorted({b for run in kept for b in run.scores}, key=lambda b: _RANK.get(b, 99))
    empty = (np.nan, np.nan)
    cube = np.array([[run.scores.get(b, empty) for b in behaviors] for run in kept], dtype=np.float64)
    values, baselines = cube[:, :, 0], cube[:, :, 1]
    delta = bool(np.isfinite(baselines[np.isfinite(values)]).any())
    return Sheet(
        model=kept[0].model, fingerprint=kept[0].fingerprint, arm=kept[0].arm, settings=kept[0].settings,
        experiment=experiment, metric=metric, split=split, quantity="delta" if delta else "value",
        seeds=tuple(run.seed for run in kept),
        seeds_known=all(run.seed_known for run in kept), behaviors=tuple(behaviors),
        values=values - baselines if delta else values, baselines=baselines,
        runs=tuple(run.uuid for run in kept), baseline_runs=tuple(run.baseline for run in kept),
        baseline_settings=tuple(run.baseline_settings for run in kept),
    )  # fmt: skip


def _designs(sheets: Sequence[Sheet]) -> list[Design]:
    """One design for each full configuration of the guided sheets, with what agrees with it from other conditions."""
    guided = [s for s in sheets if s.arm.condition == "rho-guided"] or list(sheets)
    designs = []
    for settings in dict.fromkeys(sheet.settings for sheet in guided):
        anchor = dict(settings)
        members = [
            sheet
            for sheet in sheets
            if sheet.settings == settings
            or (
                sheet.arm.condition != guided[0].arm.condition
                and all(anchor.get(key, value) == value for key, value in sheet.settings)
            )
        ]
        members.sort(key=lambda s: (s.arm.condition, s.dose, s.arm.margin or 0.0))
        first = sheets[0]
        designs.append(Design(model=first.model, fingerprint=first.fingerprint, sheets=tuple(members)))
    return designs
