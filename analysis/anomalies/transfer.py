"""Does λ act on another model with the same slope?"""

from itertools import combinations
from typing import Final

import numpy as np

from analysis.anomalies.base import Data, Detector, about, all_seeds
from analysis.anomalies.dose import stratum_of
from analysis.design import Declared
from analysis.findings import Verdict
from analysis.looks import Look, group, leaving_out, metric_unit
from analysis.needed import more_for_equivalence
from analysis.panel import Sheet
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
        best: dict[tuple[str, str, float | None], list[Sheet]] = {}
        for design in data.panel.designs:
            for ladder in design.ladders():
                key = (design.model, design.metric, ladder[-1].arm.margin)
                if len(ladder) >= 3 and _size(ladder) > _size(best.get(key, [])):
                    best[key] = ladder
        looks = []
        for (first, a), (second, b) in combinations(best.items(), 2):
            same_doses = [s.dose for s in a] == [s.dose for s in b]
            if first[0] != second[0] and first[1:] == second[1:] and same_doses and a[-1].settings == b[-1].settings:
                for behavior in a[0].behaviors:
                    look = self._look(a, b, behavior, options)
                    looks += [look] if look else []
        return looks

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
        models = (a[0].model, b[0].model)
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
                group(f"{ladder[0].model} λ={s.dose:g}", seeds, values)
                for ladder in (a, b)
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
