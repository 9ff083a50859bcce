"""What every detector declares, and what it is given."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from analysis.design import Declared, Gate
from analysis.findings import Group
from analysis.looks import Look, group, metric_unit
from analysis.panel import Panel, Sheet
from analysis.stats.results import Array
from analysis.study import StudyOptions

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class Data:
    """The alignment runs after the design gate, and the rows of the other families."""

    panel: Panel
    steering: "pd.DataFrame"
    freeze: "pd.DataFrame"
    """Freeze sweeps and hybrids."""
    gate: Gate
    """Knows the axes of all these runs."""


class Detector(ABC):
    """One pattern. Its declarations are printed by `rhodb analyze anomalies --explain` and in the docs."""

    name: ClassVar[str]
    question: ClassVar[str]
    stratum: ClassVar[str]
    """What is constant inside a look, what varies, what replicates what: in words."""
    design: ClassVar[Declared]
    """The same as data; the gate refuses looks that break it."""
    test: ClassVar[str]
    null: ClassVar[str]
    reference: ClassVar[str] = ""

    @abstractmethod
    def detect(self, data: Data, options: StudyOptions, rng: np.random.Generator) -> list[Look]:
        """Every look this detector takes at the data. Pure."""

    def left_out(self, data: Data) -> list[str]:
        """What of the data no look uses although it is of the detector's kind, and why: one sentence each. Pure."""
        return []

    @property
    def method(self) -> str:
        return f"{self.test}; null: {self.null}"


def about(sheet: Sheet, behavior: str, stratum: str | None = None) -> dict[str, str]:
    """What a look is about."""
    return {
        "model": sheet.model,
        "behavior": behavior,
        "metric": sheet.metric,
        "split": sheet.split,
        "quantity": sheet.quantity,
        "stratum": sheet.label if stratum is None else stratum,
    }


def named(sheet: Sheet, behavior: str) -> str:
    """behavior and what is measured, e.g. `bias Δ gap`."""
    return f"{behavior} {metric_unit(sheet.metric, sheet.quantity)[0]}"


def without(sheet: Sheet, behavior: str, seed: int) -> np.ndarray:
    """The values of a behavior over all other seeds."""
    values, seeds, _ = sheet.sample(behavior)
    return np.asarray(values[np.array(seeds, dtype=int) != seed])


def all_seeds(sheets: Iterable[Sheet]) -> list[int]:
    """Seeds of any of the sheets."""
    return sorted({seed for sheet in sheets for seed in sheet.seeds})


def shared_seeds(sheets: Sequence[Sheet]) -> list[int]:
    """Seeds that all sheets have; none where a sheet's seeds are numbers without a meaning."""
    if not all(sheet.seeds_known for sheet in sheets):
        return []
    return sorted(set.intersection(*(set(sheet.seeds) for sheet in sheets)))


class SeedTable(NamedTuple):
    """One behavior over several sheets, for the seeds that have it in all of them."""

    values: Array
    """Sheets x seeds."""
    seeds: tuple[int, ...]
    runs: tuple[str, ...]


def seed_tables(sheets: Sequence[Sheet]) -> dict[str, SeedTable]:
    """The table of each behavior of the first sheet; empty tables where another sheet lacks it."""
    first = sheets[0]
    alike = all((sheet.seeds, sheet.behaviors) == (first.seeds, first.behaviors) for sheet in sheets)
    if alike and all(sheet.seeds_known for sheet in sheets):
        cube = np.array([sheet.values for sheet in sheets])
        if not np.isnan(cube).any():
            runs = tuple(run for sheet in sheets for run in sheet.runs)
            return {
                behavior: SeedTable(values=cube[:, :, k], seeds=first.seeds, runs=runs)
                for k, behavior in enumerate(first.behaviors)
            }
    return {behavior: seed_table(sheets, behavior) for behavior in first.behaviors}


def seed_table(sheets: Sequence[Sheet], behavior: str) -> SeedTable:
    """The table of one behavior."""
    rows, kept = [], shared_seeds(sheets)
    for sheet in sheets:
        if behavior not in sheet.behaviors:
            return SeedTable(values=np.empty((len(sheets), 0)), seeds=(), runs=())
        column = dict(zip(sheet.seeds, sheet.column(behavior), strict=True))
        rows.append(column)
        kept = [seed for seed in kept if not np.isnan(column[seed])]
    values = np.array([[row[seed] for seed in kept] for row in rows]).reshape(len(sheets), len(kept))
    runs = tuple(run for sheet in sheets for seed, run in zip(sheet.seeds, sheet.runs, strict=True) if seed in kept)
    return SeedTable(values=values, seeds=tuple(kept), runs=runs)


_SHOWN: WeakKeyDictionary[Sheet, dict[tuple[str, str], Group]] = WeakKeyDictionary()


def sample_group(sheet: Sheet, behavior: str, label: str) -> Group:
    """The sample of a behavior as a group of findings: one object, however many looks show it."""
    known = _SHOWN.setdefault(sheet, {})
    if (behavior, label) not in known:
        values, seeds, _ = sheet.sample(behavior)
        known[behavior, label] = group(label, seeds, values)
    return known[behavior, label]


def row_groups(sheets: Sequence[Sheet], behavior: str, table: SeedTable, labels: Sequence[str]) -> tuple[Group, ...]:
    """The rows of a table as groups of findings."""
    return tuple(
        sample_group(sheet, behavior, label)
        if sheet.sample(behavior)[1] == table.seeds
        else group(label, table.seeds, row)
        for sheet, label, row in zip(sheets, labels, table.values, strict=True)
    )


def row_samples(ladder: Sequence[Sheet], behavior: str) -> tuple[Group, ...]:
    """The samples of a dose series as groups of findings."""
    return tuple(sample_group(sheet, behavior, label) for sheet, label in zip(ladder, dose_labels(ladder), strict=True))


def dose_labels(ladder: Sequence[Sheet]) -> list[str]:
    """What groups of a dose series are called."""
    return [f"λ={sheet.dose:g}" for sheet in ladder]
