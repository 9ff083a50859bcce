"""Does λ act on another model with the same slope?"""

from itertools import combinations
from typing import Final

import numpy as np

from analysis.anomalies.base import Data, Detector, about, all_seeds
from analysis.anomalies.dose import stratum_of
from analysis.anomalies.omitted import Omission, behaviors_of, place_of, sentences
from analysis.design import Declared
from analysis.findings import Verdict
from analysis.looks import Look, group, leaving_out, metric_unit
from analysis.needed import more_for_equivalence
from analysis.panel import Panel, Sheet
from analysis.stats.ratios import fieller
from analysis.stats.results import Array, Estimate
from analysis.stats.slopes import Line, equivalent_slopes, fit_line, slope_difference
from analysis.study import StudyOptions
from analysis.verdicts import p_text

TOLERANCE = 0.15
SAID: Final[dict[Verdict, str]] = {
    "supported": f"equivalent: the slopes are the same within {100 * TOLERANCE:.0f} %",
    "contradicted": "different: the slopes are not the same",
    "suggestive": f"cannot tell: neither that they are the same within {100 * TOLERANCE:.0f} % nor that they differ",
    "not supported": f"cannot tell: neither that they are the same within {100 * TOLERANCE:.0f} % nor that they differ",
}
"""Three outcomes. Not to be told equal is not to be different."""


class Transfer(Detector):
    """Ratio of the dose slopes of two models."""

    name = "transfer"
    question = f"Is the slope over λ the same on two models, within {100 * TOLERANCE:.0f} %, or another one?"
    stratum = "settings and γ constant, the same doses on both models; seeds replicate"
    design = Declared(varies=frozenset({"model", "rho_weight"}))
    test = (
        f"two one-sided t tests of the slopes' ratio against 1 ± {TOLERANCE:g}; t test of equal slopes; Fieller set of "
        "the ratio"
    )
    null = f"the slopes differ by {100 * TOLERANCE:.0f} % or more (equivalent), or they are equal (different)"
    reference = "Schuirmann 1987; Fieller 1954"

    def detect(self, data: Data, options: StudyOptions, rng: np.random.Generator) -> list[Look]:
        looks = []
        for a, b in matched(data.panel)[0]:
            for behavior in behaviors_of(a):
                look = self._look(a, b, behavior, options)
                looks += [look] if look else []
        return looks

    def left_out(self, data: Data) -> list[str]:
        """Dose series that are compared with none of another model, and behaviors that one of two models lacks."""
        pairs, told = matched(data.panel)
        for a, b in pairs:
            single = sorted(set(behaviors_of(a)) ^ set(behaviors_of(b)))
            told += [Omission(f"{_words(a)} and {_words(b)}: {name}", "only one model has it") for name in single]
        return sentences(self.name, told)

    def _look(self, a: list[Sheet], b: list[Sheet], behavior: str, options: StudyOptions) -> Look | None:
        points = [ladder_points(ladder, behavior) for ladder in (a, b)]
        lines = [fit_line(x, y) for x, y, _ in points]
        first, second = lines
        if first is None or second is None:
            return None

        def without_seed(seed: int) -> tuple[float | None, float | None]:
            rest = [fit_line(*ladder_points(ladder, behavior, seed)[:2]) for ladder in (a, b)]
            if rest[0] is None or rest[1] is None or not rest[1].slope:
                return None, None
            return rest[0].slope / rest[1].slope, equivalent_slopes(rest[0], rest[1], tolerance=TOLERANCE).p

        ratio, kind = ratio_of(first, second, options.level)
        models = tuple(map(_model, (a, b)))
        unit = metric_unit(a[0].metric, a[0].quantity)[1]
        return Look(
            detector=self.name,
            about={**about(a[0], behavior, stratum_of(a)), "model": " / ".join(models)},
            what=f"{behavior}: slope over λ {first.slope:.3g} on {models[0]}, {second.slope:.3g} on {models[1]}; "
            f"ratio {kind}",
            effect=ratio,
            test=equivalent_slopes(first, second, tolerance=TOLERANCE),
            opposite=slope_difference(second, first),
            said=SAID,
            method=f"{self.method}; {ratio.method}",
            reference=self.reference,
            groups=tuple(
                group(f"{model} λ={s.dose:g}", seeds, values)
                for model, ladder in zip(models, (a, b), strict=True)
                for s in ladder
                for values, seeds, _ in [s.sample(behavior)]
            ),
            runs=tuple(run for _, _, runs in points for run in runs),
            unit=unit,
            leave=lambda: leaving_out(all_seeds([*a, *b]), without_seed),
            power_for=lambda level: equality_takes(first, second, level),
        )


def equality_takes(a: Line, b: Line, level: float) -> str:
    """How many times the runs it takes to tell two equal slopes equal."""
    times = more_for_equivalence(a, b, tolerance=TOLERANCE, level=level)
    if times is None:
        return "without a slope on the second model there is nothing to be equal to"
    told = "as many runs would do" if times <= 1 else f"{times:.2g} times as many runs would be needed"
    return f"if the slopes are equal, {told} to tell so with this scatter (80 % power at p {p_text(level)})"


def matched(panel: Panel) -> tuple[list[tuple[list[Sheet], list[Sheet]]], list[Omission]]:
    """Dose series of two models under the same γ, settings and doses; and which series have no such partner, and why.

    Of several series of one model at one γ the one of most runs is compared. Where only one model has dose series
    there is nothing to compare, and nothing left out.
    """
    best: dict[tuple[str, str, str, str, float | None], list[Sheet]] = {}
    ladders = [ladder for design in panel.designs for ladder in design.ladders()]
    told = [Omission(_words(ladder), "it takes three doses") for ladder in ladders if len(ladder) < 3]
    for ladder in (ladder for ladder in ladders if len(ladder) >= 3):
        first = ladder[0]
        key = (first.model, first.fingerprint, first.metric, first.split, ladder[-1].arm.margin)
        known = best.get(key, [])
        longer, other = (ladder, known) if _size(ladder) > _size(known) else (known, ladder)
        best[key] = longer
        if other:
            told.append(Omission(_words(other), "another series of its model at this γ has more runs"))
    pairs = []
    for (x, a), (y, b) in combinations(best.items(), 2):
        if x[:2] == y[:2] or x[2:] != y[2:]:
            continue
        why = _mismatch(a, b)
        if why is None:
            pairs.append((a, b))
        else:
            told.append(Omission(f"{_words(a)} against {_words(b)}", why))
    alone = (ladder for key, ladder in best.items() if sum(other[2:] == key[2:] for other in best) == 1)
    told += [Omission(_words(ladder), "no other model has a series of three doses at its γ") for ladder in alone]
    models = {(ladder[0].model, ladder[0].fingerprint) for ladder in ladders}
    return pairs, told if len(models) > 1 else []


def _mismatch(a: list[Sheet], b: list[Sheet]) -> str | None:
    """Why two series are not compared; None if they are."""
    if [s.dose for s in a] != [s.dose for s in b]:
        return "their doses differ"
    if a[-1].settings != b[-1].settings:
        one, other = dict(a[-1].settings), dict(b[-1].settings)
        keys = sorted(key for key in one.keys() | other.keys() if one.get(key) != other.get(key))
        return f"their settings differ ({', '.join(keys)})"
    return None


def _model(ladder: list[Sheet]) -> str:
    """The model of a series, with its weights where its key does not tell them."""
    first = ladder[0]
    weights = f"weights {first.fingerprint[:8]}"
    return f"{first.model} {weights}" if weights in first.apart else first.model


def _words(ladder: list[Sheet]) -> str:
    return f"{place_of(ladder)}, {stratum_of(ladder)}"


def _size(ladder: list[Sheet]) -> int:
    return sum(len(sheet.seeds) for sheet in ladder)


def ladder_points(
    ladder: list[Sheet], behavior: str, left_out: int | None = None
) -> tuple[Array, Array, tuple[str, ...]]:
    """Doses, values and runs of all seeds but the one left out."""
    points = [
        (sheet.dose, value, run)
        for sheet in ladder
        for value, seed, run in zip(*sheet.sample(behavior), strict=True)
        if seed != left_out
    ]
    x, y = (np.array([point[i] for point in points], dtype=np.float64) for i in (0, 1))
    return x, y, tuple(run for *_, run in points)


def ratio_of(a: Line, b: Line, level: float) -> tuple[Estimate, str]:
    """slope(a) / slope(b) with Fieller's set, as an estimate where it is an interval, and in words."""
    spread = (a.ss + b.ss) / (a.df + b.df)
    found = fieller(
        a.slope, b.slope, var_numerator=spread / a.sxx, var_denominator=spread / b.sxx, level=level, df=a.df + b.df
    )
    bounded = found.kind == "bounded" and found.status == "ok"
    estimate = Estimate(
        value=found.value, low=found.low if bounded else None, high=found.high if bounded else None,
        n=a.df + b.df + 4, method=f"{found.method} ({found.kind})", level=level,
    )  # fmt: skip
    if found.value is None:
        return estimate, "not defined"
    if bounded:
        return estimate, f"{found.value:.3g} [{found.low:.3g}, {found.high:.3g}]"
    return estimate, f"{found.value:.3g} (Fieller set {found.kind}: the second slope may be zero)"
