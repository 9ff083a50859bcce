"""The book of a report's addresses: each way back to the rows is written once, however many numbers share it."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from analysis.query import Query, literal, read_sql
from analysis.report.binding import Contents
from analysis.report.document import Address, SavedQuery

if TYPE_CHECKING:
    from rhodb.warehouse import Warehouse

SHOWN_RUNS = 40
"""Runs and configurations that an address names; beyond, it counts them and its SELECT names none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFacts:
    """What the report says about a run."""

    kind: str
    model: str
    model_fingerprint: str
    seed: int
    config_hash: str
    experiment: str | None
    state: str
    versions: str
    """JSON object, package -> version; empty where none is known."""
    condition: str | None
    rho_weight: float | None
    margin: float | None


def _shared(value: Any) -> Any:
    """The value; equal texts, of which tens of thousands of runs have few, are one object."""
    return sys.intern(value) if isinstance(value, str) else value


class Book:
    """Collects addresses, queries and package versions while a report is built; equal ones share a key."""

    def __init__(self, wh: "Warehouse") -> None:
        self._wh = wh
        self._addresses: dict[Address, str] = {}
        self._queries: dict[tuple[str, str], str] = {}
        self._saved: dict[str, SavedQuery] = {}
        self._versions: dict[str, str] = {}

    @cached_property
    def facts(self) -> Mapping[str, RunFacts]:
        """Every run of the warehouse by its uuid."""
        names = (
            "kind", "model", "model_fingerprint", "seed", "config_hash", "experiment", "state", "condition",
            "rho_weight", "margin",
        )  # fmt: skip
        rows = self._wh.rows(read_sql("report_runs"))
        return {
            row["uuid"]: RunFacts(
                **{name: _shared(row[name]) for name in names}, versions=_shared(row["versions"] or "")
            )
            for row in rows
        }

    @cached_property
    def _strata(self) -> Mapping[tuple[str, str, str, str, str | None], list[str]]:
        found: dict[tuple[str, str, str, str, str | None], list[str]] = {}
        for uuid, run in self.facts.items():
            if run.state == "done":
                place = (run.kind, run.model, run.model_fingerprint, run.config_hash, run.experiment)
                found.setdefault(place, []).append(uuid)
        return found

    def runs_of(self, kind: str, row: Mapping[str, Any]) -> list[str]:
        """The finished runs of a kind behind a row that states model, weights, configuration and experiment."""
        columns = ("model", "model_fingerprint", "config_hash", "experiment")
        model, weights, config, experiment = (row[column] for column in columns)
        return self._strata.get((kind, model, weights, config, experiment), [])

    def address(
        self,
        kind: Literal["finding", "quantity", "row", "count"],
        query: Query | None,
        *,
        runs: Sequence[str] = (),
        narrow: Sequence[str] = (),
        by_run: bool = False,
        pick: str = "",
        command: str = "",
        method: str = "",
        reference: str = "",
    ) -> str:
        """The key of an address. `narrow` are SQL conditions on the query's rows; `by_run` adds one on `run`."""
        known = list(dict.fromkeys(run for run in runs if run in self.facts))
        few = known if len(known) <= SHOWN_RUNS else []
        terms = list(narrow)
        if by_run and few:
            own = [run for run in few if self.facts[run].kind != "baseline"]
            # Untouched models have no rows of their own there: they stand beside those of their runs.
            terms.append(among("run", own) if own else among("baseline", few))
        configs = dict.fromkeys(self.facts[run].config_hash for run in known)
        versions = dict.fromkeys(self.facts[run].versions for run in known if self.facts[run].versions)
        address = Address(
            kind=kind, query=None if query is None else self._query(query), narrow=" AND ".join(terms), pick=pick,
            command=command, runs=tuple(known[:SHOWN_RUNS]), run_count=len(known),
            configs=tuple(configs)[:SHOWN_RUNS], versions=tuple(self._version(text) for text in versions),
            method=method, reference=reference,
        )  # fmt: skip
        return self._addresses.setdefault(address, f"a{len(self._addresses) + 1}")

    def _query(self, query: Query) -> str:
        identity = (query.sql, json.dumps(dict(query.parameters), sort_keys=True))
        if identity not in self._queries:
            key = f"q{len(self._queries) + 1}"
            self._queries[identity] = key
            self._saved[key] = SavedQuery(sql=query.sql, parameters=dict(query.parameters), ready=query.inlined())
        return self._queries[identity]

    def _version(self, text: str) -> str:
        return self._versions.setdefault(text, f"v{len(self._versions) + 1}")

    def contents(self) -> Contents:
        """What was collected, by key."""
        return Contents(
            addresses={key: address for address, key in self._addresses.items()},
            queries=dict(self._saved),
            versions={key: _as_versions(json.loads(text)) for text, key in self._versions.items()},
        )


def equals(column: str, value: Any) -> str:
    """An SQL condition, `IS` so that NULL is found, too."""
    return f"{column} IS NULL" if value is None else f"{column} = {literal(value)}"


def among(column: str, values: Iterable[Any]) -> str:
    """An SQL condition: one of the values."""
    return f"{column} IN ({', '.join(literal(value) for value in values)})"


def _as_versions(document: Any) -> dict[str, str]:
    return {str(key): str(value) for key, value in document.items()}
