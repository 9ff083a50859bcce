"""Does a condition act differently on one seed than on the others?"""

from functools import partial

import numpy as np

from analysis.anomalies.base import Data, Detector, about, named, seed_table
from analysis.design import Declared
from analysis.looks import Look, group, leaving_out, metric_unit
from analysis.panel import Sheet
from analysis.stats.results import Array, Test, no_estimate
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
                tables = {behavior: seed_table(sheets, behavior) for behavior in sheets[0].behaviors}
                tables = {b: found for b, found in tables.items() if min(found[0].shape) >= 3}
                joint = [largest_of_all(largest_residual(table), len(tables)) for table, _, _ in tables.values()]
                if len({tuple(seeds) for _, seeds, _ in tables.values()}) == 1 and permute:
                    permute -= 1
                    joint = permuted_columns(np.array([table for table, _, _ in tables.values()]), rng)
                for (behavior, (table, seeds, runs)), beside in zip(tables.items(), joint, strict=True):
                    looks.append(self._look(sheets, behavior, table, seeds, tuple(runs), beside))
        return looks

    def _look(
        self, sheets: list[Sheet], behavior: str, table: Array, seeds: list[int], runs: tuple[str, ...], beside: Test
    ) -> Look:
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
            more=(tukey_one_df(table), beside),
            method=self.method,
            reference=self.reference,
            groups=tuple(group(s.arm.condition, seeds, line) for s, line in zip(sheets, table, strict=True)),
            runs=runs,
            unit=unit,
            leave=lambda: leaving_out(seeds, lambda seed: without_seed(table, np.array(seeds) != seed)),
            at_most="suggestive",
            blocks=table,
            unblocked=partial(largest_of_rows, table),
            notes=(ONE_VALUE,),
        )


def without_seed(table: Array, keep: Array) -> tuple[float | None, float | None]:
    """The largest implied shift of a cell, and its p, without a seed."""
    rest = table[:, keep]
    if min(rest.shape) < 3:
        return None, None
    residuals = additive(rest).residuals
    worst = float(residuals.ravel()[np.abs(residuals).argmax()])
    return worst / ((1 - 1 / rest.shape[0]) * (1 - 1 / rest.shape[1])), largest_residual(rest).p
