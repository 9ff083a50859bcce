"""What every detector declares, and what it is given."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from analysis.design import Declared, Gate
from analysis.looks import Look, metric_unit
from analysis.panel import Panel, Sheet
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


def shared_seeds(sheets: list[Sheet]) -> list[int]:
    """Seeds that all sheets have; none where a sheet's seeds are numbers without a meaning."""
    if not all(sheet.seeds_known for sheet in sheets):
        return []
    return sorted(set.intersection(*(set(sheet.seeds) for sheet in sheets)))


def seed_table(sheets: list[Sheet], behavior: str) -> tuple[np.ndarray, list[int], list[str]]:
    """Sheets x seeds, for the seeds that have the behavior everywhere; the seeds; the runs."""
    rows, kept = [], shared_seeds(sheets)
    for sheet in sheets:
        if behavior not in sheet.behaviors:
            return np.empty((len(sheets), 0)), [], []
        column = dict(zip(sheet.seeds, sheet.column(behavior), strict=True))
        rows.append(column)
        kept = [seed for seed in kept if not np.isnan(column[seed])]
    table = np.array([[row[seed] for seed in kept] for row in rows]).reshape(len(sheets), len(kept))
    runs = [run for sheet in sheets for seed, run in zip(sheet.seeds, sheet.runs, strict=True) if seed in kept]
    return table, kept, runs
