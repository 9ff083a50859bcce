"""Does a behavior vary less over seeds than the others of its stratum, and is it at the end of its range?"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from analysis.anomalies.base import Data, Detector, about, named, sample_group, without
from analysis.anomalies.omitted import Omission, place_of, sentences
from analysis.design import Declared
from analysis.findings import Robustness
from analysis.looks import Look, group, interval_text, leaving_out, metric_unit
from analysis.needed import seeds_for_spread
from analysis.panel import Sheet
from analysis.stats.intervals import paired_sd_ratio_intervals, sd_ratio_interval
from analysis.stats.results import Array, Estimate, Test, no_estimate, no_test
from analysis.stats.spread import brown_forsythe, brown_forsythe_each, each_against_rest_each
from analysis.study import StudyOptions
from analysis.verdicts import p_text

BOUNDS = {"rho": (-1.0, 1.0), "truth_corr": (-1.0, 1.0), "auc": (0.0, 1.0), "pair_accuracy": (0.0, 1.0),
          "retention": (0.0, 1.0), "choice_accuracy": (0.0, 1.0), "answer_rate": (0.0, 1.0)}  # fmt: skip
"""Attainable range of a metric; a metric without one cannot have a ceiling."""
BOOTSTRAP_FROM = 20
"""Seeds from which the interval is bootstrapped; below, a percentile bootstrap covers far too little."""
DRAWS = 4_000
CEILING_SDS = 2.0


class VarianceCompression(Detector):
    """Spread over seeds by behavior, within one stratum."""

    name = "variance"
    question = "Do the behaviors of one stratum spread differently over seeds, and is one pressed against its bound?"
    stratum = "model, settings, condition, λ, γ constant; seeds replicate; behaviors are compared"
    design = Declared()
    test = "Brown-Forsythe test of each behavior against all others, smallest p times their number (Bonferroni)"
    null = "all behaviors have one variance over seeds, on the scale they are measured in"
    reference = "Brown & Forsythe 1974"

    def detect(self, data: Data, options: StudyOptions, rng: np.random.Generator) -> list[Look]:
        full = {sheet: self._full(sheet) for sheet in data.panel.sheets}
        cases = [_Case.of(sheet, samples) for sheet, samples in full.items() if len(samples) > 1]
        ratios = sd_ratios([case.extremes for case in cases], options.level, rng)
        against = one_against_rest_each([case.samples for case in cases])
        together = brown_forsythe_each([case.samples for case in cases])
        spreads = {
            case.sheet: self._spreads(case, *statistics)
            for case, statistics in zip(cases, zip(ratios, against, together, strict=True), strict=True)
        }
        looks = []
        for sheet, samples in full.items():
            looks += [spreads[sheet]] if sheet in spreads else []
            looks += [ceiling for behavior in samples if (ceiling := self._ceiling(sheet, behavior))]
        return looks

    def left_out(self, data: Data) -> list[str]:
        """Behaviors with too few values, and those without another one to be compared with."""
        told = []
        for sheet in data.panel.sheets:
            full, place = self._full(sheet), f"{place_of([sheet])}, {sheet.label}"
            told += [Omission(f"{place}: {b}", "it takes four seeds") for b in sheet.behaviors if b not in full]
            if len(full) == 1:
                told.append(Omission(f"{place}: {next(iter(full))}", "no other behavior to compare its spread with"))
        return sentences(self.name, told)

    @staticmethod
    def _full(sheet: Sheet) -> dict[str, Array]:
        """The samples with four values or more."""
        samples = {behavior: sheet.sample(behavior)[0] for behavior in sheet.behaviors}
        return {behavior: values for behavior, values in samples.items() if len(values) >= 4}

    def _spreads(self, case: "_Case", ratio: Estimate, against: Test, together: Test) -> Look:
        sheet, (least, least_sd), (most, most_sd) = case.sheet, case.least, case.most
        could = partial(spread_takes, len(case.behaviors), what="behavior", against_rest=True)
        return Look(
            detector=self.name,
            about=about(sheet, f"{least} / {most}"),
            what=f"{sheet.model}, {sheet.label}: {named(sheet, least)} spreads least over seeds (SD {least_sd:.3g}), "
            f"{most} most (SD {most_sd:.3g}); SD ratio {interval_text(ratio)}, on scales that may differ",
            effect=ratio,
            test=against,
            more=(together,),
            method=f"{self.method}; {ratio.method}",
            reference=self.reference,
            groups=tuple(sample_group(sheet, behavior, behavior) for behavior in case.behaviors),
            runs=sheet.runs,
            unit=metric_unit(sheet.metric, sheet.quantity)[1],
            leave=partial(spreads_without, sheet, case.behaviors, (most, least)),
            seeds_for=could,
            power_for=could,
        )

    def _ceiling(self, sheet: Sheet, behavior: str) -> Look | None:
        """A look only where the scores stand within two SDs of a bound: then the spread is the bound's doing."""
        bounds = BOUNDS.get(sheet.metric)
        if bounds is None:
            return None
        offset = sheet.baselines[:, sheet.behaviors.index(behavior)] if sheet.quantity == "delta" else 0.0
        scores = sheet.column(behavior) + offset
        scores = scores[np.isfinite(scores)]
        if len(scores) < 4:
            return None
        room = float(min(bounds[1] - scores.mean(), scores.mean() - bounds[0]))
        reach = float(np.ptp(scores))
        if room > CEILING_SDS * float(scores.std(ddof=1)) and room > 0.02 * (bounds[1] - bounds[0]):
            return None
        return Look(
            detector=self.name,
            about=about(sheet, behavior),
            what=f"{sheet.model}, {sheet.label}: {behavior} {sheet.metric} stands {room:.3g} from the end of its range "
            f"and moves over {reach:.3g} ({100 * reach / (bounds[1] - bounds[0]):.2g} % of the range)",
            effect=no_estimate("ok", "distance of the mean from the nearest bound", len(scores), value=room),
            test=no_test("not enough data", "none: a bound is a fact, not a sample", len(scores)),
            method=self.method,
            reference=self.reference,
            groups=(group(sheet.label, sheet.seeds[: len(scores)], scores),),
            runs=sheet.runs,
            fixed="artefact",
            why="the bound leaves it no room, so a small spread says nothing about the model",
        )


@dataclass(frozen=True, kw_only=True)
class _Case:
    """A sheet whose behaviors are compared."""

    sheet: Sheet
    behaviors: tuple[str, ...]
    samples: tuple[Array, ...]
    least: tuple[str, float]
    """The behavior of smallest SD, and its SD."""
    most: tuple[str, float]

    @classmethod
    def of(cls, sheet: Sheet, samples: Mapping[str, Array]) -> "_Case":
        sds = {behavior: sample_group(sheet, behavior, behavior).sd or 0.0 for behavior in samples}
        least, most = min(sds, key=sds.__getitem__), max(sds, key=sds.__getitem__)
        return cls(
            sheet=sheet, behaviors=tuple(samples), samples=tuple(samples.values()),
            least=(least, sds[least]), most=(most, sds[most]),
        )  # fmt: skip

    @property
    def extremes(self) -> "Extremes":
        (most, most_seeds, _), (least, least_seeds, _) = (self.sheet.sample(b) for b, _ in (self.most, self.least))
        return most, least, most_seeds == least_seeds


Extremes = tuple[Array, Array, bool]
"""Two samples, and whether they are of the same seeds."""


def spread_takes(groups: int, level: float, what: str, *, against_rest: bool = False) -> str:
    """How many seeds it takes to see a difference in spread that is worth seeing."""
    n = seeds_for_spread(groups, level, against_rest=against_rest)
    seeds = "hardly any number of seeds" if n is None else f"{n} seeds"
    shown = f"{seeds} would show one {what} of {groups} that spreads twice as far as the others"
    return f"{shown} (80 % power at p {p_text(level)})"


def spreads_without(sheet: Sheet, behaviors: Sequence[str], pair: tuple[str, str]) -> Robustness | None:
    """Ratio of the two SDs, and p of the most deviant behavior, without each seed."""

    def measure(seed: int) -> tuple[float | None, float | None]:
        rest = {behavior: without(sheet, behavior, seed) for behavior in behaviors}
        most, least = (float(rest[behavior].std(ddof=1)) for behavior in pair)
        return (least / most if most else None), one_against_rest(list(rest.values())).p

    return leaving_out(sheet.seeds, measure)


def one_against_rest(samples: Sequence[Array]) -> Test:
    """Does one sample spread differently from the others together? Smallest p times the number of samples."""
    return one_against_rest_each([samples])[0]


def one_against_rest_each(cases: Sequence[Sequence[Array]]) -> list[Test]:
    """`one_against_rest` of the samples of each case."""
    even = [place for place, samples in enumerate(cases) if len({len(sample) for sample in samples}) == 1]
    found = dict(zip(even, each_against_rest_each([np.array(cases[place]).T for place in even]), strict=True))
    return [found[place] if place in found else _uneven(samples) for place, samples in enumerate(cases)]


def _uneven(samples: Sequence[Array]) -> Test:
    """Of samples of different sizes."""
    centred = [sample - np.median(sample) for sample in samples]
    tests = [
        brown_forsythe([sample, np.concatenate([*centred[:i], *centred[i + 1 :]])]) for i, sample in enumerate(centred)
    ]
    known = [test for test in tests if test.p is not None]
    if not known:
        return tests[0]
    least = min(known, key=lambda test: test.p or 0.0)
    return replace(least, p=min(1.0, len(samples) * (least.p or 0.0)), method=f"{least.method}, one against the rest")


def sd_ratio(a: Array, b: Array, level: float, rng: np.random.Generator, *, same_seeds: bool) -> Estimate:
    """SD(b) / SD(a): exact intervals for few values, percentile bootstrap of seeds for many.

    Behaviors of the same runs are paired: their correlation narrows the interval, and seeds are resampled as a whole.
    """
    return sd_ratios([(a, b, same_seeds)], level, rng)[0]


def sd_ratios(pairs: Sequence[Extremes], level: float, rng: np.random.Generator) -> list[Estimate]:
    """`sd_ratio` of each pair; those of one size share the resampled seeds."""
    few = [place for place, (a, b, _) in enumerate(pairs) if min(len(a), len(b)) < BOOTSTRAP_FROM]
    paired = [place for place in few if pairs[place][2]]
    exact = paired_sd_ratio_intervals([pairs[place][:2] for place in paired], level=level)
    found = dict(zip(paired, exact, strict=True))
    for place in few:
        if place not in found:
            found[place] = sd_ratio_interval(*pairs[place][:2], level=level)
    sizes: dict[tuple[int, int, bool], list[int]] = defaultdict(list)
    for place, (a, b, same_seeds) in enumerate(pairs):
        if place not in found:
            sizes[len(a), len(b), same_seeds].append(place)
    for (n_a, n_b, same_seeds), places in sizes.items():
        first = resampled(n_a, rng)
        second = first if same_seeds else resampled(n_b, rng)
        for place in places:
            found[place] = _bootstrapped(*pairs[place][:2], (first, second), level)
    return [found[place] for place in range(len(pairs))]


def resampled(n: int, rng: np.random.Generator) -> Array:
    """How often each of n values is drawn in each of many bootstrap samples."""
    chosen = rng.integers(0, n, size=(DRAWS, n)) + n * np.arange(DRAWS)[:, None]
    return np.bincount(chosen.ravel(), minlength=n * DRAWS).reshape(DRAWS, n).astype(np.float64)


def _bootstrapped(a: Array, b: Array, counts: tuple[Array, Array], level: float) -> Estimate:
    """Percentile interval of the ratio of SDs; none where a bootstrap sample of the denominator does not vary."""
    squares = []
    for values, drawn in zip((a, b), counts, strict=True):
        centred = values - values.mean()
        sums = drawn @ centred
        squares.append(np.maximum(drawn @ centred**2 - sums**2 / len(values), 0.0) / (len(values) - 1))
    if squares[0].min() <= 1e-14 * float((a**2).max()):
        return no_estimate("degenerate", "bootstrap of the ratio of SDs", len(a) + len(b), level=level)
    low, high = np.quantile(np.sqrt(squares[1] / squares[0]), [(1 - level) / 2, (1 + level) / 2]).tolist()
    return Estimate(
        value=float(b.std(ddof=1) / a.std(ddof=1)), low=low, high=high, n=len(a) + len(b),
        method=f"ratio of SDs, percentile bootstrap of seeds ({DRAWS} draws)", level=level,
    )  # fmt: skip
