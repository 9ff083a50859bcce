"""Does a condition act differently on one seed than on the others?"""

from functools import partial

import numpy as np

from analysis.anomalies.base import Data, Detector, SeedTable, about, named, row_groups, seed_tables
from analysis.anomalies.omitted import sentences, unmatched_seeds
from analysis.design import Declared
from analysis.findings import Robustness
from analysis.looks import Look, leaving_out, metric_unit
from analysis.panel import Sheet
from analysis.stats.results import Test, no_estimate
from analysis.stats.twoway import (
    additive,
    largest_of_all,
    largest_of_rows,
    largest_residual,
    permuted_columns,
    tukey_one_df,
)
from analysis.study import StudyOptions

MOST_PERMUTED = 100
"""Designs whose seeds are permuted in one call; beyond, the bound for independent behaviors must do."""
ONE_VALUE = "one value a cell cannot tell an interaction from a heavy-tailed error: repeat the run of this cell"


class Interaction(Detector):
    """One cell of condition x seed that the additive model misses."""

    name = "interaction"
    question = "Is there a condition x seed cell that condition and seed effects do not explain?"
    stratum = (
        "model, settings, λ, γ constant; conditions x seeds with one run a cell; only seeds that all conditions have"
    )
    design = Declared(varies=frozenset({"condition"}), seeds="blocks")
    test = (
        "largest residual of the additive model (max-T over the cells); beside it Tukey's one-degree-of-freedom test, "
        "and the largest residual over all cells and behaviors under permutation of the seeds within conditions"
    )
    null = "condition and seed effects add up, with normal errors of one variance (permutation: seeds carry no effect)"
    reference = "Stefansky 1972; Tukey 1949; Westfall & Young 1993 (permutation, max-T)"

    def detect(self, data: Data, options: StudyOptions, rng: np.random.Generator) -> list[Look]:
        looks = []
        permute = MOST_PERMUTED
        for design in data.panel.designs:
            for sheets in design.ablations():
                tables = {b: table for b, table in seed_tables(sheets).items() if min(table.values.shape) >= 3}
                largest = [largest_residual(table.values) for table in tables.values()]
                if len({table.seeds for table in tables.values()}) == 1 and permute:
                    permute -= 1
                    joint = permuted_columns(np.array([table.values for table in tables.values()]), rng)
                else:
                    joint = [largest_of_all(test, len(tables)) for test in largest]
                looks += [
                    self._look(sheets, behavior, table, test, beside)
                    for (behavior, table), test, beside in zip(tables.items(), largest, joint, strict=True)
                ]
        return looks

    def left_out(self, data: Data) -> list[str]:
        """Seeds that some condition lacks."""
        ablations = [sheets for design in data.panel.designs for sheets in design.ablations()]
        return sentences(
            self.name,
            [
                omission
                for sheets in ablations
                for omission in unmatched_seeds(
                    sheets, f"conditions at {sheets[-1].label.partition(' ')[2]}", "conditions", fewest=3
                )
            ],
        )

    def _look(self, sheets: list[Sheet], behavior: str, found: SeedTable, test: Test, beside: Test) -> Look:
        table, seeds = found.values, found.seeds
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
            test=test,
            more=(tukey_one_df(table), beside),
            method=self.method,
            reference=self.reference,
            groups=row_groups(sheets, behavior, found, [sheet.arm.condition for sheet in sheets]),
            runs=found.runs,
            unit=unit,
            leave=partial(without_each_seed, found),
            at_most="suggestive",
            blocks=table,
            unblocked=partial(largest_of_rows, table),
            notes=(ONE_VALUE,),
        )


def without_each_seed(found: SeedTable) -> Robustness | None:
    """The largest implied shift of a cell, and its p, without each seed."""

    def measure(seed: int) -> tuple[float | None, float | None]:
        rest = np.delete(found.values, found.seeds.index(seed), axis=1)
        if min(rest.shape) < 3:
            return None, None
        residuals = additive(rest).residuals
        worst = float(residuals.ravel()[np.abs(residuals).argmax()])
        return worst / ((1 - 1 / rest.shape[0]) * (1 - 1 / rest.shape[1])), largest_residual(rest).p

    return leaving_out(found.seeds, measure)
