"""Do two axes add up, or does one of them change nothing at all?"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from analysis.admission import alike
from analysis.anomalies.base import Data, Detector
from analysis.design import WORDS, Axis, Declared
from analysis.findings import Group, Robustness
from analysis.looks import Look, group, leaving_out, metric_unit
from analysis.stats.results import Array, Test, no_estimate, no_test
from analysis.stats.twoway import Replicated, additive, replicated_interaction, tukey_one_df
from analysis.study import StudyOptions

if TYPE_CHECKING:
    import pandas as pd

AXES: tuple[Axis, ...] = ("freeze_ratio", "compress_ratio", "sae_layer", "rho_weight")
NO_LAYER = -1.0
"""Stands for: no SAE."""


class Additivity(Detector):
    """Freeze x compress, and any two of SVD, freeze, SAE and λ of the hybrid pipeline."""

    name = "additivity"
    question = "Does one axis do the same at every level of the other, and does either do anything?"
    stratum = (
        "model and the rest of the configuration constant; two of freeze ratio, compress ratio, SAE layer and λ vary; "
        "seeds replicate a cell, where there are several"
    )
    design = Declared(varies=frozenset(AXES))
    test = (
        "one run a cell: Tukey's one-degree-of-freedom test for non-additivity; several: F of the interaction, "
        "p by permutation of the additive model's residuals"
    )
    null = "the effects of the two axes add up"
    reference = "Tukey 1949; Freedman & Lane 1983"

    def detect(self, data: Data, options: StudyOptions, rng: np.random.Generator) -> list[Look]:
        looks = []
        keys = ["model", "fine_tuned", "behavior", "metric", "split"]
        for part in alike(data.freeze, self.design):
            for (model, tuned, behavior, metric, split), rows in part.groupby(keys, dropna=False):
                state = {"1.0": ", fine-tuned", "0.0": ", not fine-tuned"}.get(str(tuned), ", fine-tuning unknown")
                hybrid = (rows["kind"] == "hybrid").all()
                for grid in grids_of(rows):
                    words = f"{grid.words}{'' if hybrid else state}"
                    place = {"model": str(model), "behavior": str(behavior), "metric": str(metric),
                             "split": str(split), "quantity": "value", "stratum": words}  # fmt: skip
                    looks.append(self._look(place, grid, rng))
        return looks

    def _look(self, place: dict[str, str], grid: "Grid", rng: np.random.Generator) -> Look:
        what = f"{place['model']}, {place['stratum']}: {place['behavior']} {place['metric']}"
        table, names = grid.means, [WORDS[axis] for axis in grid.axes]
        idle = [name for name, axis in zip(names, (0, 1), strict=True) if grid.idle(axis)]
        cost = no_estimate(
            "ok", f"mean change from {names[1]} {grid.columns[0]:g} to {grid.columns[-1]:g}", len(grid.values),
            value=float((table[:, -1] - table[:, 0]).mean()),
        )  # fmt: skip
        common = {
            "detector": self.name, "about": place, "effect": cost, "method": self.method,
            "reference": self.reference, "groups": grid.groups(), "runs": grid.runs,
            "unit": metric_unit(place["metric"], "value")[1],
        }  # fmt: skip
        if idle:
            return Look(
                **common,  # type: ignore[arg-type]
                what=f"{what}: {' and '.join(idle)} changes no score at all over "
                f"{len(grid.rows)} x {len(grid.columns)} cells",
                test=no_test("degenerate", self.test, len(grid.values)),
                fixed="degenerate",
                why="an axis without effect is a no-op (was it applied? without fine-tuning freezing does nothing), "
                "not evidence that the axes are independent",
            )
        worst = float(np.abs(additive(table).residuals).max())
        exact = worst <= 1e-12 * float(np.abs(table).max())
        return Look(
            **common,  # type: ignore[arg-type]
            what=f"{what}: {names[1]} changes it by {cost.value:.3g} on average, and the axes miss adding up by at "
            f"most {worst:.3g}",
            test=grid.test(rng),
            fixed="artefact" if exact else None,
            why="scores that add up to the last digit were not measured apart: they are copies or computed, and show "
            "no independence of the axes"
            if exact
            else "",
            needed="with one run a cell and so few cells there is nothing to test: replicate cells over seeds",
            leave=partial(grid.leave_seeds, rng),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Grid:
    """A complete table of two axes, one value or more a cell."""

    axes: tuple[Axis, Axis]
    words: str
    rows: tuple[float, ...]
    """Levels of the first axis."""
    columns: tuple[float, ...]
    at: npt.NDArray[np.int64]
    """Row and column of each value: values x 2, whole numbers."""
    seeds: npt.NDArray[np.int64]
    values: Array
    runs: tuple[str, ...]

    @property
    def cells(self) -> list[list[Array]]:
        """Values by cell."""
        rows, columns = range(len(self.rows)), range(len(self.columns))
        return [[self.values[(self.at == (i, j)).all(axis=1)] for j in columns] for i in rows]

    @property
    def means(self) -> Array:
        return np.array([[values.mean() for values in row] for row in self.cells])

    def idle(self, axis: int) -> bool:
        """Whether no score changes along an axis, seed by seed."""
        others = np.column_stack([self.at[:, 1 - axis], self.seeds])
        _, place = np.unique(others, axis=0, return_inverse=True)
        place = place.ravel()
        return all(np.ptp(self.values[place == k]) == 0 for k in range(place.max() + 1))

    def groups(self) -> tuple[Group, ...]:
        """One a row: the means of its cells, by column."""
        name = WORDS[self.axes[0]]
        return tuple(
            group(f"{name} {level_text(self.axes[0], level)}", range(len(self.columns)), row)
            for level, row in zip(self.rows, self.means, strict=True)
        )

    def test(self, rng: np.random.Generator) -> Test:
        """Tukey's test with one value a cell, else the interaction over replicated cells (seeds as blocks)."""
        sizes = {len(values) for row in self.cells for values in row}
        if sizes == {1}:
            return tukey_one_df(self.means)
        seeds = np.unique(self.seeds)
        codes = np.searchsorted(seeds, self.seeds).astype(np.int64)
        whole = sizes == {len(seeds)}
        return replicated_interaction(
            Replicated(rows=self.at[:, 0], columns=self.at[:, 1], blocks=codes if whole else None, values=self.values),
            rng,
        )

    def leave_seeds(self, rng: np.random.Generator) -> Robustness | None:
        """Mean change along the columns, and p of the interaction, without each seed."""

        def measure(seed: int) -> tuple[float | None, float | None]:
            keep = self.seeds != seed
            rest = Grid(**{**vars(self), "at": self.at[keep], "seeds": self.seeds[keep], "values": self.values[keep]})
            if any(len(values) == 0 for row in rest.cells for values in row):
                return None, None
            return float((rest.means[:, -1] - rest.means[:, 0]).mean()), rest.test(rng).p

        return leaving_out((int(seed) for seed in np.unique(self.seeds)), measure)


def grids_of(rows: "pd.DataFrame") -> Iterator[Grid]:
    """Every pair of axes with two levels or more of both, at each combination of the other axes' levels."""
    axes = [axis for axis in AXES if axis in rows.columns and rows[axis].notna().any()]
    rows = rows.assign(**{axis: rows[axis].fillna(NO_LAYER).astype(float) for axis in axes})
    # A cell with two runs of one seed has no value: nothing says which of them counts.
    rows = rows[~rows.duplicated([*axes, "seed"], keep=False)]
    varying = [axis for axis in axes if rows[axis].nunique() > 1]
    for pair in combinations(varying, 2):
        fixed = [axis for axis in varying if axis not in pair]
        for _, part in rows.groupby(fixed) if fixed else [((), rows)]:
            at = ", ".join(f"{WORDS[axis]} {level_text(axis, part[axis].iloc[0])}" for axis in fixed if len(part))
            grid = grid_of(part, pair, at)
            if grid is not None:
                yield grid


def grid_of(rows: "pd.DataFrame", pair: tuple[Axis, Axis], at: str) -> Grid | None:
    """The larger of the tables that are left without incomplete rows, and without incomplete columns."""
    counts = rows.pivot_table(index=pair[0], columns=pair[1], values="value", aggfunc="count").fillna(0)
    found = [counts[(counts > 0).all(axis=1)], counts.loc[:, (counts > 0).all(axis=0)]]
    table = max(found, key=lambda t: t.size if min(t.shape) > 1 else 0)
    if min(table.shape) < 2:
        return None
    kept = rows[rows[pair[0]].isin(table.index) & rows[pair[1]].isin(table.columns)]
    levels = [np.array(sorted(labels), dtype=float) for labels in (table.index, table.columns)]
    places = [np.searchsorted(level, kept[axis].to_numpy(float)) for level, axis in zip(levels, pair, strict=True)]
    names = " x ".join({"freeze_ratio": "freeze", "compress_ratio": "compress"}.get(a, WORDS[a]) for a in pair)
    return Grid(
        axes=pair, words=f"{names} at {at}" if at else names, rows=tuple(levels[0].tolist()),
        columns=tuple(levels[1].tolist()), at=np.column_stack(places), seeds=kept["seed"].to_numpy(dtype=int),
        values=kept["value"].to_numpy(dtype=float), runs=tuple(dict.fromkeys(kept["run"])),
    )  # fmt: skip


def level_text(axis: str, level: float) -> str:
    """A level of an axis; a layer of none is no SAE."""
    return "none" if axis == "sae_layer" and level == NO_LAYER else f"{level:g}"
