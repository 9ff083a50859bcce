"""What every section is given: the warehouse, the options, the book of addresses, and each study's result once."""

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.answers import Answer, AnswerOptions
from analysis.findings import Result
from analysis.landscape.load import LandscapeOptions
from analysis.landscape.result import Tables
from analysis.query import Conditions, Query, read_sql
from analysis.registry import load_answer_study, load_study
from analysis.report.addresses import Book
from analysis.report.document import Cell, Number
from analysis.report.sections import SECTIONS
from analysis.stored import answer as stored_answer
from analysis.study import StudyOptions
from rhodb.adhoc import ask, read
from rhodb.errors import InputError, RhodbError, UnknownNameError
from rhodb.vocabulary import METRICS, SPLITS

if TYPE_CHECKING:
    import pandas as pd

    from rhodb.warehouse import Warehouse

DASH = "—"


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """What a report looks at; saved with it, so that it can be built again. Raises InputError."""

    model: str | None = None
    split: str = "eval"
    metrics: tuple[str, ...] = ("gap",)
    where: str | None = None
    sections: tuple[str, ...] = ()
    """Keys; empty: all."""
    compare: str | None = None
    """Another warehouse; the report then begins with what changed against it."""
    since: str | None = None
    """A date; the same against this warehouse as it was then."""

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise UnknownNameError("split", self.split, SPLITS)
        if not self.metrics:
            raise InputError("no metric is given: name at least one, e.g. gap")
        if self.compare is not None and self.since is not None:
            raise InputError("choose one: --compare another warehouse, or --since a date")
        for metric in self.metrics:
            if metric not in METRICS:
                raise UnknownNameError("metric", metric, tuple(METRICS))

    def to_json(self) -> dict[str, Any]:
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "ReportOptions":
        known: dict[str, Any] = {f.name: document[f.name] for f in fields(cls) if f.name in document}
        known = {key: tuple(value) if isinstance(value, list) else value for key, value in known.items()}
        return cls(**known)


class _Reading:
    """A warehouse that reads the rows of a SELECT once: most studies of a report ask for the same ones."""

    def __init__(self, wh: "Warehouse") -> None:
        self._wh = wh
        self.last = False
        """Whether the rows that are asked for now are not asked for again: then they are handed over, not kept."""
        self._frames: dict[tuple[Any, ...], pd.DataFrame] = {}

    def frame(self, sql: str, **parameters: Any) -> "pd.DataFrame":
        key = (sql, *sorted(parameters.items()))
        if key not in self._frames:
            self._frames[key] = self._wh.frame(sql, **parameters)
        return self._frames.pop(key) if self.last else self._frames[key]

    def limited(self) -> "_Reading":
        """As a warehouse does: the one inside is limited where it has to be."""
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wh, name)


@dataclass(kw_only=True)
class Context:
    """Passed from section to section; each study runs once."""

    wh: "Warehouse"
    options: ReportOptions
    book: Book
    fresh: bool = False
    """Compute every study anew, and believe no stored result."""
    _known: dict[str, Any] = field(default_factory=dict)

    @property
    def sections(self) -> tuple[str, ...]:
        """Keys of the report's sections, in their order."""
        return self.options.sections or tuple(SECTIONS)

    @cached_property
    def _reading(self) -> Any:
        return _Reading(self.wh if self.options.where is None else self.wh.limited())

    def study(self, name: str) -> Result:
        """The findings of a study, stored or new. Raises what the study raised when it ran first."""
        return self._once(name, lambda: self._run_study(name))  # type: ignore[no-any-return]

    def answer(self, name: str) -> Answer:
        """The quantities of a study."""
        return self._once(name, lambda: self._run_answer(name))  # type: ignore[no-any-return]

    def landscape(self, name: str) -> Tables:
        """The tables of a study of the probe landscape."""
        loaded: Any = load_study(name)
        return self._once(name, lambda: loaded.run(self.wh, LandscapeOptions(model=self.options.model)))  # type: ignore[no-any-return]

    def verdicts(self) -> Sequence[Any]:
        """The verdicts on the notes' claims."""
        from analysis.claims import verify

        return self._once("claims", lambda: verify(self.wh))  # type: ignore[no-any-return]

    def query(self, name: str, *, chosen: bool = True, **conditions: Any) -> Query:
        """The SELECT `analysis/sql/NAME.sql` over the runs of the report's model and --where.

        `conditions`: column, its dot written as two underscores, and the value or values that it must have.
        """
        terms = Conditions()
        terms.equal("models.key", self.options.model)
        for column, value in conditions.items():
            if isinstance(value, list | tuple):
                terms.among(column.replace("__", "."), value)
            else:
                terms.equal(column.replace("__", "."), value)
        return Query(
            sql=read_sql(name, conditions=f"{terms} AND {self.where() if chosen else '1 = 1'}"),
            parameters=terms.parameters,
        )

    def where(self) -> str:
        """SQL condition on `runs.id`: the runs that --where chooses."""
        return read_sql("report_chosen", where=self.options.where) if self.options.where else "1 = 1"

    def rows(self, query: Query) -> list[dict[str, Any]]:
        """The rows of a query with the aggregates of `rhodb sql`, and within its limits where there is a --where."""
        if self.options.where is None:
            found = read(self.wh.location, query.sql, query.parameters)
        else:
            found = ask(self.wh.location, query.sql, query.parameters, limit=None)
        return [dict(zip(found.columns, row, strict=True)) for row in found.rows]

    def stress_conditions(self) -> Mapping[str, tuple[str, str]]:
        """Finished stress tests: run -> model and condition."""
        return self._once("stress conditions", lambda: {  # type: ignore[no-any-return]
            row["run"]: (row["model"], row["condition"])
            for row in self.wh.rows("SELECT run, model, condition FROM v_stress_tests WHERE state = 'done'")
        })  # fmt: skip

    def study_options(self) -> StudyOptions:
        o = self.options
        return StudyOptions(model=o.model, metrics=o.metrics, split=o.split, where=o.where)

    def answer_options(self) -> AnswerOptions:
        o = self.options
        return AnswerOptions(model=o.model, metrics=o.metrics[:1], split=o.split, where=o.where)

    def command(self, study: str, number: int) -> str:
        """The command line that prints the evidence of a finding or quantity."""
        o = self.options
        words = ["rhodb", "analyze", study]
        for option, values in (("--model", [o.model]), ("--metric", o.metrics), ("--where", [o.where])):
            for value in values:
                if value is not None and (option, value) != ("--metric", "gap"):
                    words += [option, value]
        if study in ("landscape", "scorecard", "entanglement"):
            words = words[:3] + (["--model", o.model] if o.model and study == "landscape" else [])
        elif o.split != "eval":
            words += ["--split", o.split]
        if study == "probe-noise" and "--metric" in words:
            at = words.index("--metric")
            del words[at : at + 2]
        return shlex.join([*words, "--explain", str(number)])

    def _run_study(self, name: str) -> Result:
        study, options = load_study(name), self.study_options()
        if self.fresh:
            return study.run(self._reading, options)
        return stored_answer(self._reading, study, options).result

    def _run_answer(self, name: str) -> Answer:
        """From this warehouse's runs where they are enough, else from the published figures."""
        study, options = load_answer_study(name), self.answer_options()
        try:
            return study.run(self._reading, options)
        except InputError:
            return study.run(self._reading, replace(options, inputs="published"))

    def read_for_the_last_time(self, last: bool) -> None:
        """Whether no section behind this one reads the rows that it reads: they are then let go of as soon as read."""
        self._reading.last = last

    def forget(self, names: Sequence[str]) -> None:
        """Drop results that no later section needs: of a large warehouse they take a GiB. Asked for again, they run."""
        for name in names:
            self._known.pop(name, None)

    def _once(self, name: str, make: Any) -> Any:
        if name not in self._known:
            try:
                self._known[name] = make()
            except RhodbError as error:  # every section that needs the study says the same
                self._known[name] = error
        if isinstance(self._known[name], RhodbError):
            raise self._known[name]
        return self._known[name]


def number(value: Any, address: str, *, digits: int = 3, text: str | None = None) -> Cell:
    """A cell with a number; a dash where there is none."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return DASH
    if isinstance(value, np.generic):
        value = value.item()
    if text is None:
        text = str(value) if isinstance(value, int) else f"{value:.{digits}g}"
    return Number(value=value, text=text, address=address)


def unique(keys: Sequence[str]) -> list[str]:
    """The keys, told apart where one repeats: `key`, `key #2`, ..."""
    seen: dict[str, int] = {}
    found = []
    for key in keys:
        seen[key] = seen.get(key, 0) + 1
        found.append(key if seen[key] == 1 else f"{key} #{seen[key]}")
    return found
