"""The design gate: which runs replicate one another, which arms may be compared, what is refused.

A stratum is the set of runs that agree in everything but seed: kind, model (with fingerprint) and the whole
configuration, and, where seeds repeat with other results, experiment. Two strata are compared only if they differ in
exactly one of condition, λ and γ; arms of two experiments only where neither experiment has the other's arm itself
(`Held`). Series (dose ladders, ablations) are made within one experiment.
"""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import lru_cache
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Protocol

from rhodb.frames import values_of

if TYPE_CHECKING:
    import pandas as pd

ARM_KEYS = frozenset({"condition", "conditions", "rho_weight", "margin"})
"""Keys of a configuration that say which arm a run belongs to (its columns hold them, too)."""
SEED_KEYS = frozenset({"seed", "seeds"})


@dataclass(frozen=True, kw_only=True)
class Arm:
    """The axes on which comparisons are made. None: the axis has no effect in this arm."""

    condition: str
    rho_weight: float | None
    margin: float | None

    @classmethod
    def of(cls, condition: str, rho_weight: float, margin: float | None) -> "Arm":
        """An arm without a contrastive term has no λ (sft-only) and no γ (sft-only, or λ = 0)."""
        if condition == "sft-only":
            return cls(condition=condition, rho_weight=None, margin=None)
        return cls(condition=condition, rho_weight=rho_weight, margin=margin if rho_weight else None)

    def differences(self, other: "Arm") -> int:
        """On how many of the axes that apply to both the arms differ. An unknown γ differs from a known one."""
        weights_apply = self.rho_weight is not None and other.rho_weight is not None
        margins_apply = bool(self.rho_weight and other.rho_weight)
        return (
            (self.condition != other.condition)
            + (weights_apply and self.rho_weight != other.rho_weight)
            + (margins_apply and self.margin != other.margin)
        )


@dataclass(frozen=True, kw_only=True)
class Stratum:
    """Runs that agree in everything but seed. `settings` is the configuration without arm and seed."""

    kind: str
    model: str
    model_fingerprint: str
    arm: Arm
    settings: tuple[tuple[str, str], ...]
    """Flattened key and canonical JSON of the value, sorted; nulls left out, as they apply to nothing."""
    experiment: str = ""
    """Where seeds repeat with other results, so that experiments had to be told apart; else empty."""

    def mismatches(self, other: "Stratum") -> list[str]:
        """Settings that apply to both strata and differ."""
        mine, theirs = dict(self.settings), dict(other.settings)
        return sorted(key for key in mine.keys() & theirs.keys() if mine[key] != theirs[key])

    def one_sided(self, other: "Stratum") -> list[str]:
        """Settings that apply to only one of the two."""
        return sorted(dict(self.settings).keys() ^ dict(other.settings).keys())

    def comparable(self, other: "Stratum") -> bool:
        """Whether two strata of one model differ in exactly one axis, and in no setting that applies to both.

        A configuration states only what has an effect under its condition; so between different conditions
        a setting may be absent on one side, within one condition it may not.
        """
        if self.arm.differences(other.arm) != 1 or self.mismatches(other):
            return False
        return self.arm.condition != other.arm.condition or not self.one_sided(other)


@dataclass(kw_only=True)
class Cell:
    """The scores of one stratum for one behavior, metric and split, by seed, after the gate."""

    rows: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    conflict: str | None = None
    """Why the cell cannot be used; its rows are then not to be averaged."""


Look = tuple[str, str, str]
"""behavior, metric, split."""


class Placed(Protocol):
    """What an experiment holds, as far as comparisons ask: a stratum, or a sheet of the panel."""

    @property
    def arm(self) -> Arm: ...
    @property
    def settings(self) -> tuple[tuple[str, str], ...]: ...
    @property
    def experiment(self) -> str: ...


class Held:
    """Which experiment has which arm: the one rule for comparing strata of different experiments.

    An arm is set against the arms of its own experiment. Against those of another one it is set only where each of
    the two lacks the other's arm: a control that was run apart has nothing of its own to stand beside.
    """

    def __init__(self, strata: Iterable[Placed]) -> None:
        """`strata`: all of one model."""
        self._arms: dict[tuple[str, Arm], list[dict[str, str]]] = defaultdict(list)
        for stratum in strata:
            self._arms[stratum.experiment, stratum.arm].append(dict(stratum.settings))

    def allow(self, a: Placed, b: Placed) -> bool:
        """Whether their experiments let two strata be compared."""
        if a.experiment == b.experiment:
            return True
        return not self._has(a.experiment, b) and not self._has(b.experiment, a)

    def _has(self, experiment: str, wanted: Placed) -> bool:
        """Whether an experiment has an arm itself, under settings that contradict nothing."""
        asked = dict(wanted.settings)
        return any(
            all(asked.get(key, value) == value for key, value in own.items())
            for own in self._arms.get((experiment, wanted.arm), ())
        )


def gate(rows: Iterable[Mapping[str, Any]]) -> tuple[dict[Stratum, dict[Look, Cell]], list[str]]:
    """Sort rows into strata and cells; report what was dropped or refused, one sentence each."""
    strata: dict[Stratum, dict[Look, Cell]] = defaultdict(dict)
    known: dict[tuple[Any, ...], dict[Look, Cell]] = {}
    dropped: Counter[str] = Counter()
    for row in rows:
        if is_missing(row["value"]):
            dropped["missing value: row left out"] += 1
            continue
        identity = (*_identity(row), row.get(EXPERIMENT))
        if identity not in known:
            known[identity] = strata[stratum_of(row)]
        look = (row["behavior"], row["metric"], row["split"])
        cells = known[identity]
        if look not in cells:
            cells[look] = Cell()
        _add(cells[look], row, dropped)
    messages = [f"{reason} ({count}x)" for reason, count in dropped.items()]
    for found in strata.values():
        for cell in found.values():
            _check_probes(cell)
    return dict(strata), messages


EXPERIMENT = "experiment apart"
"""Key of a row where experiments had to be told apart."""

_identity = itemgetter("kind", "model", "model_fingerprint", "config", "condition", "rho_weight", "margin")


def _add(cell: Cell, row: Mapping[str, Any], dropped: Counter[str]) -> None:
    """One value a seed: an exact copy is dropped, two different values for one seed spoil the cell."""
    present = cell.rows.get(row["seed"])
    if present is None:
        cell.rows[row["seed"]] = row
    elif present["value"] == row["value"]:
        dropped[f"run {row['run'][:8]} copies {present['run'][:8]}: counted once"] += 1
    else:
        cell.conflict = f"seed {row['seed']} was measured twice with different results"


def _check_probes(cell: Cell) -> None:
    sizes = sorted({row["n"] for row in cell.rows.values()})
    if len(sizes) > 1 and cell.conflict is None:
        cell.conflict = f"its runs were scored on different numbers of probes ({', '.join(map(str, sizes))})"


def records(frame: "pd.DataFrame") -> list[Mapping[str, Any]]:
    """The rows of a frame. pandas' own `itertuples` takes ten times as long over columns of texts."""
    names = list(frame.columns)
    columns = [values_of(frame[name]) for name in names]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def is_missing(value: float | None) -> bool:
    """SQL's NULL, which pandas turns into NaN in a column of numbers."""
    return value is None or math.isnan(value)


def stratum_of(row: Mapping[str, Any]) -> Stratum:
    """The stratum of a row: its configuration's JSON without seed and arm, null values left out."""
    margin = None if is_missing(row["margin"]) else float(row["margin"])
    return Stratum(
        kind=row["kind"],
        model=row["model"],
        model_fingerprint=row["model_fingerprint"],
        arm=Arm.of(row["condition"], float(row["rho_weight"]), margin),
        settings=_own_settings(row["config"]),
        experiment=row.get(EXPERIMENT) or "",
    )


@lru_cache(maxsize=1 << 16)
def _own_settings(config: str) -> tuple[tuple[str, str], ...]:
    """Of a configuration's JSON, without seed and arm. Kept, as every study asks for them."""
    return settings_of(json.loads(config), skip=ARM_KEYS | SEED_KEYS)


def settings_of(config: Mapping[str, Any], *, skip: Set[str]) -> tuple[tuple[str, str], ...]:
    """Flattened keys and canonical JSON of the values, sorted; nulls and the keys in `skip` are left out.

    So are checkpoints: scores taken on the way change nothing about the end.
    """
    left = skip | {"checkpoints"}
    return tuple(sorted((key, value) for key, value in _flatten(config) if key.rpartition(".")[2] not in left))


def _flatten(value: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    for key, item in value.items():
        if isinstance(item, Mapping):
            yield from _flatten(item, f"{prefix}{key}.")
        elif item is not None:
            yield prefix + key, json.dumps(item, sort_keys=True, ensure_ascii=False)


def comparable_pairs(strata: Sequence[Stratum]) -> list[tuple[Stratum, Stratum]]:
    """All pairs that may be compared, each once: first the stronger intervention, then what it is set against."""
    models: dict[tuple[str, ...], list[Stratum]] = defaultdict(list)
    for stratum in sorted(strata, key=_strength):
        models[stratum.kind, stratum.model, stratum.model_fingerprint].append(stratum)
    held = {key: Held(bucket) for key, bucket in models.items()}
    return [
        (later, earlier)
        for key, bucket in models.items()
        for peers in _same_settings(bucket)
        for i, later in enumerate(peers)
        for earlier in peers[:i]
        if later.comparable(earlier) and held[key].allow(later, earlier)
    ]


def _same_settings(strata: Sequence[Stratum]) -> Iterable[list[Stratum]]:
    """Strata that agree in every setting that all of them have: pairs from two such groups never compare."""
    shared = set.intersection(*({key for key, _ in stratum.settings} for stratum in strata))
    groups: dict[tuple[str, ...], list[Stratum]] = defaultdict(list)
    for stratum in strata:
        groups[tuple(value for key, value in stratum.settings if key in shared)].append(stratum)
    return groups.values()


def _strength(stratum: Stratum) -> tuple[int, float, float, tuple[tuple[str, str], ...]]:
    arm = stratum.arm
    return (
        _ORDER.index(arm.condition),
        arm.rho_weight or 0.0,
        arm.margin or 0.0,
        (*stratum.settings, ("", stratum.experiment)),
    )


_ORDER = ("sft-only", "shuffled-pairs", "contrastive-only", "rho-guided")
"""From control to full method: differences are later minus earlier."""


def labels(strata: Sequence[Stratum]) -> dict[Stratum, str]:
    """Short names: the condition, with λ, γ and any setting only where strata of a model differ in them.

    A setting that most strata share is said by `unsaid`, not by each label.
    """
    return {stratum: name for peers in _by_model(strata) for stratum, name in _labels_of(peers).items()}


def unsaid(strata: Sequence[Stratum]) -> list[str]:
    """What the labels of each model leave out, one sentence a model."""
    found = ((peers[0].model, usual_settings([dict(s.settings) for s in peers])) for peers in _by_model(strata))
    return [usual_text(model, usual) for model, usual in found if usual]


def usual_settings(configs: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Of the settings in which configurations differ, the value that more than half of all have."""
    values: dict[str, Counter[str]] = defaultdict(Counter)
    for config in configs:
        for key, value in config.items():
            values[key][value] += 1
    most = {key: counts.most_common(1)[0] for key, counts in values.items() if len(counts) > 1}
    return {key: value for key, (value, count) in sorted(most.items()) if 2 * count > len(configs)}


def usual_text(model: str, usual: Mapping[str, str]) -> str:
    """Where labels leave settings out, the sentence that says them once."""
    listed = ", ".join(f"{key}={short_setting(value)}" for key, value in usual.items())
    return f"{model}: where a label does not say otherwise, {listed}"


def _by_model(strata: Sequence[Stratum]) -> Iterable[list[Stratum]]:
    models: dict[tuple[str, str], list[Stratum]] = defaultdict(list)
    for stratum in strata:
        models[stratum.kind, stratum.model].append(stratum)
    return models.values()


def _labels_of(peers: Sequence[Stratum]) -> dict[Stratum, str]:
    weights, margins = defaultdict(set), defaultdict(set)
    for stratum in peers:
        weights[stratum.arm.condition].add(stratum.arm.rho_weight)
        margins[stratum.arm.condition].add(stratum.arm.margin)
    varying = _varying_settings(peers)
    usual = usual_settings([dict(stratum.settings) for stratum in peers])
    many_models = len({stratum.model_fingerprint for stratum in peers}) > 1
    names = {}
    for stratum in peers:
        arm, config = stratum.arm, dict(stratum.settings)
        parts = [arm.condition]
        if len(weights[arm.condition]) > 1:
            parts.append(f"λ={arm.rho_weight:g}")
        if len(margins[arm.condition]) > 1 and arm.rho_weight:
            parts.append("γ=unknown" if arm.margin is None else f"γ={arm.margin:g}")
        shown = sorted(varying["any"] & config.keys() | varying[arm.condition])
        told = (key for key in shown if key not in config or config[key] != usual.get(key))
        parts += [f"{key}={short_setting(config.get(key, 'unset'))}" for key in told]
        parts += [f"({stratum.experiment})"] if stratum.experiment else []
        if many_models:
            parts.append(f"weights {stratum.model_fingerprint[:8]}")
        names[stratum] = " ".join(parts)
    return names


def _varying_settings(peers: Sequence[Stratum]) -> dict[str, set[str]]:
    """Settings with several values among all ("any"), and those that within a condition vary or may be absent."""
    values: dict[tuple[str, str], set[str]] = defaultdict(set)
    present: Counter[tuple[str, str]] = Counter()
    sizes = Counter(stratum.arm.condition for stratum in peers)
    for stratum in peers:
        for key, value in stratum.settings:
            values["any", key].add(value)
            values[stratum.arm.condition, key].add(value)
            present[stratum.arm.condition, key] += 1
    varying: dict[str, set[str]] = defaultdict(set)
    for (group, key), found in values.items():
        if len(found) > 1 or (group != "any" and present[group, key] < sizes[group]):
            varying[group].add(key)
    return varying


def short_setting(value: str) -> str:
    """A setting's value fit for a label; fingerprints are cut to eight characters."""
    plain = value.strip('"')
    return plain if len(plain) <= 20 else plain[:8] + "…"
