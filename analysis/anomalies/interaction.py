"""Does a condition act differently on one seed than on the others?"""

import numpy as np

from analysis.anomalies.base import Data, Detector, about, named, seed_table
from analysis.design import Declared
from analysis.looks import Look, group, metric_unit
from analysis.panel import Sheet
from analysis.stats.results import Array, no_estimate
from analysis.stats.twoway import additive, largest_residual, tukey_one_df
from analysis.study import StudyOptions


class Interaction(Detector):
    """One cell of condition x seed that the additive model misses."""

    name = "interaction"
    question = "Is there a condition x seed cell that condition and seed effects do not explain?"
    stratum = (
        "model, settings, λ, γ constant; conditions x seeds with one run a cell; only seeds that all conditions have"
    )
    design = Declared(varies=frozenset({"condition"}), paired=True)
    test = "largest residual of the additive model (max-T over the cells); Tukey's one-degree-of-freedom test beside it"
    null = "condition and seed effects add up, with normal errors of one variance"
    reference = "Stefansky 1972; Tukey 1949"

    def detect(self, data: Data, options: StudyOptions, rng: np.random.Generator) -> list[Look]:
        looks = []
        for design in data.panel.designs:
            for sheets in design.ablations():
                for behavior in sheets[0].behaviors:
                    table, seeds, runs = seed_table(sheets, behavior)
                    if min(table.shape) >= 3:
                        looks.append(self._look(sheets, behavior, table, seeds, tuple(runs)))
        return looks

    def _look(self, sheets: list[Sheet], behavior: str, table: Array, seeds: list[int], runs: tuple[str, ...]) -> Look:
        fit = additive(table)
        row, column = np.unravel_index(np.abs(fit.residuals).argmax(), table.shape)
        # A single shifted cell leaves (1 - 1/r)(1 - 1/c) of its shift in its own residual.
        share = (1 - 1 / table.shape[0]) * (1 - 1 / table.shape[1])
        shift = float(fit.residuals[row, column] / share)
        unit = metric_unit(sheets[0].metric, sheets[0].quantity)[1]
        return Look(
            detector=self.name,
            about=about(sheets[-1], behavior, f"condition x seed at {sheets[-1].label.partition(' ')[2]}"),
            what=f"{sheets[0].model}: {named(sheets[0], behavior)} of {sheets[row].arm.condition}, "
            f"seed {seeds[column]}, departs most from condition plus seed effects, as if shifted by "
            f"{shift:.3g} {unit}".rstrip(),
            effect=no_estimate("ok", "shift of one cell that its residual implies", table.size, value=shift),
            test=largest_residual(table),
            more=(tukey_one_df(table),),
            method=self.method,
            reference=self.reference,
            groups=tuple(group(s.arm.condition, seeds, line) for s, line in zip(sheets, table, strict=True)),
            runs=runs,
            unit=unit,
        )
