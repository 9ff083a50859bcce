"""The pattern of every study: SQL -> `load` -> data frame -> `compute` (pure) -> `Result`; renderers elsewhere."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from analysis.findings import Result
from analysis.query import Query
from analysis.stats.multiplicity import Correction
from rhodb.errors import InputError, UnknownNameError
from rhodb.vocabulary import BEHAVIORS, METRICS, SPLITS

if TYPE_CHECKING:
    import pandas as pd

    from rhodb.warehouse import Warehouse

CORRECTIONS: tuple[Correction, ...] = ("holm", "bh", "none")


@dataclass(frozen=True, kw_only=True)
class StudyOptions:
    """What a study looks at and how strict it is. Raises InputError for a value outside its set."""

    model: str | None = None
    metrics: tuple[str, ...] = ("gap",)
    split: str = "eval"
    behaviors: tuple[str, ...] = ()
    """Empty: all that have scores."""
    where: str | None = None
    """SQL condition on the run, e.g. `seed < 1000 AND lora_rank = 8`."""
    alpha: float = 0.05
    correction: Correction = "holm"
    seed: int = 0
    """Seeds the generator of Monte Carlo tests; exact tests do not use it."""
    ignore: tuple[str, ...] = ()
    """Settings that runs state and that tell nothing apart here, because what they state is known to be wrong."""

    def __post_init__(self) -> None:
        _check_names("metric", self.metrics, tuple(METRICS))
        _check_names("split", (self.split,), SPLITS)
        _check_names("behavior", self.behaviors, BEHAVIORS)
        correction_of(self.correction)
        if not self.metrics:
            raise InputError("no metric is given: name at least one, e.g. gap")
        if not (math.isfinite(self.alpha) and 0 < self.alpha < 1):
            raise InputError(f"--alpha must lie between 0 and 1, got {self.alpha}")
        if self.seed < 0:
            raise InputError(f"--seed must be >= 0, got {self.seed}")

    @property
    def level(self) -> float:
        """Nominal coverage of the intervals that go with alpha."""
        return 1 - self.alpha


class Study(ABC):
    """A declared analysis. The first line of a study's docstring is its summary in the registry."""

    name: ClassVar[str]

    @abstractmethod
    def query(self, options: StudyOptions) -> Query:
        """The SELECT that fetches everything the study needs."""

    @abstractmethod
    def compute(self, frame: "pd.DataFrame", options: StudyOptions, rng: np.random.Generator) -> Result:
        """The findings in the rows of `query`. Pure: same frame, options and rng state, same result."""

    def load(self, wh: "Warehouse", options: StudyOptions) -> "pd.DataFrame":
        """The rows of `query`, as the warehouse holds them now."""
        from analysis.admission import without_settings

        query = self.query(options)
        frame = within_limits(wh, options).frame(query.sql, **query.parameters)
        return without_settings(frame, options.ignore)

    def run(self, wh: "Warehouse", options: StudyOptions) -> Result:
        """Load and compute, with a generator made from the options' seed."""
        return self.compute(self.load(wh, options), options, np.random.default_rng(options.seed))


def within_limits(wh: "Warehouse", options: StudyOptions) -> "Warehouse":
    """The warehouse for the queries of these options: a condition is SQL that somebody typed."""
    return wh if options.where is None else wh.limited()


def correction_of(name: str) -> Correction:
    """The correction called `name`. Raises UnknownNameError."""
    for correction in CORRECTIONS:
        if correction == name:
            return correction
    raise UnknownNameError("correction", name, CORRECTIONS)


def _check_names(what: str, names: tuple[str, ...], choices: tuple[str, ...]) -> None:
    for name in names:
        if name not in choices:
            raise UnknownNameError(what, name, choices)
