"""Do two behaviors rise and fall together over seeds, and does that change between two strata?"""

import math
from collections import defaultdict
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
from scipy import special

from analysis.anomalies.base import Data, Detector, about, sample_group
from analysis.anomalies.omitted import Omission, place_of, sentences
from analysis.design import Declared
from analysis.findings import Group, Robustness
from analysis.looks import Look, group, leaving_out
from analysis.needed import seeds_for_change, seeds_for_rho
from analysis.panel import Sheet
from analysis.stats.batches import QUICK
from analysis.stats.couplings import coupling_changes, many_spearman_pairs
from analysis.stats.results import Array, Estimate, Test, no_estimate
from analysis.strata import Held
from analysis.study import StudyOptions

MOST_SHOWN = 50
"""Seeds up to which a coupling carries its values: there are as many couplings as pairs of behaviors."""


class Coupling(Detector):
    """Rank correlation of two behaviors over the seeds of one stratum."""

    name = "coupling"
    question = "Do two behaviors trade off, or move together, over the seeds of one stratum?"
    stratum = "model, settings, condition, λ, γ constant; seeds replicate; both behaviors from the same runs"
    design = Declared()
    test = "Spearman's rho with exact permutation p (Monte Carlo above 8 seeds)"
    null = "within the stratum one behavior's values are exchangeable over seeds"
    reference = "Spearman 1904; Pitman 1937 (permutation test)"

    def detect(self, data: Data, options: StudyOptions, rng: np.random.Generator) -> list[Look]:
        sheets = [sheet for sheet in data.panel.sheets if len(sheet.seeds) > 2]
        found = many_spearman_pairs([sheet.values for sheet in sheets], rng)
        looks = []
        for sheet, tests in zip(sheets, found, strict=True):
            shown = self._samples(sheet)
            looks += [self._look(sheet, pair, test, shown, options, rng) for pair, test in tests.items()]
        return looks

    def left_out(self, data: Data) -> list[str]:
        """Strata of too few seeds."""
        few = [sheet for sheet in data.panel.sheets if len(sheet.seeds) <= 2]
        return sentences(
            self.name, [Omission(f"{place_of([sheet])}, {sheet.label}", "it takes three seeds") for sheet in few]
        )

    def _look(
        self,
        sheet: Sheet,
        pair: tuple[int, int],
        test: Test,
        shown: tuple[Group, ...],
        options: StudyOptions,
        rng: np.random.Generator,
    ) -> Look:
        i, j = pair
        a, b = sheet.behaviors[i], sheet.behaviors[j]
        word = "not told apart from unrelated"
        if test.statistic is not None:
            word = f"rho = {test.statistic:.2f}"
        return Look(
            detector=self.name,
            about=about(sheet, f"{a} ~ {b}"),
            what=f"{sheet.model}, {sheet.label}: {a} and {b} over seeds, {word}",
            effect=fisher_interval(test, options.level),
            test=test,
            method=f"{self.method}; {test.method}",
            reference=self.reference,
            groups=(shown[i], shown[j]) if shown else (),
            runs=sheet.runs,
            needed="" if test.floor is not None else "fewer than three seeds have both",
            leave=partial(rho_without, sheet, pair, rng),
            seeds_for=_rho_could,
        )

    @staticmethod
    def _samples(sheet: Sheet) -> tuple[Group, ...]:
        """The sample of every behavior; of very many seeds the runs in the evidence must do."""
        if len(sheet.seeds) > MOST_SHOWN:
            return ()
        return tuple(sample_group(sheet, name, name) for name in sheet.behaviors)


class CouplingChange(Detector):
    """Difference of a rank correlation between two strata."""

    name = "coupling-change"
    question = "Is the coupling of two behaviors another one at the next λ or γ?"
    stratum = "two strata of one model and settings that are neighbours in λ or in γ; seeds replicate"
    design = Declared(varies=frozenset({"rho_weight", "margin"}), most=1)
    test = "permutation test of the difference of Spearman's rho"
    null = "after centring and scaling each stratum, runs are exchangeable between the two"
    reference = "Pitman 1937"

    def detect(self, data: Data, options: StudyOptions, rng: np.random.Generator) -> list[Look]:
        cases = [case for a, b in neighbours(data.panel.sheets) if (case := _Case.of(a, b))]
        found = coupling_changes([case.groups for case in cases], rng)
        return [look for case, tests in zip(cases, found, strict=True) for look in self._looks(case, tests, rng)]

    def _looks(self, case: "_Case", tests: dict[tuple[int, int], Test], rng: np.random.Generator) -> list[Look]:
        a, b, shared = case.a, case.b, case.shared
        shown = case.samples()
        looks = []
        for (i, j), test in tests.items():
            change = "no difference can be formed" if test.statistic is None else f"rho changes by {test.statistic:.2f}"
            looks.append(
                Look(
                    detector=self.name,
                    about=about(a, f"{shared[i]} ~ {shared[j]}", f"{a.label} -> {b.label}"),
                    what=f"{a.model}: {shared[i]} and {shared[j]}, from {a.label} to {b.label} {change}",
                    effect=no_estimate("ok", "difference of Spearman's rho", test.n, value=test.statistic),
                    test=test,
                    method=f"{self.method}; {test.method}",
                    reference=self.reference,
                    groups=tuple(side[k] for side in shown for k in (i, j)),
                    runs=(*a.runs, *b.runs),
                    needed="" if test.floor is not None or test.p is not None else "both need four seeds or more",
                    leave=partial(change_without, case, (i, j), rng),
                    seeds_for=_change_could,
                )
            )
        return looks

    def left_out(self, data: Data) -> list[str]:
        """Neighbours that are not compared, and runs without all of the behaviors."""
        return sentences(self.name, [o for a, b in neighbours(data.panel.sheets) for o in _Case.omissions(a, b)])


@dataclass(frozen=True, kw_only=True)
class _Case:
    """Two strata side by side: the behaviors that both have, and the rows and seeds that have all of them."""

    a: Sheet
    b: Sheet
    shared: list[str]
    groups: tuple[Array, Array]
    seeds: list[Array]

    @classmethod
    def of(cls, a: Sheet, b: Sheet) -> "_Case | None":
        """None with fewer than two common behaviors or four whole rows."""
        shared = [name for name in a.behaviors if name in b.behaviors]
        if len(shared) < 2:
            return None
        tables = [np.column_stack([sheet.column(name) for name in shared]) for sheet in (a, b)]
        whole = [~np.isnan(values).any(axis=1) for values in tables]
        first, second = (values[keep] for values, keep in zip(tables, whole, strict=True))
        seeds = [np.array(sheet.seeds)[keep] for sheet, keep in zip((a, b), whole, strict=True)]
        if min(len(first), len(second)) < 4:
            return None
        return cls(a=a, b=b, shared=shared, groups=(first, second), seeds=seeds)

    @classmethod
    def omissions(cls, a: Sheet, b: Sheet) -> list[Omission]:
        """What of two neighbours the case does not hold."""
        what, case = f"{place_of([a, b])}, {a.label} -> {b.label}", cls.of(a, b)
        if case is None:
            return [Omission(what, "it takes two common behaviors, and four runs on each side that have all of them")]
        single = sorted(set(a.behaviors) ^ set(b.behaviors))
        lost = [sorted(set(s.seeds) - set(own.tolist())) for s, own in zip((a, b), case.seeds, strict=True)]
        told = [Omission(f"{what}: {', '.join(single)}", "only one side has them")] if single else []
        return told + [
            Omission(f"{what}: {sheet.label}, seeds {', '.join(map(str, seeds))}", "they lack a behavior")
            for sheet, seeds in zip((a, b), lost, strict=True)
            if seeds
        ]

    def samples(self) -> tuple[tuple[Group, ...], ...]:
        """Each behavior's values in the first and in the second stratum; none of very many seeds."""
        if max(len(own) for own in self.seeds) > MOST_SHOWN:
            return ()
        return tuple(
            tuple(
                sample_group(sheet, name, label) if len(own) == len(sheet.seeds) else group(label, own.tolist(), values)
                for name, values in zip(self.shared, rows.T, strict=True)
                for label in [f"{name}, {sheet.label}"]
            )
            for sheet, own, rows in zip((self.a, self.b), self.seeds, self.groups, strict=True)
        )


def _rho_could(level: float) -> str:
    return f"{seeds_for_rho(level)} seeds could"


def _change_could(level: float) -> str:
    return f"{seeds_for_change(level)} seeds in each of the two could"


def rho_without(sheet: Sheet, pair: tuple[int, int], rng: np.random.Generator) -> Robustness | None:
    """Spearman's rho of a pair of behaviors, and its p, without each seed."""
    seeds, values = np.array(sheet.seeds), sheet.values[:, list(pair)]
    found = many_spearman_pairs([values[seeds != seed] for seed in sheet.seeds], rng)
    tests = {seed: tests[0, 1] for seed, tests in zip(sheet.seeds, found, strict=True)}
    return leaving_out(sheet.seeds, lambda seed: (tests[seed].statistic, tests[seed].p))


def change_without(case: _Case, pair: tuple[int, int], rng: np.random.Generator) -> Robustness | None:
    """Change of a coupling, and its p, as each seed is left out of both strata."""
    seeds = sorted({int(seed) for own in case.seeds for seed in own})
    a, b = (values[:, list(pair)] for values in case.groups)
    rest = [(a[case.seeds[0] != seed], b[case.seeds[1] != seed]) for seed in seeds]
    tests = {seed: tests[0, 1] for seed, tests in zip(seeds, coupling_changes(rest, rng, stages=QUICK), strict=True)}
    return leaving_out(seeds, lambda seed: (tests[seed].statistic, tests[seed].p))


def neighbours(sheets: list[Sheet]) -> list[tuple[Sheet, Sheet]]:
    """Guided sheets of one model (key and weights) and settings next to each other in γ (same λ) or in λ (same γ).

    Of experiments told apart, each sheet has its neighbour among those that it may be compared with (`Held`).
    """
    lines: dict[tuple[object, ...], list[tuple[float, Sheet]]] = defaultdict(list)
    for sheet in sheets:
        arm = sheet.arm
        if arm.condition != "rho-guided" or not arm.rho_weight or arm.margin is None:
            continue
        place = (sheet.model, sheet.fingerprint, sheet.settings, sheet.metric, sheet.split)
        lines[(*place, "γ", arm.rho_weight)].append((arm.margin, sheet))
        lines[(*place, "λ", arm.margin)].append((arm.rho_weight, sheet))
    models: dict[tuple[str, str], list[Sheet]] = defaultdict(list)
    for sheet in sheets:
        models[sheet.model, sheet.fingerprint].append(sheet)
    held = {model: Held(members) for model, members in models.items()}
    found = []
    for line in lines.values():
        ordered = sorted(line, key=lambda item: item[0])
        for x, a in ordered:
            above = [(y, b) for y, b in ordered if y > x and held[a.model, a.fingerprint].allow(a, b)]
            found += [(a, b) for y, b in above if y == above[0][0]]
    return found


def fisher_interval(test: Test, level: float) -> Estimate:
    """Spearman's rho with an interval on Fisher's scale, variance 1.06 / (n - 3) (Fieller & Pearson 1961)."""
    method = "Spearman's rho, Fisher interval with variance 1.06 / (n - 3)"
    rho, n = test.statistic, test.n
    if rho is None or n < 5 or abs(rho) >= 1 - 1e-12:
        return no_estimate("ok" if rho is not None else test.status, method, n, value=rho, level=level)
    reach = _normal_quantile((1 + level) / 2) * math.sqrt(1.06 / (n - 3))
    low, high = (math.tanh(math.atanh(rho) + side * reach) for side in (-1, 1))
    return Estimate(value=rho, low=low, high=high, n=n, method=method, level=level)


@cache
def _normal_quantile(p: float) -> float:
    return float(special.ndtri(p))
