"""Does a behavior vary less over seeds than the others of its stratum, and is it at the end of its range?"""

from dataclasses import replace

import numpy as np

from analysis.anomalies.base import Data, Detector, about, named, without
from analysis.design import Declared
from analysis.looks import Look, group, interval_text, leaving_out, metric_unit
from analysis.needed import seeds_for_spread
from analysis.panel import Sheet
from analysis.stats.intervals import paired_sd_ratio_interval, sd_ratio_interval
from analysis.stats.results import Array, Estimate, Test, no_estimate, no_test
from analysis.stats.spread import brown_forsythe, each_against_rest
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
        looks = []
        for sheet in data.panel.sheets:
            samples = {b: sheet.sample(b) for b in sheet.behaviors}
            full = {b: found for b, found in samples.items() if len(found[0]) >= 4}
            if len(full) > 1:
                looks.append(self._spreads(sheet, full, options, rng))
            looks += [ceiling for b in full if (ceiling := self._ceiling(sheet, b))]
        return looks

    def _spreads(
        self,
        sheet: Sheet,
        samples: dict[str, tuple[Array, tuple[int, ...], tuple[str, ...]]],
        options: StudyOptions,
        rng: np.random.Generator,
    ) -> Look:
        sds = {b: float(values.std(ddof=1)) for b, (values, _, _) in samples.items()}
        least, most = min(sds, key=sds.__getitem__), max(sds, key=sds.__getitem__)
        paired = samples[most][1] == samples[least][1]
        ratio = sd_ratio(samples[most][0], samples[least][0], options.level, rng, same_seeds=paired)
        return Look(
            detector=self.name,
            about=about(sheet, f"{least} / {most}"),
            what=f"{sheet.model}, {sheet.label}: {named(sheet, least)} spreads least over seeds (SD {sds[least]:.3g}), "
            f"{most} most (SD {sds[most]:.3g}); SD ratio {interval_text(ratio)}, on scales that may differ",
            effect=ratio,
            test=one_against_rest([values for values, _, _ in samples.values()]),
            more=(brown_forsythe([values for values, _, _ in samples.values()]),),
            method=f"{self.method}; {ratio.method}",
            reference=self.reference,
            groups=tuple(group(b, seeds, values) for b, (values, seeds, _) in samples.items()),
            runs=sheet.runs,
            unit=metric_unit(sheet.metric, sheet.quantity)[1],
            leave=lambda: leaving_out(
                sheet.seeds, lambda seed: spread_without(sheet, list(samples), (most, least), seed)
            ),
            seeds_for=lambda level: spread_takes(len(samples), level, "behavior", against_rest=True),
            power_for=lambda level: spread_takes(len(samples), level, "behavior", against_rest=True),
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


def spread_takes(groups: int, level: float, what: str, *, against_rest: bool = False) -> str:
    """How many seeds it takes to see a difference in spread that is worth seeing."""
    n = seeds_for_spread(groups, level, against_rest=against_rest)
    seeds = "hardly any number of seeds" if n is None else f"{n} seeds"
    shown = f"{seeds} would show one {what} of {groups} that spreads twice as far as the others"
    return f"{shown} (80 % power at p {p_text(level)})"


def spread_without(
    sheet: Sheet, behaviors: list[str], pair: tuple[str, str], seed: int
) -> tuple[float | None, float | None]:
    """Ratio of the two SDs, and p of the most deviant behavior, without a seed."""
    rest = {behavior: without(sheet, behavior, seed) for behavior in behaviors}
    most, least = (float(rest[behavior].std(ddof=1)) for behavior in pair)
    return (least / most if most else None), one_against_rest(list(rest.values())).p


def one_against_rest(samples: list[Array]) -> Test:
    """Does one sample spread differently from the others together? Smallest p times the number of samples."""
    if len({len(sample) for sample in samples}) == 1:
        return each_against_rest(np.column_stack(samples))
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
    if min(len(a), len(b)) < BOOTSTRAP_FROM:
        return (paired_sd_ratio_interval if same_seeds else sd_ratio_interval)(a, b, level=level)
    first = rng.integers(0, len(a), size=(DRAWS, len(a)))
    second = first if same_seeds else rng.integers(0, len(b), size=(DRAWS, len(b)))
    spreads = [sample[chosen].std(axis=1, ddof=1) for sample, chosen in ((a, first), (b, second))]
    if not spreads[0].all() or a.std() == 0:
        return no_estimate("degenerate", "bootstrap of the ratio of SDs", len(a) + len(b), level=level)
    ratios = spreads[1] / spreads[0]
    low, high = np.quantile(ratios, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(
        value=float(b.std(ddof=1) / a.std(ddof=1)), low=float(low), high=float(high), n=len(a) + len(b),
        method=f"ratio of SDs, percentile bootstrap of seeds ({DRAWS} draws)", level=level,
    )  # fmt: skip
