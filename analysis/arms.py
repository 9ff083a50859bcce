"""Cells of a (γ, λ) grid for one behavior: mean and spread of Δ over seeds, from published figures or from runs."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.answers import PublishedTable
from analysis.experiments import by_experiment
from analysis.memo import of_last_frame
from analysis.strata import Cell, Held, Stratum, gate, is_missing, records
from rhodb.vocabulary import BEHAVIORS

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class Arm:
    """Δ of one behavior at one (γ, λ), nats/token for metric gap."""

    behavior: str
    gamma: float
    """At λ = 0 the margin has no effect; it is then that of the sweep."""
    weight: float
    mean: float
    sd: float | None
    """Standard deviation over seeds, divisor n - 1."""
    n: int
    values: Mapping[int, float] | None
    """By seed; None where only mean and SD are public."""
    inputs: tuple[str, ...]
    baseline: float | None = None
    """Score before training, where known."""

    @property
    def se(self) -> float | None:
        return None if self.sd is None else self.sd / math.sqrt(self.n)

    def sample(self) -> list[float]:
        """Its values; where they are not public, values with its n, mean and SD: all that a t test sees of them."""
        if self.values is not None:
            return list(self.values.values())
        shape = np.arange(self.n, dtype=np.float64)
        spread = float(shape.std(ddof=1)) if self.n > 1 else 1.0
        return list(self.mean + (self.sd or 0.0) * (shape - shape.mean()) / spread)

    def plain(self) -> dict[str, Any]:
        """As an input of an answer."""
        return {
            "behavior": self.behavior, "gamma": self.gamma, "rho_weight": self.weight, "mean": self.mean,
            "sd": self.sd, "n": self.n, "seeds": dict(self.values) if self.values else None,
            "inputs": list(self.inputs),
        }  # fmt: skip


def sample_sd(values: Sequence[float]) -> float | None:
    """Standard deviation with divisor n - 1; None for fewer than two values."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def from_published(table: PublishedTable, series: str) -> list[Arm]:
    """The arms of a series: keys `arm/SERIES/γ/λ/BEHAVIOR/{mean,sd,popsd,seed-N}`; popsd has divisor n."""
    cells: dict[tuple[str, str, str], dict[str, str]] = defaultdict(dict)
    for key in table.rows:
        parts = key.split("/")
        if parts[:2] == ["arm", series]:
            cells[parts[2], parts[3], parts[4]][parts[5]] = key
    return [_published_arm(table, *cell, keys) for cell, keys in cells.items()]


def _published_arm(table: PublishedTable, gamma: str, weight: str, behavior: str, keys: Mapping[str, str]) -> Arm:
    seeds = {int(s.removeprefix("seed-")): table.value(key) for s, key in keys.items() if s.startswith("seed-")}
    known: dict[str, Any] = {"behavior": behavior, "gamma": float(gamma), "weight": float(weight)}
    inputs = tuple(keys.values())
    if seeds:
        values = list(seeds.values())
        return Arm(
            **known, mean=float(np.mean(values)), sd=sample_sd(values), n=len(values), values=seeds, inputs=inputs
        )
    n = int(table.rows[keys["mean"]]["n"] or 1)
    sd = None
    if "sd" in keys:
        sd = table.value(keys["sd"])
    elif "popsd" in keys and n > 1:
        sd = table.value(keys["popsd"]) * math.sqrt(n / (n - 1))
    return Arm(**known, mean=table.value(keys["mean"]), sd=sd, n=n, values=None, inputs=inputs)


def one(arms: Iterable[Arm], *, gamma: float, weight: float, behavior: str) -> Arm | None:
    """The arm at a place of the grid, or None."""
    for arm in arms:
        if arm.behavior == behavior and arm.weight == weight and (arm.gamma == gamma or weight == 0):
            return arm
    return None


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The arms of one model and one configuration, whatever γ, λ and seed."""

    model: str
    arms: tuple[Arm, ...]
    messages: tuple[str, ...]

    def behaviors(self) -> list[str]:
        found = {arm.behavior for arm in self.arms}
        return [behavior for behavior in BEHAVIORS if behavior in found]

    def margins(self, weight: float) -> list[float]:
        return sorted({arm.gamma for arm in self.arms if arm.weight == weight})

    def weights(self) -> list[float]:
        return sorted({arm.weight for arm in self.arms})

    def at(self, *, weight: float, behavior: str) -> list[Arm]:
        """The γ sweep of a behavior at one λ, by γ."""
        found = [arm for arm in self.arms if arm.weight == weight and arm.behavior == behavior]
        return sorted(found, key=lambda arm: arm.gamma)


@of_last_frame  # a study asks whether there is a grid before it computes with it
def from_runs(frame: "pd.DataFrame") -> Grid | None:
    """The richest grid among finished rho-guided runs (sft-only stands in for λ = 0); None without any.

    Runs are sorted by the design gate (`analysis.strata`): only runs that agree in model and all settings but
    λ, γ and seed share a grid; cells with contradicting copies or without a baseline are left out and named. Where
    seeds repeat with other results the grid is that of the richest experiment, with those that share no arm with it.
    """
    rows, messages = by_experiment(records(frame))
    strata, more = gate(rows)
    messages += more
    guided = [stratum for stratum in strata if stratum.arm.condition == "rho-guided"]
    groups: dict[tuple[Any, ...], list[Stratum]] = defaultdict(list)
    for stratum in guided:
        groups[stratum.kind, stratum.model, stratum.model_fingerprint, stratum.settings].append(stratum)
    if not groups:
        return None
    composed = {key: _composed(found) for key, found in groups.items()}
    best, left_out = max(composed.values(), key=lambda found: _richness(found[0]))
    messages += _borrowed(best, left_out)
    if len(groups) > 1:
        messages.append(
            f"{len(groups)} groups of runs differ in model or settings; the one with most margins and doses is used "
            f"({len(best)} strata of {best[0].model}): choose another with --model or --where"
        )
    used = list(dict.fromkeys(stratum.experiment for stratum in best))
    plain = [s for s in strata if s.arm.condition == "sft-only" and _same_training(s, best[0])]
    plain = next((own for name in used if (own := [s for s in plain if s.experiment == name])), plain)
    if len(plain) > 1:
        messages.append(f"{len(plain)} different sft-only strata could stand for λ = 0: none is used; narrow --where")
        plain = []
    default = max((s.arm.margin for s in best if s.arm.margin is not None), default=0.0)
    arms = [
        arm
        for stratum in [*plain, *best]
        for look, cell in strata[stratum].items()
        if (arm := _run_arm(stratum, look[0], cell, default, messages)) is not None
    ]
    return Grid(model=best[0].model, arms=tuple(_without_twins(arms, messages)), messages=tuple(messages))


def _composed(strata: Sequence[Stratum]) -> tuple[list[Stratum], list[Stratum]]:
    """The strata of the richest experiment and of those that share no arm with what is taken; and the others."""
    parts: dict[str, list[Stratum]] = defaultdict(list)
    for stratum in strata:
        parts[stratum.experiment].append(stratum)
    taken: list[Stratum] = []
    left: list[Stratum] = []
    for part in sorted(parts.values(), key=_richness, reverse=True):
        held = Held([*taken, *part])
        fits = all(held.allow(a, b) and a.arm != b.arm for a in taken for b in part)
        (taken if fits else left).extend(part)
    return taken, left


def _borrowed(taken: Sequence[Stratum], left: Sequence[Stratum]) -> list[str]:
    """Which experiments a grid is made of, and which were left out because they measured the same arms again."""
    used, others = (list(dict.fromkeys(s.experiment for s in part if s.experiment)) for part in (taken, left))
    told = []
    if len(used) > 1:
        told.append(f"arms of {' and of '.join(used)} stand in one grid: neither has the other's")
    if others:
        told.append(f"left out, as the same arms were measured there again: {', '.join(others)}")
    return told


def _richness(strata: Sequence[Stratum]) -> tuple[int, int]:
    margins: dict[float | None, set[float | None]] = defaultdict(set)
    for stratum in strata:
        margins[stratum.arm.rho_weight].add(stratum.arm.margin)
    return max(len(found) for found in margins.values()), len(strata)


def _same_training(plain: Stratum, guided: Stratum) -> bool:
    same_model = (plain.kind, plain.model_fingerprint) == (guided.kind, guided.model_fingerprint)
    return same_model and not plain.mismatches(guided)


def _run_arm(stratum: Stratum, behavior: str, cell: Cell, default_margin: float, messages: list[str]) -> Arm | None:
    weight = stratum.arm.rho_weight or 0.0
    gamma = stratum.arm.margin if weight else default_margin
    where = f"{behavior} at λ {weight:g}, γ {gamma if gamma is not None else 'unknown'}"
    if gamma is None or cell.conflict:
        messages.append(f"{where} is left out: {cell.conflict or 'its margin is not known'}")
        return None
    kept = {seed: row for seed, row in sorted(cell.rows.items()) if not is_missing(row["delta"])}
    if len(kept) < len(cell.rows):
        messages.append(f"{where}: {len(cell.rows) - len(kept)} runs have no baseline score, so no Δ: left out")
    if not kept:
        return None
    values = {int(seed): float(row["delta"]) for seed, row in kept.items()}
    baselines = [float(row["baseline_value"]) for row in kept.values()]
    return Arm(
        behavior=behavior, gamma=gamma, weight=weight, mean=float(np.mean(list(values.values()))),
        sd=sample_sd(list(values.values())), n=len(values), values=values,
        inputs=tuple(row["run"] for row in kept.values()), baseline=float(np.mean(baselines)),
    )  # fmt: skip


def _without_twins(arms: Sequence[Arm], messages: list[str]) -> list[Arm]:
    """sft-only and rho-guided with λ 0 are the same training: only the first is kept."""
    kept: dict[tuple[str, float, float], Arm] = {}
    for arm in arms:
        place = (arm.behavior, arm.weight, arm.gamma)
        if place in kept:
            messages.append(f"{arm.behavior} at λ {arm.weight:g} was measured under two conditions; sft-only is used")
        else:
            kept[place] = arm
    return list(kept.values())
