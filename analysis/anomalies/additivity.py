"""Do two axes add up, or does one of them change nothing at all?"""

from typing import TYPE_CHECKING

import numpy as np

from analysis.admission import alike
from analysis.anomalies.base import Data, Detector
from analysis.design import Declared
from analysis.looks import Look, group, metric_unit
from analysis.stats.results import Array, no_estimate, no_test
from analysis.stats.twoway import additive, tukey_one_df
from analysis.study import StudyOptions

if TYPE_CHECKING:
    import pandas as pd

AXES = ("freeze_ratio", "compress_ratio")


class Additivity(Detector):
    """Freeze x compress."""

    name = "additivity"
    question = "Does compression cost the same at every freeze ratio, and does either axis do anything?"
    stratum = "model and the rest of the configuration constant; freeze and compress ratio vary; one run a cell"
    design = Declared(varies=frozenset({"freeze_ratio", "compress_ratio"}))
    test = "Tukey's one-degree-of-freedom test for non-additivity"
    null = "the effects of the two axes add up"
    reference = "Tukey 1949"

    def detect(self, data: Data, options: StudyOptions, rng: np.random.Generator) -> list[Look]:
        looks = []
        keys = ["model", "fine_tuned", "behavior", "metric", "split"]
        parts = [part for rows in alike(data.freeze, self.design) for part in rows.groupby(keys, dropna=False)]
        for (model, tuned, behavior, metric, split), rows in parts:
            grid = table_of(rows)
            if grid is None:
                continue
            state = {"1.0": "fine-tuned", "0.0": "not fine-tuned"}.get(str(tuned), "fine-tuning unknown")
            place = {"model": str(model), "behavior": str(behavior), "metric": str(metric), "split": str(split),
                     "quantity": "value", "stratum": f"freeze x compress, {state}"}  # fmt: skip
            looks.append(self._look(place, *grid))
        return looks

    def _look(
        self, place: dict[str, str], table: Array, freeze: list[float], compress: list[float], runs: tuple[str, ...]
    ) -> Look:
        what = f"{place['model']}, {place['stratum']}: {place['behavior']} {place['metric']}"
        idle = [
            name for name, axis in (("freeze_ratio", 0), ("compress_ratio", 1)) if np.ptp(table, axis=axis).max() == 0
        ]
        costs = table[:, -1] - table[:, 0]
        cost = no_estimate("ok", f"mean change from compress ratio {compress[0]:g} to {compress[-1]:g}", table.size,
                           value=float(costs.mean()))  # fmt: skip
        groups = tuple(group(f"freeze {f:g}", range(len(compress)), row) for f, row in zip(freeze, table, strict=True))
        common = {
            "detector": self.name, "about": place, "effect": cost, "method": self.method,
            "reference": self.reference, "groups": groups, "runs": runs,
            "unit": metric_unit(place["metric"], "value")[1],
        }  # fmt: skip
        if idle:
            return Look(
                **common,  # type: ignore[arg-type]
                what=f"{what}: {' and '.join(idle)} changes no score at all over {len(freeze)} x {len(compress)} cells",
                test=no_test("degenerate", self.test, table.size),
                fixed="degenerate",
                why="an axis without effect is a no-op (was it applied? without fine-tuning freezing does nothing), "
                "not evidence that the axes are independent",
            )
        worst = float(np.abs(additive(table).residuals).max())
        exact = worst <= 1e-12 * float(np.abs(table).max())
        return Look(
            **common,  # type: ignore[arg-type]
            what=f"{what}: compression changes it by {cost.value:.3g} on average, and the axes miss adding up by at "
            "most "
            f"{worst:.3g}",
            test=tukey_one_df(table),
            fixed="artefact" if exact else None,
            why="scores that add up to the last digit were not measured apart: they are copies or computed, and show "
            "no independence of the axes"
            if exact
            else "",
            needed="with one run a cell and so few cells there is nothing to test: replicate cells over seeds",
        )


def table_of(rows: "pd.DataFrame") -> tuple[Array, list[float], list[float], tuple[str, ...]] | None:
    """Freeze x compress means of the complete freeze ratios; None with less than two of either."""
    cells = rows.pivot_table(index=AXES[0], columns=AXES[1], values="value", aggfunc="mean").dropna(axis=0)
    if min(cells.shape) < 2:
        return None
    runs = tuple(dict.fromkeys(rows["run"]))
    return cells.to_numpy(dtype=float), [float(x) for x in cells.index], [float(x) for x in cells.columns], runs
