"""Studies that summarise: condition means, dose-response, spread over seeds. Built from the panel and the detectors."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy import special

from analysis.anomalies.base import Data, Detector, about, all_seeds, named, without
from analysis.anomalies.dose import DoseTrend, Reversal, stratum_of
from analysis.anomalies.responder import Responder
from analysis.anomalies.study import caption, data_of, family_query, held_to
from analysis.anomalies.transfer import Transfer
from analysis.anomalies.variance import spread_takes
from analysis.design import Declared
from analysis.findings import Result, Robustness
from analysis.looks import Look, group, interval_text, judged, leaving_out, metric_unit
from analysis.memo import of_last_frame
from analysis.panel import Sheet
from analysis.query import Query
from analysis.stats.intervals import mean_interval, sd_interval, sd_ratio_interval
from analysis.stats.permutation import sign_flip_test
from analysis.stats.results import Array, Test, is_constant, no_test
from analysis.stats.spread import brown_forsythe
from analysis.study import Study, StudyOptions

if TYPE_CHECKING:
    import pandas as pd


DESIGNS: Final = {
    "condition mean": Declared(),
    "spread over seeds": Declared(varies=frozenset({"rho_weight"})),
} | {detector.name: detector.design for detector in (DoseTrend, Reversal, Responder, Transfer)}
"""What may differ among the runs of a look, by its detector."""


class _Summary(Study):
    """What these studies share: query, gate, correction."""

    def query(self, options: StudyOptions) -> Query:
        return family_query(options)

    def compute(self, frame: "pd.DataFrame", options: StudyOptions, rng: np.random.Generator) -> Result:
        data = _alignment(frame)
        looks, refused = held_to(data.gate, DESIGNS, self.looks(data, options, rng))
        query = self.query(options)
        findings, count = judged(looks, options, query)
        empty = (
            () if findings else (f"no alignment runs fit: metric {', '.join(options.metrics)}, split {options.split}",)
        )
        return Result(
            study=self.name,
            options=asdict(options),
            findings=findings,
            looks=count,
            messages=(*dict.fromkeys([*data.panel.messages, *refused]), *empty),
            query=query,
            caption=caption(options, count, len({finding.about["detector"] for finding in findings})),
        )

    def looks(self, data: Data, options: StudyOptions, rng: np.random.Generator) -> list[Look]:
        raise NotImplementedError


@of_last_frame  # a report asks these studies one after another about the same rows
def _alignment(frame: "pd.DataFrame") -> Data:
    """The panel of the alignment runs; the anomalies' own where there are no others."""
    own = frame["kind"] == "alignment"
    return data_of(frame if own.all() else frame[own])


class Ablation(_Summary):
    """Mean change per condition and behavior over seeds, with intervals."""

    name = "ablation"

    def looks(self, data: Data, options: StudyOptions, rng: np.random.Generator) -> list[Look]:
        return [
            _mean_look(sheet, behavior, options, rng)
            for sheet in data.panel.sheets
            for behavior in sheet.behaviors
            if len(sheet.sample(behavior)[0])
        ]


def _mean_look(sheet: Sheet, behavior: str, options: StudyOptions, rng: np.random.Generator) -> Look:
    values, seeds, runs = sheet.sample(behavior)
    mean = mean_interval(values, level=options.level)
    unit = metric_unit(sheet.metric, sheet.quantity)[1]
    return Look(
        detector="condition mean",
        about=about(sheet, behavior),
        what=f"{sheet.model}, {sheet.label}: {named(sheet, behavior)} {interval_text(mean, unit)}",
        effect=mean,
        test=zero_mean_test(values),
        more=(sign_flip_test(values, rng),),
        method="mean over seeds against 0 (the untouched model), Student's t; sign-flip permutation test beside it",
        reference="Student 1908; Fisher 1935",
        groups=(group(sheet.label, seeds, values),),
        runs=runs,
        unit=unit,
        needed="at least two seeds that differ are needed for an interval",
        leave=lambda: _mean_left_out(values, seeds),
    )


def _mean_left_out(values: Array, seeds: Sequence[int]) -> Robustness | None:
    """Mean and `zero_mean_test` without each seed, all at once."""
    n = len(values)
    if n < 3:
        return None
    left = np.broadcast_to(values, (n, n))[~np.eye(n, dtype=bool)].reshape(n, n - 1)
    if any(is_constant(row) for row in left):
        return None
    means = left.mean(axis=1)
    p = 2 * special.stdtr(n - 2, -np.abs(means / (left.std(axis=1, ddof=1) / np.sqrt(n - 1))))
    worst = int(p.argmax())
    return Robustness(
        lowest=float(means.min()), highest=float(means.max()), largest_p=float(p[worst]), seed_of_largest_p=seeds[worst]
    )  # fmt: skip


def zero_mean_test(values: Array) -> Test:
    """One-sample t test of a zero mean."""
    n, method = len(values), "one-sample t test of a zero mean"
    if n < 2:
        return no_test("not enough data", method, n)
    if is_constant(values):
        return no_test("degenerate", method, n)
    t = float(values.mean() / (values.std(ddof=1) / np.sqrt(n)))
    return Test(statistic=t, p=float(2 * special.stdtr(n - 1, -abs(t))), n=n, method=method)


class DoseResponse(_Summary):
    """How behaviors follow λ: trends, reversals of single seeds, seeds and models compared."""

    name = "dose-response"

    def __init__(self, detectors: Sequence[Detector] | None = None) -> None:
        self.detectors = (DoseTrend(), Reversal(), Responder(), Transfer()) if detectors is None else detectors

    def looks(self, data: Data, options: StudyOptions, rng: np.random.Generator) -> list[Look]:
        return [look for detector in self.detectors for look in detector.detect(data, options, rng)]


class Variance(_Summary):
    """Standard deviation over seeds by λ and behavior, and whether it changes with λ."""

    name = "variance"

    def looks(self, data: Data, options: StudyOptions, rng: np.random.Generator) -> list[Look]:
        return [
            look
            for design in data.panel.designs
            for ladder in design.ladders()
            for behavior in ladder[0].behaviors
            if (look := _spread_look(ladder, behavior, options))
        ]


def _spread_look(ladder: list[Sheet], behavior: str, options: StudyOptions) -> Look | None:
    kept = [sheet for sheet in ladder if len(sheet.sample(behavior)[0]) > 1]
    if len(kept) < 2:
        return None
    samples = [sheet.sample(behavior) for sheet in kept]
    spreads = [sd_interval(values, level=options.level) for values, _, _ in samples]
    least = min(range(1, len(kept)), key=lambda i: spreads[i].value or 0.0)
    ratio = sd_ratio_interval(samples[0][0], samples[least][0], level=options.level)

    def without_seed(seed: int) -> tuple[float | None, float | None]:
        rest = [without(sheet, behavior, seed) for sheet in kept]
        if min(len(values) for values in rest) < 3:
            return None, None
        return sd_ratio_interval(rest[0], rest[least]).value, brown_forsythe(rest).p

    listed = "; ".join(f"λ={s.dose:g}: {interval_text(sd)}" for s, sd in zip(kept, spreads, strict=True))
    return Look(
        detector="spread over seeds",
        about=about(kept[0], behavior, stratum_of(kept)),
        what=f"{kept[0].model}: SD of {named(kept[0], behavior)} over seeds {listed}; the smallest, at λ="
        f"{kept[least].dose:g}, is {interval_text(ratio)} of that at λ={kept[0].dose:g} (picked as the smallest)",
        effect=ratio,
        test=brown_forsythe([values for values, _, _ in samples]),
        method=f"Brown-Forsythe test over the doses; chi-square intervals of SDs; {ratio.method}",
        reference="Brown & Forsythe 1974",
        groups=tuple(group(f"λ={s.dose:g}", seeds, v) for s, (v, seeds, _) in zip(kept, samples, strict=True)),
        runs=tuple(run for _, _, runs in samples for run in runs),
        unit=metric_unit(kept[0].metric, kept[0].quantity)[1],
        leave=lambda: leaving_out(all_seeds(kept), without_seed),
        needed="" if min(len(v) for v, _, _ in samples) > 2 else "a test of spreads takes three seeds at every dose",
        seeds_for=lambda level: spread_takes(len(kept), level, "dose"),
        power_for=lambda level: spread_takes(len(kept), level, "dose"),
    )
