"""Which conditions move the behaviors to the same place?"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import combinations, compress

import numpy as np
import numpy.typing as npt

from analysis.anomalies.base import Data, Detector
from analysis.anomalies.omitted import Omission, place_of, sentences
from analysis.design import Declared
from analysis.findings import Robustness
from analysis.looks import Look, group, leaving_out
from analysis.panel import Sheet
from analysis.stats.clouds import Grouped, centroids_apart, principal, pseudo_fs
from analysis.stats.results import Array, Test, no_estimate
from analysis.study import StudyOptions

DRAWS_LEFT_OUT = 999
"""Labellings as a seed is left out: five of them cost half of what the look costs."""
Pair = tuple[str, str]


class Geometry(Detector):
    """Distances between the centroids of the conditions."""

    name = "geometry"
    question = "Which two conditions lie closest, on raw and on standardised scales, and can they be told apart?"
    stratum = "model, settings, λ, γ constant; conditions vary; seeds replicate; a point is a run, an axis a behavior"
    design = Declared(varies=frozenset({"condition"}))
    test = "permutation test of the standardised distance of the closest pair; pseudo-F over all conditions"
    null = "the runs of the two (of all) conditions are exchangeable"
    reference = "Anderson 2001 (pseudo-F); Jolliffe 2002 (principal components)"

    def detect(self, data: Data, options: StudyOptions, rng: np.random.Generator) -> list[Look]:
        ablations = [sheets for design in data.panel.designs for sheets in design.ablations()]
        cases = [
            (sheets[-1], cloud)
            for sheets in ablations
            if (cloud := Cloud.of(sheets)) is not None and min(cloud.sizes.values()) > 1
        ]
        near = [closest(cloud.distances(standardised=True)) for _, cloud in cases]
        together = pseudo_fs([cloud.grouped for _, cloud in cases], rng)
        apart = centroids_apart([cloud.pair(pair) for (_, cloud), pair in zip(cases, near, strict=True)], rng)
        return [
            self._look(sheet, cloud, test, beside, rng)
            for (sheet, cloud), test, beside in zip(cases, together, apart, strict=True)
        ]

    def left_out(self, data: Data) -> list[str]:
        """Conditions that make no cloud, and runs and behaviors that a cloud does without."""
        ablations = [sheets for design in data.panel.designs for sheets in design.ablations()]
        return sentences(self.name, [o for sheets in ablations for o in Cloud.omissions(sheets)])

    def _look(self, sheet: Sheet, cloud: "Cloud", test: Test, beside: Test, rng: np.random.Generator) -> Look:
        raw, scaled = cloud.distances(standardised=False), cloud.distances(standardised=True)
        near_raw, near = closest(raw), closest(scaled)
        share, loadings = principal(cloud.points)
        heavy = cloud.behaviors[int(np.abs(loadings[0]).argmax())]
        share_scaled, axes = principal(cloud.standardised)
        first = cloud.standardised @ axes[0]
        agree = "the same pair" if near == near_raw else f"raw distances say {' and '.join(near_raw)}"
        return Look(
            detector=self.name,
            about={"model": sheet.model, "behavior": ", ".join(cloud.behaviors), "metric": sheet.metric,
                   "split": sheet.split, "quantity": sheet.quantity,
                   "stratum": f"conditions at {sheet.label.partition(' ')[2]}"},
            what=f"{sheet.model}: {' and '.join(near)} lie closest of {len(cloud.sizes)} conditions on standardised "
            f"scales ({scaled[near]:.2f}; {agree}, but those follow {heavy}, which bears the first component with "
            f"{100 * share[0]:.0f} % of the raw variance); the test asks whether all conditions are one cloud",
            effect=no_estimate("ok", "standardised distance of the closest centroids", len(cloud.points),
                               value=scaled[near]),
            test=test,
            more=(replace(beside, method=f"permutation test of the distance of {' and '.join(near)}"),),
            method=self.method,
            reference=self.reference,
            groups=tuple(
                group(f"PC1 {name}", range(size), first[cloud.codes == code])
                for code, (name, size) in enumerate(cloud.sizes.items())
            ),
            runs=cloud.runs,
            leave=partial(cloud.without_seeds, near, rng),
            notes=(
                "raw distances: " + _listed(raw),
                "standardised distances: " + _listed(scaled),
                "explained variance, raw: " + ", ".join(f"{x:.10g}" for x in share),
                "explained variance, standardised: " + ", ".join(f"{x:.10g}" for x in share_scaled),
                "first loadings, raw: "
                + ", ".join(f"{b} {x:.3f}" for b, x in zip(cloud.behaviors, loadings[0], strict=True)),
            ),
        )  # fmt: skip


def closest(distances: Mapping[Pair, float]) -> Pair:
    """The pair of smallest distance."""
    return min(distances, key=distances.__getitem__)


def _listed(distances: dict[Pair, float]) -> str:
    return ", ".join(f"{'~'.join(pair)} {value:.10g}" for pair, value in sorted(distances.items()))


@dataclass(frozen=True, kw_only=True, eq=False)
class Cloud:
    """Runs as points in the space of the behaviors that all of them have."""

    points: Array
    labels: tuple[str, ...]
    behaviors: tuple[str, ...]
    runs: tuple[str, ...]
    seeds: tuple[int, ...]

    @classmethod
    def of(cls, sheets: Sequence[Sheet]) -> "Cloud | None":
        """None without at least two common behaviors that vary."""
        shared = [b for b in sheets[0].behaviors if all(b in s.behaviors for s in sheets)]
        tables = [s.values[:, [s.behaviors.index(b) for b in shared]] for s in sheets]
        seen = np.logical_and.reduce([np.isfinite(table).any(axis=0) for table in tables]).tolist()
        shared, tables = list(compress(shared, seen)), [table[:, seen] for table in tables]
        whole = [np.atleast_1d(~np.isnan(table).any(axis=1)) for table in tables]
        if len(shared) < 2 or not all(keep.any() for keep in whole):
            return None
        points = np.vstack([table[keep] for table, keep in zip(tables, whole, strict=True)])
        varying: list[bool] = (np.ptp(points, axis=0) > 0).tolist()
        if sum(varying) < 2:
            return None
        marks = [
            (s.arm.condition, run, seed)
            for s, keep in zip(sheets, whole, strict=True)
            for run, seed, kept in zip(s.runs, s.seeds, keep.tolist(), strict=True)
            if kept
        ]
        labels, runs, seeds = zip(*marks, strict=True)
        return cls(
            points=points[:, varying], labels=labels, runs=runs, seeds=seeds,
            behaviors=tuple(compress(shared, varying)),
        )  # fmt: skip

    @classmethod
    def omissions(cls, sheets: Sequence[Sheet]) -> list[Omission]:
        """What of the sheets the cloud does not hold."""
        what, cloud = f"{place_of(sheets)}, conditions at {sheets[-1].label.partition(' ')[2]}", cls.of(sheets)
        if cloud is None or min(cloud.sizes.values()) < 2:
            why = "it takes two behaviors that vary, and two runs of each condition that have all behaviors"
            return [Omission(what, why)]
        others = sorted({b for sheet in sheets for b in sheet.behaviors} - set(cloud.behaviors))
        runs = [f"{s.arm.condition} seed {seed}" for s in sheets for run, seed in zip(s.runs, s.seeds, strict=True)
                if run not in cloud.runs]  # fmt: skip
        told = [Omission(f"{what}: {', '.join(others)}", "some condition lacks them, or they do not vary")]
        lost = [Omission(f"{what}: {', '.join(runs)}", "these runs lack a behavior")]
        return (told if others else []) + (lost if runs else [])

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Points of each condition."""
        return dict(Counter(self.labels))

    @cached_property
    def codes(self) -> npt.NDArray[np.int64]:
        """Number of each point's condition, in the order of `sizes`."""
        numbers = {label: code for code, label in enumerate(self.sizes)}
        return np.array([numbers[label] for label in self.labels])

    @cached_property
    def standardised(self) -> Array:
        """Each behavior divided by its SD over all runs (n - 1)."""
        return np.asarray((self.points - self.points.mean(axis=0)) / self.points.std(axis=0, ddof=1))

    @property
    def grouped(self) -> Grouped:
        """The standardised points by condition."""
        return Grouped(points=self.standardised, codes=tuple(self.codes.tolist()))

    def pair(self, pair: Pair) -> Grouped:
        """The standardised points of two conditions."""
        sides = [self.standardised[self.codes == list(self.sizes).index(name)] for name in pair]
        return Grouped(points=np.vstack(sides), codes=(0,) * len(sides[0]) + (1,) * len(sides[1]))

    def distances(self, *, standardised: bool) -> dict[Pair, float]:
        """Euclidean distances of the centroids, by pair in alphabetical order."""
        points = self.standardised if standardised else self.points
        centroids = {name: points[self.codes == code].mean(axis=0) for code, name in enumerate(self.sizes)}
        return {(a, b): math.dist(centroids[a], centroids[b]) for a, b in combinations(sorted(centroids), 2)}

    def without_seeds(self, pair: Pair, rng: np.random.Generator) -> Robustness | None:
        """Standardised distance of a pair, and p of the pseudo-F, without each seed."""
        seeds = list(dict.fromkeys(self.seeds))
        rest = {seed: cloud for seed in seeds if (cloud := self._without(seed)) is not None}
        tests = pseudo_fs([cloud.grouped for cloud in rest.values()], rng, draws=DRAWS_LEFT_OUT)
        found = {
            seed: (cloud.distances(standardised=True)[pair], test.p)
            for (seed, cloud), test in zip(rest.items(), tests, strict=True)
        }
        return leaving_out(seeds, lambda seed: found.get(seed, (None, None)))

    def _without(self, seed: int) -> "Cloud | None":
        """None where a condition is gone then, or a behavior does not vary."""
        kept = [other != seed for other in self.seeds]
        points, labels = self.points[kept], tuple(compress(self.labels, kept))
        if len(set(labels)) < len(self.sizes) or not np.ptp(points, axis=0).all():
            return None
        return Cloud(
            points=points, labels=labels, behaviors=self.behaviors, runs=tuple(compress(self.runs, kept)),
            seeds=tuple(compress(self.seeds, kept)),
        )  # fmt: skip
