"""The three studies of the probe landscape: what they load, which tables they make of it, what they conclude."""

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from analysis.landscape import leaks, report
from analysis.landscape.load import Landscape, LandscapeOptions, load_landscape, load_vectors
from analysis.landscape.result import Table, Tables
from analysis.query import Conditions, Query, read_sql

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from rhodb.warehouse import Warehouse


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """What a study reads."""

    landscape: Landscape
    vectors: "NDArray[np.float32] | None" = None
    """Of the texts; None where the study needs none or the warehouse lacks some."""
    deltas: "pd.DataFrame | None" = None
    """Changes of single probes."""

    def inputs(self) -> "list[pd.DataFrame | NDArray[Any]]":
        """Everything that goes into the answer, for its fingerprint."""
        import pandas as pd

        land = self.landscape
        draws = (*land.seeds, *land.thresholds)
        heads = pd.DataFrame([{k: v for k, v in vars(draw).items() if k != "labels"} for draw in draws])
        parts = [
            land.texts,
            land.clusters,
            heads,
            pd.DataFrame({"message": list(land.messages)}),
            self.vectors,
            self.deltas,
        ]
        return [*(draw.labels for draw in draws), *(part for part in parts if part is not None)]


class LandscapeStudy(ABC):
    """A study of the landscape. The first line of a study's docstring is its summary in the registry."""

    name: ClassVar[str]

    def load(self, wh: "Warehouse", options: LandscapeOptions) -> Loaded:
        """The landscape that fits. Raises InputError where the warehouse holds none."""
        return Loaded(landscape=load_landscape(wh, options))

    @abstractmethod
    def compute(self, loaded: Loaded, options: LandscapeOptions) -> Tables:
        """The tables of what was loaded. Pure."""

    def run(self, wh: "Warehouse", options: LandscapeOptions) -> Tables:
        """Load and compute."""
        return self.compute(self.load(wh, options), options)

    def _result(
        self,
        landscape: Landscape,
        options: LandscapeOptions,
        tables: list[Table],
        conclusions: list[str],
        messages: tuple[str, ...] = (),
    ) -> Tables:
        return Tables(
            study=self.name,
            options=asdict(options),
            tables=tuple(tables),
            conclusions=tuple(conclusions),
            messages=(*landscape.messages, *messages),
            drawing=landscape,
        )


class LandscapeOverview(LandscapeStudy):
    """Clusters of similar probes, redundancy and isolation, stability, near-duplicates across the split."""

    name = "landscape"

    def load(self, wh: "Warehouse", options: LandscapeOptions) -> Loaded:
        landscape, query = load_landscape(wh, options), _delta_query(options.model)
        vectors = load_vectors(wh, landscape)
        deltas = None if vectors is None else wh.frame(query.sql, **query.parameters)
        return Loaded(landscape=landscape, vectors=vectors, deltas=deltas)

    def compute(self, loaded: Loaded, options: LandscapeOptions) -> Tables:
        landscape, vectors = loaded.landscape, loaded.vectors
        tables = [
            report.cluster_table(landscape, options.top),
            report.behavior_table(landscape),
            report.threshold_table(landscape),
            report.seed_table(landscape),
            *([report.order_table(landscape)] if landscape.orders else []),
        ]
        conclusions = [*report.coverage(landscape), *report.stability(landscape)]
        if vectors is None or loaded.deltas is None:
            missing = "the warehouse lacks the vectors of some texts, so near-duplicates and neighbours are left out"
            return self._result(landscape, options, tables, conclusions, (missing,))
        near = leaks.near_probes(landscape, vectors)
        tables += [leaks.leak_counts(landscape, near), leaks.leak_list(landscape, near, options.top)]
        conclusions += leaks.leak_sentences(landscape, near)
        query, rng = _delta_query(options.model), np.random.default_rng(options.seed)
        moved = leaks.neighbour_table(loaded.deltas, near, query, options, rng)
        if moved is None:
            note = "no trained run with single probe scores is stored, so Δ of neighbours cannot be compared"
            return self._result(landscape, options, tables, conclusions, (note,))
        return self._result(landscape, options, [*tables, moved], [*conclusions, *leaks.neighbour_sentences(moved)])


class Scorecard(LandscapeStudy):
    """Diversity of each behavior's probes: redundancy, coverage, partners, probes needed, priority."""

    name = "scorecard"

    def compute(self, loaded: Loaded, options: LandscapeOptions) -> Tables:
        landscape = loaded.landscape
        return self._result(landscape, options, [report.scorecard_table(landscape)], report.action_items(landscape))


class Entanglement(LandscapeStudy):
    """Behaviors whose probes share clusters: texts in shared cross-behavior clusters for each pair."""

    name = "entanglement"

    def compute(self, loaded: Loaded, options: LandscapeOptions) -> Tables:
        landscape = loaded.landscape
        return self._result(landscape, options, [report.entanglement_table(landscape)], report.isolation(landscape))


def _delta_query(model: str | None) -> Query:
    conditions = Conditions()
    conditions.equal("models.key", model)
    return Query(sql=read_sql("landscape_deltas", conditions=conditions), parameters=conditions.parameters)
