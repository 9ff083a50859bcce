"""Do two axes add up, or does one of them change nothing at all?"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from analysis.admission import alike
from analysis.anomalies.base import Data, Detector
from analysis.design import AXIS_KEYS, WORDS, Axis, Declared
from analysis.findings import Group, Robustness
from analysis.looks import Look, group, leaving_out, metric_unit
from analysis.stats.results import Array, Test, no_estimate, no_test
from analysis.stats.twoway import Replicated, additive, replicated_interaction, tukey_one_df
from analysis.strata import ARM_KEYS, SEED_KEYS, settings_of
from analysis.study import StudyOptions

if TYPE_CHECKING:
    import pandas as pd

AXES: tuple[Axis, ...] = ("freeze_ratio", "compress_ratio", "sae_layer", "rho_weight")
MOST_LEVELS = 10
"""Levels of the shorter axis up to which every choice of them is tried."""
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
        for part in self._parts(data):
            for grid in grids_of(part.rows):
                place = {"model": part.model, "behavior": part.behavior, "metric": part.metric, "split": part.split,
                         "quantity": "value", "stratum": f"{grid.words}{part.state}"}  # fmt: skip
                looks.append(self._look(place, grid, rng))
        return looks

    def left_out(self, data: Data) -> list[str]:
        """Cells that no complete table holds, and grids that a flag of some runs splits."""
        told: dict[str, list[str]] = {}
        for part in self._parts(data):
            for why in gaps_of(part.rows):
                told.setdefault(f"{part.model}{part.state}: {why}", []).append(f"{part.behavior} {part.metric}")
        gaps = [f"{text} ({', '.join(looked[:3])}{', ...' if looked[3:] else ''})" for text, looked in told.items()]
        return [*split_by_flags(data.freeze, self.design), *gaps]

    def _parts(self, data: Data) -> Iterator["_Part"]:
        """Rows of one model, flag, behavior, metric and split that agree in all other settings."""
        keys = ["model", "fine_tuned", "behavior", "metric", "split"]
        for part in alike(data.freeze, self.design):
            for (model, tuned, behavior, metric, split), rows in part.groupby(keys, dropna=False):
                state = {"1.0": ", fine-tuned", "0.0": ", not fine-tuned"}.get(str(tuned), ", fine-tuning unknown")
                hybrid = (rows["kind"] == "hybrid").all()
                yield _Part(str(model), str(behavior), str(metric), str(split), "" if hybrid else state, rows)

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


class _Part(NamedTuple):
    model: str
    behavior: str
    metric: str
    split: str
    state: str
    """Words for the flag `fine_tuned` of freeze sweeps."""
    rows: "pd.DataFrame"


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
    found = (grid_of(plane) for plane in planes_of(rows)[0])
    return (grid for grid in found if grid is not None)


def gaps_of(rows: "pd.DataFrame") -> list[str]:
    """What the grids of these rows leave out, in words: cells, or everything."""
    planes, twice = planes_of(rows)
    told = [f"{twice} cells hold two runs of one seed, and nothing says which counts: left out"] if twice else []
    if not planes:
        shown = [f"{WORDS[axis]} {_levels(axis, rows)}" for axis in AXES if axis in rows and rows[axis].notna().any()]
        return [*told, f"no two axes vary together, so that nothing can add up: {'; '.join(shown)}"]
    for plane in planes:
        grid, words = grid_of(plane), _plane_words(plane)
        if grid is None:
            told.append(f"{words}: no two levels of both axes have all their cells ({_missing(plane)}): no grid")
            continue
        for axis, used, k in zip(plane.axes, (grid.rows, grid.columns), (0, 1), strict=True):
            lost = [x for x in np.unique(plane.levels[:, k]).tolist() if x not in used]
            if lost:
                levels = ", ".join(level_text(axis, x) for x in lost)
                told.append(f"{words}: {WORDS[axis]} {levels} is left out, as its cells are incomplete "
                            f"({_missing(plane)})")  # fmt: skip
    return told


def split_by_flags(rows: "pd.DataFrame", design: Declared) -> list[str]:
    """Settings under whose one value cells are missing that are there under another: flags that neighbours contradict.

    Whether a cell was made otherwise or only labelled otherwise the rows do not say; the grid is smaller either way.
    """
    told = []
    skip = SEED_KEYS | ARM_KEYS | frozenset().union(*(AXIS_KEYS.get(axis, frozenset()) for axis in design.varies))
    for (model, kind), part in rows.groupby(["model", "kind"], sort=True):
        heads = part.drop_duplicates("run")
        axes = [axis for axis in AXES if axis in heads and heads[axis].nunique(dropna=False) > 1]
        places = list(map(tuple, heads[axes].fillna(NO_LAYER).to_numpy(dtype=float).tolist()))
        stated = [dict(settings_of(json.loads(config), skip=skip)) for config in heads["config"]]
        for name in sorted({key for settings in stated for key in settings}):
            cells: dict[str, set[tuple[float, ...]]] = {}
            for settings, where in zip(stated, places, strict=True):
                cells.setdefault(settings.get(name, "not stated"), set()).add(where)
            for value, own in cells.items():
                levels = [set(column) for column in zip(*own, strict=True)]
                for other, theirs in cells.items():
                    moved = sorted(
                        cell for cell in theirs - own if all(x in known for x, known in zip(cell, levels, strict=True))
                    )
                    if other != value and moved and len(own) > len(theirs):
                        told.append(
                            f"{model}, {kind}: the grid with {name} {value} lacks {_cells(axes, moved)}, which stand "
                            f"there with {name} {other}. If that is stated wrongly: --ignore-setting {name}"
                        )
    return told


def _cells(axes: Sequence[Axis], cells: Sequence[tuple[float, ...]]) -> str:
    """At most four cells in words."""
    named = (
        " with ".join(f"{WORDS[a]} {level_text(a, x)}" for a, x in zip(axes, cell, strict=True)) for cell in cells[:4]
    )
    return "; ".join(named) + (f" and {len(cells) - 4} more" if len(cells) > 4 else "")


@dataclass(frozen=True, kw_only=True, eq=False)
class Plane:
    """The values of two axes at one combination of the others: levels is values x 2."""

    axes: tuple[Axis, Axis]
    at: str
    levels: Array
    seeds: npt.NDArray[np.int64]
    values: Array
    runs: Sequence[str]


def planes_of(rows: "pd.DataFrame") -> tuple[list[Plane], int]:
    """Every pair of axes that vary, at each combination of the others; and how many cells hold a seed twice."""
    axes = [axis for axis in AXES if axis in rows.columns and rows[axis].notna().any()]
    levels = np.column_stack([rows[axis].fillna(NO_LAYER).to_numpy(dtype=float) for axis in axes])
    seeds, values = rows["seed"].to_numpy(dtype=np.int64), rows["value"].to_numpy(dtype=float)
    # A cell with two runs of one seed has no value: nothing says which of them counts.
    places = list(zip(map(tuple, levels.tolist()), seeds.tolist(), strict=True))
    count = Counter(places)
    keep = np.array([count[place] == 1 for place in places])
    runs = [run for run, kept in zip(rows["run"], keep.tolist(), strict=True) if kept]
    levels, seeds, values = levels[keep], seeds[keep], values[keep]
    twice = len({place for place, several in count.items() if several > 1})
    varying = [i for i in range(len(axes)) if len(np.unique(levels[:, i])) > 1]
    planes = []
    for pair in combinations(varying, 2):
        fixed = [i for i in varying if i not in pair]
        for others in sorted({tuple(row) for row in levels[:, fixed].tolist()}):
            here = np.flatnonzero((levels[:, fixed] == others).all(axis=1))
            at = ", ".join(f"{WORDS[axes[i]]} {level_text(axes[i], x)}" for i, x in zip(fixed, others, strict=True))
            names = (axes[pair[0]], axes[pair[1]])
            if min(len(np.unique(levels[here, k])) for k in pair) < 2:
                continue
            planes.append(
                Plane(
                    axes=names, at=at, levels=levels[here][:, list(pair)], seeds=seeds[here], values=values[here],
                    runs=[runs[i] for i in here],
                )
            )  # fmt: skip
    return planes, twice


def grid_of(plane: Plane) -> Grid | None:
    """The largest complete table of at least two levels of both axes, or None."""
    pair, levels, seeds, values, runs = plane.axes, plane.levels, plane.seeds, plane.values, plane.runs
    rows, columns = (np.unique(levels[:, k]) for k in (0, 1))
    there = np.array([[((levels == (r, c)).all(axis=1)).any() for c in columns] for r in rows])
    kept = complete_table(there)
    if kept is None:
        return None
    rows, columns = rows[kept[0]], columns[kept[1]]
    keep = np.isin(levels[:, 0], rows) & np.isin(levels[:, 1], columns)
    cells = np.column_stack([np.searchsorted(rows, levels[keep, 0]), np.searchsorted(columns, levels[keep, 1])])
    return Grid(
        axes=pair, words=_plane_words(plane), rows=tuple(rows.tolist()),
        columns=tuple(columns.tolist()), at=cells.astype(np.int64), seeds=seeds[keep], values=values[keep],
        runs=tuple(dict.fromkeys(run for run, kept in zip(runs, keep.tolist(), strict=True) if kept)),
    )  # fmt: skip


def complete_table(there: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]] | None:
    """Rows and columns of the largest complete table with two of each or more; None where there is none.

    Exact over all choices on the shorter side up to `MOST_LEVELS` levels; beyond, the emptiest line goes first.
    """
    if there.shape[0] < there.shape[1]:
        turned = complete_table(there.T)
        return None if turned is None else (turned[1], turned[0])
    count = there.shape[1]
    if count > MOST_LEVELS:
        return _without_gaps(there)
    best: tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]] | None = None
    size = 0
    for choice in range(1, 1 << count):
        columns = np.array([bool(choice >> k & 1) for k in range(count)])
        rows = np.asarray(there[:, columns].all(axis=1), dtype=bool)
        cells = int(rows.sum() * columns.sum())
        if rows.sum() > 1 and columns.sum() > 1 and cells > size:
            best, size = (rows, columns), cells
    return best


def _without_gaps(there: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]] | None:
    """The line with the largest share of empty cells is taken out until none is empty."""
    rows, columns = (np.ones(n, dtype=bool) for n in there.shape)
    while min(rows.sum(), columns.sum()) > 1:
        empty = ~there & rows[:, None] & columns
        if not empty.any():
            return rows, columns
        by_row, by_column = empty.sum(axis=1) / columns.sum(), empty.sum(axis=0) / rows.sum()
        if by_row.max() >= by_column.max():
            rows[by_row.argmax()] = False
        else:
            columns[by_column.argmax()] = False
    return None


def _plane_words(plane: Plane) -> str:
    short = {"freeze_ratio": "freeze", "compress_ratio": "compress"}
    names = " x ".join(short.get(axis, WORDS[axis]) for axis in plane.axes)
    return f"{names} at {plane.at}" if plane.at else names


def _missing(plane: Plane) -> str:
    """The cells that have no run."""
    there = set(map(tuple, plane.levels.tolist()))
    first, second = (np.unique(plane.levels[:, k]).tolist() for k in (0, 1))
    return f"no run at {_cells(plane.axes, [(x, y) for x in first for y in second if (x, y) not in there])}"


def _levels(axis: Axis, rows: "pd.DataFrame") -> str:
    return ", ".join(level_text(axis, x) for x in sorted(rows[axis].fillna(NO_LAYER).unique().tolist()))


def level_text(axis: str, level: float) -> str:
    """A level of an axis; a layer of none is no SAE."""
    return "none" if axis == "sae_layer" and level == NO_LAYER else f"{level:g}"
