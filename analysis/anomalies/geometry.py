"""Which conditions move the behaviors to the same place?"""

import math
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from analysis.anomalies.base import Data, Detector
from analysis.design import Declared
from analysis.looks import Look, group, leaving_out
from analysis.panel import Sheet
from analysis.stats.permutation import MAX_EXACT, two_sample_floor
from analysis.stats.results import Array, Test, no_estimate, no_test
from analysis.study import StudyOptions

DRAWS = 9_999
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
        looks = []
        for design in data.panel.designs:
            for sheets in design.ablations():
                look = self._look(sheets, options, rng)
                looks += [look] if look else []
        return looks

    def _look(self, sheets: list[Sheet], options: StudyOptions, rng: np.random.Generator) -> Look | None:
        cloud = Cloud.of(sheets)
        if cloud is None or min(cloud.sizes.values()) < 2:
            return None
        raw, scaled = cloud.distances(standardised=False), cloud.distances(standardised=True)
        near_raw, near = min(raw, key=raw.__getitem__), min(scaled, key=scaled.__getitem__)
        share, loadings = principal(cloud.points)
        heavy = cloud.behaviors[int(np.abs(loadings[0]).argmax())]
        share_scaled, axes = principal(cloud.standardised)
        first = cloud.standardised @ axes[0]
        agree = "the same pair" if near == near_raw else f"raw distances say {' and '.join(near_raw)}"
        sheet = sheets[-1]
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
            test=pseudo_f(cloud.standardised, cloud.labels, rng),
            more=(pair_test(cloud, near, rng),),
            method=self.method,
            reference=self.reference,
            groups=tuple(
                group(f"PC1 {name}", range(size), first[np.array(cloud.labels) == name])
                for name, size in cloud.sizes.items()
            ),
            runs=tuple(cloud.runs),
            leave=lambda: leaving_out(cloud.seeds, lambda seed: cloud.without_seed(seed, near, rng)),
            notes=(
                "raw distances: " + _listed(raw),
                "standardised distances: " + _listed(scaled),
                "explained variance, raw: " + ", ".join(f"{x:.10g}" for x in share),
                "explained variance, standardised: " + ", ".join(f"{x:.10g}" for x in share_scaled),
                "first loadings, raw: "
                + ", ".join(f"{b} {x:.3f}" for b, x in zip(cloud.behaviors, loadings[0], strict=True)),
            ),
        )  # fmt: skip


def _listed(distances: dict[Pair, float]) -> str:
    return ", ".join(f"{'~'.join(pair)} {value:.10g}" for pair, value in sorted(distances.items()))


@dataclass(frozen=True, kw_only=True)
class Cloud:
    """Runs as points in the space of the behaviors that all of them have."""

    points: Array
    labels: tuple[str, ...]
    behaviors: tuple[str, ...]
    runs: tuple[str, ...]
    seeds: tuple[int, ...]

    @classmethod
    def of(cls, sheets: list[Sheet]) -> "Cloud | None":
        """None without at least two common behaviors that vary."""
        shared = [b for b in sheets[0].behaviors if all(b in s.behaviors for s in sheets)]
        shared = [b for b in shared if all(np.isfinite(s.column(b)).any() for s in sheets)]
        tables = [np.column_stack([s.column(b) for b in shared]) if shared else np.empty((0, 0)) for s in sheets]
        whole = [~np.isnan(table).any(axis=1) for table in tables]
        if len(shared) < 2 or not all(keep.any() for keep in whole):
            return None
        points = np.vstack([table[keep] for table, keep in zip(tables, whole, strict=True)])
        varying: list[bool] = [bool(np.ptp(column) > 0) for column in points.T]
        if sum(varying) < 2:
            return None
        marks = [
            (s.arm.condition, run, seed)
            for s, keep in zip(sheets, whole, strict=True)
            for run, seed, kept in zip(s.runs, s.seeds, list(np.atleast_1d(keep)), strict=True)
            if kept
        ]
        return cls(
            points=points[:, varying], labels=tuple(c for c, _, _ in marks), runs=tuple(r for _, r, _ in marks),
            seeds=tuple(s for _, _, s in marks),
            behaviors=tuple(b for b, keep in zip(shared, varying, strict=True) if keep),
        )  # fmt: skip

    @property
    def sizes(self) -> dict[str, int]:
        return {label: self.labels.count(label) for label in dict.fromkeys(self.labels)}

    @property
    def standardised(self) -> Array:
        """Each behavior divided by its SD over all runs (n - 1)."""
        return np.asarray((self.points - self.points.mean(axis=0)) / self.points.std(axis=0, ddof=1))

    def distances(self, *, standardised: bool) -> dict[Pair, float]:
        """Euclidean distances of the centroids, by pair in alphabetical order."""
        points, labels = self.standardised if standardised else self.points, np.array(self.labels)
        centroids = {label: points[labels == label].mean(axis=0) for label in sorted(set(self.labels))}
        return {(a, b): float(np.linalg.norm(centroids[a] - centroids[b])) for a, b in combinations(centroids, 2)}

    def without_seed(self, seed: int, pair: Pair, rng: np.random.Generator) -> tuple[float | None, float | None]:
        """Standardised distance of a pair, and p of the pseudo-F, without a seed."""
        keep = np.array(self.seeds) != seed
        labels = tuple(label for label, kept in zip(self.labels, keep.tolist(), strict=True) if kept)
        points = self.points[keep]
        if len(set(labels)) < len(set(self.labels)) or not np.ptp(points, axis=0).all():
            return None, None
        rest = replace(self, points=points, labels=labels)
        return (
            rest.distances(standardised=True)[pair],
            pseudo_f(rest.standardised, labels, rng, draws=DRAWS_LEFT_OUT).p,
        )


def principal(points: Array) -> tuple[Array, Array]:
    """Shares of variance and loadings (one a row) of the principal components."""
    _, singular, loadings = np.linalg.svd(points - points.mean(axis=0), full_matrices=False)
    power = singular**2
    return power / power.sum(), loadings


def pseudo_f(points: Array, labels: tuple[str, ...], rng: np.random.Generator, *, draws: int = DRAWS) -> Test:
    """Between over within sums of squared distances to centroids; random labellings and the observed one."""
    method = f"permutation test of the pseudo-F ({draws} random labellings)"
    names, codes = np.unique(labels, return_inverse=True)
    n, k = len(points), len(names)
    if k < 2 or n <= k:
        return no_test("not enough data", method, n)
    centred = points - points.mean(axis=0)
    orders = np.vstack([np.arange(n), rng.permuted(np.broadcast_to(np.arange(n), (draws, n)), axis=1)])
    onehot = (codes[orders][:, None, :] == np.arange(k)[:, None]).astype(np.float64)
    sums = onehot @ centred
    between = ((sums**2).sum(axis=2) / np.bincount(codes)).sum(axis=1)
    total = float((centred**2).sum())
    if total - between[0] <= 1e-12 * total:
        return no_test("degenerate", method, n)
    p = float(np.mean(between >= between[0] * (1 - 1e-12)))
    return Test(
        statistic=float(between[0] / (k - 1) / ((total - between[0]) / (n - k))), p=p, n=n, method=method,
        floor=1 / (draws + 1), p_error=math.sqrt(p * (1 - p) / draws),
    )  # fmt: skip


def pair_test(cloud: Cloud, pair: Pair, rng: np.random.Generator) -> Test:
    """Can the two conditions be told apart? Distance of their centroids under relabelling of their runs."""
    labels = np.array(cloud.labels)
    points = np.vstack([cloud.standardised[labels == name] for name in pair])
    n, k = len(points), int((labels == pair[0]).sum())
    method = f"permutation test of the distance of {' and '.join(pair)}"
    if math.comb(n, k) <= MAX_EXACT:
        chosen = np.array(list(combinations(range(n), k)))
    else:
        chosen = np.vstack([np.arange(k), rng.permuted(np.broadcast_to(np.arange(n), (DRAWS, n)), axis=1)[:, :k]])
    total = points.sum(axis=0)
    sums = points[chosen].sum(axis=1)
    null = np.linalg.norm(sums / k - (total - sums) / (n - k), axis=1)
    p = float(np.mean(null >= null[0] * (1 - 1e-10)))
    return Test(statistic=float(null[0]), p=p, n=n, method=method, floor=two_sample_floor(k, n - k))
