"""The three studies of the probe landscape: what they load, which tables they make of it, what they conclude."""

from abc import ABC, abstractmethod
from dataclasses import asdict
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from analysis.landscape import leaks, report
from analysis.landscape.load import Landscape, LandscapeOptions, load_landscape, load_vectors
from analysis.landscape.result import Table, Tables
from analysis.query import Conditions, Query, read_sql

if TYPE_CHECKING:
    from rhodb.warehouse import Warehouse


class LandscapeStudy(ABC):
    """A study of the landscape. The first line of a study's docstring is its summary in the registry."""

    name: ClassVar[str]

    @abstractmethod
    def run(self, wh: "Warehouse", options: LandscapeOptions) -> Tables:
        """Load and compute. Raises InputError where the warehouse holds no landscape that fits."""

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

    def run(self, wh: "Warehouse", options: LandscapeOptions) -> Tables:
        landscape = load_landscape(wh, options)
        tables = [
            report.cluster_table(landscape, options.top),
            report.behavior_table(landscape),
            report.threshold_table(landscape),
            report.seed_table(landscape),
        ]
        conclusions = [*report.coverage(landscape), *report.stability(landscape)]
        vectors = load_vectors(wh, landscape)
        if vectors is None:
            missing = "the warehouse lacks the vectors of some texts, so near-duplicates and neighbours are left out"
            return self._result(landscape, options, tables, conclusions, (missing,))
        near = leaks.near_probes(landscape, vectors)
        tables += [leaks.leak_counts(landscape, near), leaks.leak_list(landscape, near, options.top)]
        conclusions += leaks.leak_sentences(landscape, near)
        query = _delta_query(options.model)
        moved = leaks.neighbour_table(
            wh.frame(query.sql, **query.parameters), near, query, options, np.random.default_rng(options.seed)
        )
        if moved is None:
            note = "no trained run with single probe scores is stored, so Δ of neighbours cannot be compared"
            return self._result(landscape, options, tables, conclusions, (note,))
        return self._result(landscape, options, [*tables, moved], [*conclusions, *leaks.neighbour_sentences(moved)])


class Scorecard(LandscapeStudy):
    """Diversity of each behavior's probes: redundancy, coverage, partners, probes needed, priority."""

    name = "scorecard"

    def run(self, wh: "Warehouse", options: LandscapeOptions) -> Tables:
        landscape = load_landscape(wh, options)
        return self._result(landscape, options, [report.scorecard_table(landscape)], report.action_items(landscape))


class Entanglement(LandscapeStudy):
    """Behaviors whose probes share clusters: texts in shared cross-behavior clusters for each pair."""

    name = "entanglement"

    def run(self, wh: "Warehouse", options: LandscapeOptions) -> Tables:
        landscape = load_landscape(wh, options)
        return self._result(landscape, options, [report.entanglement_table(landscape)], report.isolation(landscape))


def _delta_query(model: str | None) -> Query:
    conditions = Conditions()
    conditions.equal("models.key", model)
    return Query(sql=read_sql("landscape_deltas", conditions=conditions), parameters=conditions.parameters)
