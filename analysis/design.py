"""Declared designs and the gate that holds looks to them.

A study or detector declares which axes vary inside one look and what replicates what; every other axis and every
setting must then be constant. The gate compares the runs of each look with that declaration, whatever code chose them:
a look that breaks it is refused with a reason, never averaged.
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeVar

from analysis.strata import ARM_KEYS, SEED_KEYS, Arm, is_missing, settings_of
from rhodb.frames import values_of

if TYPE_CHECKING:
    import pandas as pd

Axis = Literal[
    "model", "condition", "rho_weight", "margin", "layer", "alpha", "control", "steered_behavior", "compress_ratio",
    "freeze_ratio", "sae_layer", "seed_meaning", "settings", "probes",
]  # fmt: skip
AXES: Final[tuple[Axis, ...]] = (
    "model", "condition", "rho_weight", "margin", "layer", "alpha", "control", "steered_behavior", "compress_ratio",
    "freeze_ratio", "sae_layer", "seed_meaning", "settings", "probes",
)  # fmt: skip
WORDS: Final[dict[str, str]] = {
    "rho_weight": "λ", "margin": "γ", "alpha": "α", "control": "random vector", "steered_behavior": "steered behavior",
    "compress_ratio": "compress ratio", "freeze_ratio": "freeze ratio",
    "sae_layer": "SAE layer", "seed_meaning": "meaning of the seed",
}  # fmt: skip
AXIS_KEYS: Final[dict[str, frozenset[str]]] = {
    "compress_ratio": frozenset({"compress_ratio", "ratio", "ratios"}),
    "freeze_ratio": frozenset({"freeze_ratio", "freeze_fraction"}),
    "sae_layer": frozenset({"sae_layer", "sae_layers"}),
    "layer": frozenset({"layer", "layers", "depth"}),
    "alpha": frozenset({"alpha", "alphas"}),
    "control": frozenset({"control", "controls"}),
    "steered_behavior": frozenset({"steered_behavior", "behavior"}),
}
"""Keys of a configuration that state the same as an axis."""
SeedsAre = Literal["replicates", "subjects", "blocks"]
"""Whether values of one seed are set against each other is part of a look's design, never chosen by a look at the data.

- replicates: strata are compared as independent samples. If seeds carry an effect of their own such a test errs less
  often than it says, not more.
- subjects: the question is about single seeds (do they keep their level, differ in slope?). The test's own null is that
  they do not, so there is nothing to check first.
- blocks: the seeds' own effect is taken out before another question is asked. Where the intraclass correlation of the
  seeds shows none, the look has to hold without blocks as well, and its p is the larger of the two.

A pre-test that picked the test would break the error level. With five seeds and no effect of theirs, taking the paired
t test where the F test of the correlation has p <= .05 and else Welch's errs in 5.6 % instead of 5 % (1.3 % instead of
1 %), and the paired tests so picked in 30 %. The gate only ever raises a p that was fixed beforehand, so it cannot.
"""
SEEDS_ARE: Final[dict[SeedsAre, str]] = {
    "replicates": "strata are compared unpaired",
    "subjects": "the question is about single seeds",
    "blocks": "seeds are blocks; where they carry no effect the look has to hold without blocks as well",
}
EVERYTHING: Final = "everything random"
"""What the seed of rhodb's own training runs varies."""
UNDECLARED: Final = "undeclared"


@dataclass(frozen=True, kw_only=True)
class Declared:
    """What may differ among the runs of one look; everything else must agree."""

    varies: frozenset[Axis] = frozenset()
    most: int | None = None
    """On how many of these axes the runs of one look may differ at once; None: on all."""
    replicates: str = "seed"
    """What tells replicates of one cell apart: at most one run for each of its values."""
    seeds: SeedsAre = "replicates"
    """What seeds are to the question: see `SeedsAre`."""

    @property
    def constant(self) -> tuple[Axis, ...]:
        """The axes that must not vary."""
        return tuple(axis for axis in AXES if axis not in self.varies)

    def __str__(self) -> str:
        varies = ", ".join(WORDS.get(axis, axis) for axis in AXES if axis in self.varies) or "nothing"
        most = "" if self.most is None else f" (on {self.most} of them at once)"
        constant = ", ".join(WORDS.get(axis, axis) for axis in self.constant)
        seeds = SEEDS_ARE[self.seeds]
        return f"varies: {varies}{most}; constant: {constant}; replicates: {self.replicates}; {seeds}"


class Looked(Protocol):
    """A look, as far as the gate is concerned."""

    @property
    def about(self) -> Mapping[str, str]: ...
    @property
    def runs(self) -> Sequence[str]: ...


L = TypeVar("L", bound=Looked)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Axes:
    """Where one run stands. None: the axis does not apply."""

    places: Mapping[Axis, Hashable]
    settings: tuple[tuple[str, str], ...]
    seed: int
    probes: tuple[tuple[str, int], ...]


class Gate:
    """Knows the axes of every run of a frame (rows of anomalies.sql or effects.sql)."""

    def __init__(self, frame: "pd.DataFrame") -> None:
        self._runs = _axes_of(frame)
        self._known: dict[tuple[Declared, tuple[str, ...], frozenset[str]], str | None] = {}
        self._probes_vary = any(run.probes for run in self._runs.values())

    def refusal(self, declared: Declared, runs: Sequence[str], behaviors: Iterable[str] = ()) -> str | None:
        """Why these runs do not make a group of the declared kind; None if they do. Unknown runs (baselines) pass."""
        key = (declared, tuple(runs), frozenset(behaviors) if self._probes_vary else frozenset())
        if key not in self._known:
            self._known[key] = self._refusal(declared, key[1], key[2])
        return self._known[key]

    def enforce(self, declared: Declared, looks: Sequence[L]) -> tuple[list[L], Counter[str]]:
        """The looks that hold to the declaration, and how often the others were refused for which reason."""
        kept, refused = [], Counter[str]()
        for look in looks:
            why = self.refusal(declared, look.runs, re.findall(r"[a-z]+", look.about.get("behavior", "")))
            if why is None:
                kept.append(look)
            else:
                refused[why] += 1
        return kept, refused

    def _refusal(self, declared: Declared, runs: tuple[str, ...], behaviors: frozenset[str]) -> str | None:
        found = [self._runs[run] for run in dict.fromkeys(runs) if run in self._runs]
        doses = "rho_weight" in declared.varies
        places = [_without_dose_zero(run.places) if doses else run.places for run in found]
        columns = zip(*(map(place.get, AXES) for place in places), strict=True)
        varying = [axis for axis, column in zip(AXES, columns, strict=False) if len({*column} - {None}) > 1]
        wrong = [axis for axis in varying if axis not in declared.varies]
        if wrong:
            return f"its runs differ in {_and(wrong)}"
        if declared.most is not None and len(varying) > declared.most:
            return f"its runs differ in {_and(varying)} at once"
        if "settings" not in declared.varies and (keys := _mismatches(found)):
            return f"its runs differ in settings: {', '.join(keys)}"
        if "probes" not in declared.varies and (why := _probe_mismatch(found, behaviors)):
            return why
        own = [axis for axis in AXES if axis in declared.varies]
        cells = Counter((tuple(map(p.get, own)), run.seed) for p, run in zip(places, found, strict=True))
        twice = sorted({seed for (_, seed), count in cells.items() if count > 1})
        if twice and declared.replicates == "seed":
            return f"seed {', '.join(map(str, twice[:4]))} is present several times in one cell"
        return None


def _axes_of(frame: "pd.DataFrame") -> dict[str, _Axes]:
    there = [axis for axis in AXES if axis in frame.columns and axis not in ("model", "settings", "probes")]
    columns = ["run", "model", "model_fingerprint", "seed", "config", *there]
    optional = [name for name in ("origin", "notes") if name in frame.columns]
    heads = frame.drop_duplicates("run")
    shared = [name for name in [*columns, *optional] if name not in ("run", "seed")]
    probes = _probe_counts(frame)
    known: dict[tuple[object, ...], tuple[Mapping[Axis, Hashable], tuple[tuple[str, str], ...]]] = {}
    made = {}
    rows = zip(*(_plain_column(heads, name) for name in shared), strict=True)
    for run, seed, row in zip(values_of(heads["run"]), heads["seed"].tolist(), rows, strict=True):
        if row not in known:  # the runs of a stratum stand in one place
            known[row] = _place(dict(zip(shared, row, strict=True)), there)
        places, settings = known[row]
        made[run] = _Axes(places=places, settings=settings, seed=int(seed), probes=probes.get(run, ()))
    return made


def _plain_column(frame: "pd.DataFrame", name: str) -> list[Any]:
    """The values of a column; None where one is missing (no NaN equals another)."""
    return [None if not isinstance(value, str) and is_missing(value) else value for value in values_of(frame[name])]


def _place(
    head: Mapping[str, Any], there: Sequence[Axis]
) -> tuple[Mapping[Axis, Hashable], tuple[tuple[str, str], ...]]:
    """Where a run with these columns stands on each axis, and its settings."""
    own = ARM_KEYS | SEED_KEYS
    skip = own if isinstance(head.get("condition"), str) else own | frozenset().union(*AXIS_KEYS.values())
    places: dict[Axis, Hashable] = {axis: head[axis] for axis in there}
    places["model"] = (head["model"], head["model_fingerprint"])
    places["seed_meaning"] = seed_meaning(head.get("origin"), head.get("notes"))
    if isinstance(places.get("condition"), str):
        places |= _arm_places(head)
    return places, settings_of(json.loads(head["config"]), skip=skip)


def _arm_places(head: Mapping[str, object]) -> dict[Axis, Hashable]:
    weight, margin = (head.get(key) for key in ("rho_weight", "margin"))
    arm = Arm.of(
        str(head["condition"]),
        float(weight) if isinstance(weight, float | int) else 0.0,
        float(margin) if isinstance(margin, float | int) else None,
    )
    # With a hinge, a margin that nobody recorded is a place of its own.
    unknown = bool(arm.rho_weight) and arm.margin is None
    return {
        "condition": arm.condition, "rho_weight": arm.rho_weight, "margin": "unknown" if unknown else arm.margin
    }  # fmt: skip


def _without_dose_zero(places: Mapping[Axis, Hashable]) -> Mapping[Axis, Hashable]:
    """sft-only is dose 0 of every condition."""
    if places.get("condition") != "sft-only":
        return places
    return {**places, "condition": None, "rho_weight": 0.0}


@cache
def seed_meaning(origin: object, notes: object) -> str:
    """What the seed of a run varies, as declared; rhodb's own runners draw everything random from it."""
    stated = json.loads(notes).get("seed_semantics") if isinstance(notes, str) else None
    if isinstance(stated, str):
        return stated.partition(":")[0]
    return UNDECLARED if origin == "legacy" else EVERYTHING


def _and(axes: Sequence[Axis]) -> str:
    return " and ".join(WORDS.get(axis, axis) for axis in axes)


def _mismatches(runs: Sequence[_Axes]) -> list[str]:
    """Settings with two values; within one condition also those that only some runs state."""
    if len({run.settings for run in runs}) < 2:
        return []
    values: dict[str, set[str]] = defaultdict(set)
    conditions: dict[Hashable, list[frozenset[str]]] = defaultdict(list)
    for run in runs:
        for key, value in run.settings:
            values[key].add(value)
        stated = frozenset(key for key, _ in run.settings)
        conditions[run.places.get("condition"), run.places.get("rho_weight") in (None, 0.0)].append(stated)
    apart = {key for key, found in values.items() if len(found) > 1}
    for group in conditions.values():
        apart |= frozenset().union(*group) - frozenset.intersection(*group)
    return sorted(apart)


def _probe_counts(frame: "pd.DataFrame") -> dict[str, tuple[tuple[str, int], ...]]:
    """Run -> probes behind each of its scores; empty where no score has two sizes."""
    if "n" not in frame.columns:
        return {}
    known = frame[frame["n"].notna()]
    if (known.groupby(["behavior", "metric", "split"])["n"].nunique() <= 1).all():
        return {}
    found: dict[str, list[tuple[str, int]]] = defaultdict(list)
    names = (known["behavior"] + "/" + known["metric"] + "/" + known["split"]).tolist()
    for run, name, n in zip(values_of(known["run"]), names, known["n"].tolist(), strict=True):
        found[run].append((name, int(n)))
    return {run: tuple(sorted(set(sizes))) for run, sizes in found.items()}


def _probe_mismatch(runs: Sequence[_Axes], behaviors: frozenset[str]) -> str | None:
    sizes: dict[str, set[int]] = defaultdict(set)
    for run in runs:
        for name, n in run.probes:
            if not behaviors or name.partition("/")[0] in behaviors:
                sizes[name].add(n)
    for name, found in sorted(sizes.items()):
        if len(found) > 1:
            behavior = name.partition("/")[0]
            return f"{behavior} was scored on different numbers of probes ({', '.join(map(str, sorted(found)))})"
    return None
