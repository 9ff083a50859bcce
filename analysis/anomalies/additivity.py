"""Do two axes add up, or does one of them change nothing at all?"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
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
    design = Declared(varies=frozenset(AXES), seeds="blocks")
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
        levels = ", ".join(level_text(grid.axes[1], level) for level in grid.columns)
        common = {
            "detector": self.name, "about": {**place, "levels": f"{names[1]}: {levels}"}, "effect": cost,
            "method": self.method, "reference": self.reference, "groups": grid.groups(), "runs": grid.runs,
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
            blocks=grid.seed_table,
            unblocked=partial(grid.test, rng, blocks=False),
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

    @cached_property
    def sizes(self) -> Array:
        """Values of each cell: rows x columns."""
        return self._sums(np.ones(len(self.values)))

    @cached_property
    def means(self) -> Array:
        """Mean of each cell: rows x columns."""
        return self._sums(self.values) / self.sizes

    def _sums(self, values: Array) -> Array:
        shape = len(self.rows), len(self.columns)
        place = self.at[:, 0] * shape[1] + self.at[:, 1]
        found = np.bincount(place, weights=values, minlength=shape[0] * shape[1])
        return np.asarray(found.reshape(shape), dtype=np.float64)

    def idle(self, axis: int) -> bool:
        """Whether no score changes along an axis, seed by seed."""
        first: dict[tuple[int, int], float] = {}
        others = zip(self.at[:, 1 - axis].tolist(), self.seeds.tolist(), self.values.tolist(), strict=True)
        return all(first.setdefault((level, seed), value) == value for level, seed, value in others)

    def groups(self) -> tuple[Group, ...]:
        """One a row: every value of its cells, numbered by column where others are numbered by seed."""
        name = WORDS[self.axes[0]]
        order = np.lexsort((self.seeds, self.at[:, 1], self.at[:, 0]))
        row, column, values = self.at[order, 0], self.at[order, 1], self.values[order]
        return tuple(
            group(f"{name} {level_text(self.axes[0], level)}", column[row == k].tolist(), values[row == k])
            for k, level in enumerate(self.rows)
        )

    @cached_property
    def seed_table(self) -> Array | None:
        """Cells x seeds, where several seeds have every cell: their own effect can then be taken out."""
        seeds, codes = np.unique(self.seeds, return_inverse=True)
        if len(seeds) < 2 or not (self.sizes == len(seeds)).all():
            return None
        table = np.empty((self.sizes.size, len(seeds)))
        table[self.at[:, 0] * len(self.columns) + self.at[:, 1], codes] = self.values
        return table

    def test(self, rng: np.random.Generator, *, blocks: bool = True) -> Test:
        """Tukey's test with one value a cell, else the interaction over replicated cells (whole seeds as blocks)."""
        if (self.sizes == 1).all():
            return tukey_one_df(self.means)
        codes = np.unique(self.seeds, return_inverse=True)[1].astype(np.int64)
        shared = codes if blocks and self.seed_table is not None else None
        return replicated_interaction(
            Replicated(rows=self.at[:, 0], columns=self.at[:, 1], blocks=shared, values=self.values), rng
        )

    def leave_seeds(self, rng: np.random.Generator) -> Robustness | None:
        """Mean change along the columns, and p of the interaction, without each seed."""

        def measure(seed: int) -> tuple[float | None, float | None]:
            keep = self.seeds != seed
            rest = replace(self, at=self.at[keep], seeds=self.seeds[keep], values=self.values[keep])
            if not rest.sizes.all():
                return None, None
            return float((rest.means[:, -1] - rest.means[:, 0]).mean()), rest.test(rng).p

        return leaving_out((int(seed) for seed in np.unique(self.seeds)), measure)


def grids_of(rows: "pd.DataFrame") -> Iterator[Grid]:
    """Every pair of axes with two levels or more of both, at each combination of the other axes' levels."""
    axes = [axis for axis in AXES if axis in rows.columns and rows[axis].notna().any()]
    levels = np.column_stack([rows[axis].fillna(NO_LAYER).to_numpy(dtype=float) for axis in axes])
    seeds, values = rows["seed"].to_numpy(dtype=np.int64), rows["value"].to_numpy(dtype=float)
    # A cell with two runs of one seed has no value: nothing says which of them counts.
    places = list(zip(map(tuple, levels.tolist()), seeds.tolist(), strict=True))
    count = Counter(places)
    keep = np.array([count[place] == 1 for place in places])
    runs = [run for run, kept in zip(rows["run"], keep.tolist(), strict=True) if kept]
    levels, seeds, values = levels[keep], seeds[keep], values[keep]
    varying = [i for i in range(len(axes)) if len(np.unique(levels[:, i])) > 1]
    for pair in combinations(varying, 2):
        fixed = [i for i in varying if i not in pair]
        for others in sorted({tuple(row) for row in levels[:, fixed].tolist()}):
            here = np.flatnonzero((levels[:, fixed] == others).all(axis=1))
            at = ", ".join(f"{WORDS[axes[i]]} {level_text(axes[i], x)}" for i, x in zip(fixed, others, strict=True))
            names = (axes[pair[0]], axes[pair[1]])
            grid = grid_of(names, at, levels[here][:, list(pair)], seeds[here], values[here], [runs[i] for i in here])
            if grid is not None:
                yield grid


def grid_of(
    pair: tuple[Axis, Axis], at: str, levels: Array, seeds: npt.NDArray[np.int64], values: Array, runs: Sequence[str]
) -> Grid | None:
    """The larger of the tables that are left without incomplete rows, and without incomplete columns."""
    rows, columns = (np.unique(levels[:, k]) for k in (0, 1))
    there = np.array([[((levels == (r, c)).all(axis=1)).any() for c in columns] for r in rows])
    tables = [(rows[there.all(axis=1)], columns), (rows, columns[there.all(axis=0)])]
    rows, columns = max(tables, key=lambda table: len(table[0]) * len(table[1]) if min(map(len, table)) > 1 else 0)
    if min(len(rows), len(columns)) < 2:
        return None
    keep = np.isin(levels[:, 0], rows) & np.isin(levels[:, 1], columns)
    cells = np.column_stack([np.searchsorted(rows, levels[keep, 0]), np.searchsorted(columns, levels[keep, 1])])
    names = " x ".join({"freeze_ratio": "freeze", "compress_ratio": "compress"}.get(a, WORDS[a]) for a in pair)
    return Grid(
        axes=pair, words=f"{names} at {at}" if at else names, rows=tuple(rows.tolist()),
        columns=tuple(columns.tolist()), at=cells.astype(np.int64), seeds=seeds[keep], values=values[keep],
        runs=tuple(dict.fromkeys(run for run, kept in zip(runs, keep.tolist(), strict=True) if kept)),
    )  # fmt: skip


def level_text(axis: str, level: float) -> str:
    """A level of an axis; a layer of none is no SAE."""
    return "none" if axis == "sae_layer" and level == NO_LAYER else f"{level:g}"
