"""Does a behavior follow the dose λ, and are reversals of single seeds more than regression to the mean?"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np

from analysis.anomalies.base import (
    Data,
    Detector,
    SeedTable,
    about,
    all_seeds,
    dose_labels,
    named,
    row_groups,
    row_samples,
    seed_tables,
    without,
)
from analysis.anomalies.omitted import Omission, behaviors_of, place_of, sentences, unmatched_seeds
from analysis.design import Declared
from analysis.findings import Robustness
from analysis.looks import Look, interval_text, leaving_out, metric_unit
from analysis.needed import seeds_for_orders, seeds_for_trend
from analysis.panel import Sheet
from analysis.stats.batches import by_shape
from analysis.stats.intervals import welch_difference, welch_tests
from analysis.stats.permutation import two_sample_tests
from analysis.stats.results import Array, Estimate, Test
from analysis.stats.slopes import Line, fit_lines, slope_interval, slope_tests
from analysis.stats.trend import jonckheere_terpstra_each
from analysis.study import StudyOptions


class DoseTrend(Detector):
    """Rise or fall over λ at one γ."""

    name = "dose"
    question = "Does the behavior rise or fall with λ, and is its mean monotone?"
    stratum = "model, settings, γ constant; λ varies (sft-only is 0); seeds replicate"
    design = Declared(varies=frozenset({"rho_weight"}))
    test = "Jonckheere-Terpstra; exact permutation test where there are only two doses; isotonic fit"
    null = "the values have one distribution at all doses"
    reference = "Terpstra 1952, Jonckheere 1954; Barlow et al. 1972 (isotonic regression)"

    def detect(self, data: Data, options: StudyOptions, rng: np.random.Generator) -> list[Look]:
        ladders = [ladder for design in data.panel.designs for ladder in design.ladders()]
        cases = [case for ladder in ladders for b in behaviors_of(ladder) if (case := _Series.of(ladder, b))]
        rises = welch_tests([(case.samples[-1], case.samples[0]) for case in cases], level=options.level)
        trends = trend_tests([case.samples for case in cases], rng)
        return [
            self._look(case, rise.effect, trend, rng)
            for case, rise, trend in zip(cases, rises, trends, strict=True)
            if rise.effect is not None
        ]

    def left_out(self, data: Data) -> list[str]:
        """Behaviors and doses that no series holds."""
        ladders = [ladder for design in data.panel.designs for ladder in design.ladders()]
        return sentences(self.name, [o for ladder in ladders for o in _Series.omissions(ladder)])

    def _look(self, case: "_Series", rise: Estimate, test: Test, rng: np.random.Generator) -> Look:
        kept, behavior = case.sheets, case.behavior
        shown = row_samples(kept, behavior)
        unit = metric_unit(kept[0].metric, kept[0].quantity)[1]
        explained = monotone_share([group.mean or 0.0 for group in shown], [group.n for group in shown])
        return Look(
            detector=self.name,
            about=about(kept[0], behavior, stratum_of(kept)),
            what=f"{kept[0].model}: {named(kept[0], behavior)} moves by {interval_text(rise, unit)} from λ "
            f"{kept[0].dose:g} to {kept[-1].dose:g}; a monotone curve explains {100 * explained:.0f} % of the "
            f"variation of its {len(kept)} means",
            effect=rise,
            test=test,
            method=f"{self.method}; {test.method}; {rise.method}",
            reference=self.reference,
            groups=shown,
            runs=tuple(run for sheet in kept for run in sheet.sample(behavior)[2]),
            unit=unit,
            leave=partial(case.without_each_seed, rng),
            seeds_for=partial(trend_could, len(kept)),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Series:
    """The doses that have a behavior."""

    sheets: tuple[Sheet, ...]
    behavior: str

    @classmethod
    def of(cls, ladder: Sequence[Sheet], behavior: str) -> "_Series | None":
        """None without two values at each of two doses."""
        kept = tuple(sheet for sheet in ladder if len(sheet.sample(behavior)[0]))
        if len(kept) < 2 or min(len(sheet.sample(behavior)[0]) for sheet in kept) < 2:
            return None
        return cls(sheets=kept, behavior=behavior)

    @classmethod
    def omissions(cls, ladder: Sequence[Sheet]) -> list[Omission]:
        """Behaviors without a series, and doses that a behavior's series has to do without."""
        told = []
        for behavior in behaviors_of(ladder):
            what, series = f"{place_of(ladder)}, {stratum_of(ladder)}: {behavior}", cls.of(ladder, behavior)
            if series is None:
                few = [f"{s.dose:g}" for s in ladder if len(s.sample(behavior)[0]) < 2]
                told.append(
                    Omission(f"{what} (too few at λ = {', '.join(few)})", "it takes two values at each of its doses")
                )
            elif len(series.sheets) < len(ladder):
                lost = ", ".join(f"{sheet.dose:g}" for sheet in ladder if sheet not in series.sheets)
                told.append(Omission(f"{what} at λ = {lost}", "no run there has a value"))
        return told

    @property
    def samples(self) -> list[Array]:
        return [sheet.sample(self.behavior)[0] for sheet in self.sheets]

    def without_each_seed(self, rng: np.random.Generator) -> Robustness | None:
        """Rise over the doses, and p of the trend, without each seed."""

        def measure(seed: int) -> tuple[float | None, float | None]:
            rest = [without(sheet, self.behavior, seed) for sheet in self.sheets]
            if min(len(sample) for sample in rest) < 2:
                return None, None
            return welch_difference(rest[-1], rest[0]).value, trend_test(rest, rng).p

        return leaving_out(all_seeds(self.sheets), measure)


def trend_test(samples: Sequence[Array], rng: np.random.Generator) -> Test:
    """Jonckheere-Terpstra over three doses or more; of two, the difference of their means by permutation."""
    return trend_tests([samples], rng)[0]


def trend_tests(cases: Sequence[Sequence[Array]], rng: np.random.Generator) -> list[Test]:
    """`trend_test` of the samples of each case."""
    several = jonckheere_terpstra_each([samples for samples in cases if len(samples) > 2])
    two = two_sample_tests([(samples[1], samples[0]) for samples in cases if len(samples) == 2], rng)
    orders, shifts = iter(several), iter(two)
    return [next(orders if len(samples) > 2 else shifts) for samples in cases]


def trend_could(doses: int, level: float) -> str:
    """How many seeds a dose it takes for a trend to reach a level."""
    n = seeds_for_trend(doses, level)
    return "no number of seeds at two doses could, a third dose could" if n is None else f"{n} seeds a dose could"


class Reversal(Detector):
    """Steps of single seeds against the trend, set against regression to the mean."""

    name = "reversal"
    question = "Do seeds that start high fall at the first dose by more than regression to the mean predicts?"
    stratum = "one dose series; the same seeds at λ = 0 and at the next dose"
    design = Declared(varies=frozenset({"rho_weight"}), seeds="subjects")
    test = "exact permutation test of the slope of the next value on the start value against zero"
    null = "start and next value of a seed are independent: then the slope of the change on the start is -1"
    reference = "Galton 1886; Bland & Altman 1994"

    def detect(self, data: Data, options: StudyOptions, rng: np.random.Generator) -> list[Look]:
        ladders = [ladder for design in data.panel.designs for ladder in design.ladders() if len(ladder) >= 3]
        cases = [
            _Reversed(ladder=ladder, behavior=behavior, table=table, against=tuple(against))
            for ladder in ladders
            for behavior, table in seed_tables(ladder).items()
            if len(table.seeds) >= 4 and (against := against_trend(table))
        ]
        steps = [case.first_step for case in cases]
        found = zip(cases, fit_lines(steps), slope_tests(steps, rng), correlations(steps), strict=True)
        return [self._look(case, line, test, shared, options, rng) for case, line, test, shared in found]

    def left_out(self, data: Data) -> list[str]:
        """Series of two doses, and seeds that some dose lacks."""
        return sentences(self.name, short_and_unmatched(data, fewest=4))

    def _look(
        self,
        case: "_Reversed",
        line: Line | None,
        test: Test,
        correlation: float,
        options: StudyOptions,
        rng: np.random.Generator,
    ) -> Look:
        ladder, behavior, table = case.ladder, case.behavior, case.table
        predicted = line is None or test.p is None or test.p > options.alpha
        slope = 0.0 if line is None else line.slope
        names = ", ".join(map(str, case.against))
        return Look(
            detector=self.name,
            about=about(ladder[0], behavior, stratum_of(ladder)),
            what=f"{ladder[0].model}: {named(ladder[0], behavior)} steps against its trend in "
            f"{len(case.against)} of {len(table.seeds)} seeds ({names}); start and first change "
            f"correlate at {correlation:.2f}; the first change hangs on the start with slope {slope - 1:.2f}, "
            f"where -1 is what independent values give (the next value on the start: {slope:.2f})",
            effect=slope_interval(line, level=options.level),
            test=test,
            method=f"{self.method}; {test.method}",
            reference=self.reference,
            groups=row_groups(ladder, behavior, table, dose_labels(ladder)),
            runs=table.runs,
            unit=metric_unit(ladder[0].metric, ladder[0].quantity)[1],
            fixed="artefact" if predicted else None,
            counted=True,
            why=_explained(predicted, slope),
            leave=partial(slope_without_each, *case.first_step, table.seeds, rng),
            seeds_for=_orders_could,
        )


@dataclass(frozen=True, kw_only=True)
class _Reversed:
    """A dose series in which some seeds step against the trend."""

    ladder: Sequence[Sheet]
    behavior: str
    table: SeedTable
    against: tuple[int, ...]

    @property
    def first_step(self) -> tuple[Array, Array]:
        """Start and next value of each seed."""
        return self.table.values[0], self.table.values[1]


def against_trend(table: SeedTable) -> list[int]:
    """Seeds with a step against the trend of the mean from the first to the last dose; none without a trend."""
    trend = np.sign(table.values[-1].mean() - table.values[0].mean())
    falls = (np.diff(table.values, axis=0) * trend < 0).any(axis=0)
    return [seed for seed, fall in zip(table.seeds, falls.tolist(), strict=True) if fall]


def correlations(steps: Sequence[tuple[Array, Array]]) -> list[float]:
    """Pearson's correlation of start and change; 0 where one of them does not vary."""
    found: dict[int, float] = {}
    for places, both in by_shape([np.stack(step) for step in steps]):
        changes = np.stack([both[:, 0], both[:, 1] - both[:, 0]], axis=1)
        varies = np.ptp(changes, axis=2).all(axis=1)
        centred = changes - changes.mean(axis=2, keepdims=True)
        norm = np.sqrt((centred**2).sum(axis=2).prod(axis=1))
        shared = np.where(varies, (centred[:, 0] * centred[:, 1]).sum(axis=1) / np.where(varies, norm, 1.0), 0.0)
        found |= dict(zip(places, np.clip(shared, -1.0, 1.0).tolist(), strict=True))
    return [found[place] for place in range(len(steps))]


def slope_without_each(start: Array, after: Array, seeds: Sequence[int], rng: np.random.Generator) -> Robustness | None:
    """Slope of the next value on the start, and its p, without each seed."""
    rest = [(np.delete(start, k), np.delete(after, k)) for k in range(len(seeds))]
    lines, tests = fit_lines(rest), slope_tests(rest, rng)
    found = {
        seed: (None if line is None else line.slope, test.p)
        for seed, line, test in zip(seeds, lines, tests, strict=True)
    }
    return leaving_out(seeds, found.__getitem__)


def _orders_could(level: float) -> str:
    return f"{seeds_for_orders(level)} seeds could"


def _explained(predicted: bool, slope: float) -> str:
    if predicted:
        return "the start predicts nothing of what follows, so seeds that start high fall by regression to the mean"
    return "seeds keep their level" if slope > 0 else "seeds fall by more than regression to the mean predicts"


def short_and_unmatched(data: Data, fewest: int) -> list[Omission]:
    """Dose series that are too short to follow single seeds, and seeds that not all doses have."""
    told = []
    for ladder in (ladder for design in data.panel.designs for ladder in design.ladders()):
        if len(ladder) < 3:
            told.append(Omission(f"{place_of(ladder)}, {stratum_of(ladder)}", "it takes three doses"))
        else:
            told += unmatched_seeds(ladder, stratum_of(ladder), "doses", fewest)
    return told


def stratum_of(ladder: Sequence[Sheet]) -> str:
    """A dose series in words."""
    margins = {sheet.arm.margin for sheet in ladder if sheet.dose}
    gamma = ", ".join("unknown" if m is None else f"{m:g}" for m in margins)
    doses = ", ".join(f"{sheet.dose:g}" for sheet in ladder)
    experiment = f" ({ladder[-1].experiment})" if ladder[-1].experiment else ""
    apart = "".join(f" {word}" for word in dict.fromkeys(word for sheet in ladder for word in sheet.apart.split()))
    return f"λ = {doses} at γ={gamma}{apart}{experiment}"


def monotone_share(means: Sequence[float], weights: Sequence[float]) -> float:
    """Share of the variation of the means that the better of a rising and a falling curve explains."""
    fit, grand = isotonic(means, weights), sum(means) / len(means)
    ss = sum((mean - grand) ** 2 for mean in means)
    return 1.0 - sum((mean - at) ** 2 for mean, at in zip(means, fit, strict=True)) / ss if ss else 1.0


def isotonic(means: Sequence[float], weights: Sequence[float]) -> list[float]:
    """Monotone least-squares fit in the direction that fits better (pool adjacent violators)."""
    falling = [-x for x in _rising([-mean for mean in means], weights)]

    def miss(fit: list[float]) -> float:
        return sum(w * (mean - at) ** 2 for w, mean, at in zip(weights, means, fit, strict=True))

    return min(_rising(means, weights), falling, key=miss)


def _rising(means: Sequence[float], weights: Sequence[float]) -> list[float]:
    blocks: list[tuple[float, float, int]] = []  # mean, weight, length
    for mean, weight in zip(means, weights, strict=True):
        blocks.append((mean, weight, 1))
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (m, w, k), (n, v, j) = blocks.pop(-2), blocks.pop()
            blocks.append(((m * w + n * v) / (w + v), w + v, k + j))
    return [mean for mean, _, length in blocks for _ in range(length)]


def reversals(table: Array, doses: list[float], seeds: Sequence[int]) -> list[tuple[int, float, float, float]]:
    """Falling steps of a doses x seeds table: seed, dose before, dose after, change."""
    return [
        (seed, low, high, float(table[k + 1, j] - table[k, j]))
        for j, seed in enumerate(seeds)
        for k, (low, high) in enumerate(pairwise(doses))
        if table[k + 1, j] < table[k, j]
    ]
