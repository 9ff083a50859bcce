"""Is the untouched model's score stable, and was it measured more than once at all?"""

from collections import defaultdict

import numpy as np

from analysis.anomalies.base import Data, Detector
from analysis.design import Declared
from analysis.looks import Look, group, interval_text, metric_unit
from analysis.panel import Sheet
from analysis.stats.intervals import sd_interval
from analysis.stats.results import no_estimate, no_test
from analysis.study import StudyOptions


class BaselineStability(Detector):
    """Spread of baselines, where they are measurements of their own."""

    name = "baseline"
    question = "How far do independently measured baselines of one model differ?"
    stratum = "model, weights, metric, split and settings constant; baseline runs replicate one another"
    design = Declared()
    test = "none; chi-square interval of the SD over independent baselines"
    null = "not applicable: copies and shared baselines are told from measurements by their runs and values"
    reference = ""

    def detect(self, data: Data, options: StudyOptions, rng: np.random.Generator) -> list[Look]:
        looks = []
        models: dict[tuple[str, str, str], list[Sheet]] = defaultdict(list)
        for sheet in data.panel.sheets:
            models[sheet.model, sheet.metric, sheet.split].append(sheet)
        for key, sheets in models.items():
            settings = list(dict.fromkeys(known for sheet in sheets for known in sheet.baseline_settings))
            for number, known in enumerate(settings, 1):
                words = "baselines" if len(settings) == 1 else f"baselines, settings {number} of {len(settings)}"
                looks += [look] if (look := self._look((*key, words), sheets, known, options)) else []
        return looks

    def _look(
        self, key: tuple[str, str, str, str], sheets: list[Sheet], settings: str, options: StudyOptions
    ) -> Look | None:
        model, metric, split, stratum = key
        measured: dict[str, dict[str, float]] = defaultdict(dict)
        users = 0
        for sheet in sheets:
            for run, row, known in zip(sheet.baseline_runs, sheet.baselines, sheet.baseline_settings, strict=True):
                if run is not None and known == settings:
                    users += 1
                    measured[run] |= {b: float(x) for b, x in zip(sheet.behaviors, row, strict=True) if np.isfinite(x)}
        if not measured or users < 2:
            return None
        behaviors = list(dict.fromkeys(b for scores in measured.values() for b in scores))
        values = {b: np.array([s[b] for s in measured.values() if b in s]) for b in behaviors}
        distinct = max(len(np.unique(v)) for v in values.values())
        spread = {b: sd_interval(v, level=options.level) for b, v in values.items() if len(np.unique(v)) > 1}
        place = {"model": model, "behavior": ", ".join(behaviors), "metric": metric, "split": split,
                 "quantity": "value", "stratum": stratum}  # fmt: skip
        common = {
            "detector": self.name, "about": place, "method": self.method, "reference": self.reference,
            "test": no_test("not enough data", self.test, len(measured)), "runs": tuple(measured),
            "groups": tuple(group(b, range(len(v)), v) for b, v in values.items()),
            "unit": metric_unit(metric, "value")[1],
        }  # fmt: skip
        if distinct == 1:
            shared = "one shared run" if len(measured) == 1 else f"{len(measured)} runs with the same values"
            return Look(
                **common,  # type: ignore[arg-type]
                what=f"{model}: {users} runs are set against {shared} as baseline; SD 0",
                effect=no_estimate("degenerate", "SD over baselines", len(measured), value=0.0),
                fixed="artefact",
                why="equal baselines are copies or one measurement, so their agreement says nothing about stability",
            )
        widest = max(spread, key=lambda b: spread[b].value or 0.0)
        return Look(
            **common,  # type: ignore[arg-type]
            what=f"{model}: {len(measured)} baselines differ most in {widest}, SD {interval_text(spread[widest])}",
            effect=spread[widest],
            needed="a spread has no test; measure baselines again under the same settings to estimate it",
        )
