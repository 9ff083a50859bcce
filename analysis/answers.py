"""Studies that estimate quantities (γ*, λ*, σ ...) rather than compare conditions, and what they answer.

Such a study reads either the published figures (`published_values`) or this warehouse's own runs, says which,
and answers with numbered quantities: value, interval, method, and the inputs that lead back to the rows.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from analysis.query import Query, read_sql
from analysis.stats.results import RatioSet
from analysis.study import StudyOptions, within_limits
from rhodb.errors import InputError, UnknownNameError

if TYPE_CHECKING:
    import pandas as pd

    from rhodb.warehouse import Warehouse

INPUTS = ("auto", "published", "db")
Kind = Literal["bounded", "unbounded", "whole line"]
Source = Literal["published", "db"]


@dataclass(frozen=True, kw_only=True)
class AnswerOptions(StudyOptions):
    """What a study of quantities looks at. Raises InputError for a value outside its set."""

    inputs: str = "auto"
    """published, db, or auto: db where this warehouse has what the study needs."""
    samples: int = 10_000
    """Monte Carlo samples and bootstrap draws."""
    rho_weight: float | None = None
    """λ at which γ is varied; None: the one with most margins."""
    seed: int = 42

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.inputs not in INPUTS:
            raise UnknownNameError("kind of inputs", self.inputs, INPUTS)
        if not 100 <= self.samples <= 10_000_000:
            raise InputError(f"--samples must lie between 100 and 10000000, got {self.samples}")
        if len(self.metrics) != 1:
            raise InputError(f"give one metric, not {', '.join(self.metrics)}")
        if self.rho_weight is not None and not (np.isfinite(self.rho_weight) and self.rho_weight > 0):
            raise InputError(f"--rho-weight must be > 0, got {self.rho_weight}")

    @property
    def metric(self) -> str:
        return self.metrics[0]


@dataclass(frozen=True, kw_only=True)
class Published:
    """A figure that somebody printed, and the printed unit of its last digit."""

    value: float
    precision: float | None
    key: str

    def agrees(self, value: float, within: float = 0.0) -> bool:
        """Whether a value rounds to the printed figure: half a unit of the last digit, float error, `within`."""
        half = (self.precision or 0.0) / 2
        return abs(value - self.value) <= half + within + 1e-9 * max(1.0, abs(self.value))


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """One number of an answer. An interval may be unbounded (everything outside low..high) or the whole line."""

    group: str
    """Heading under which it is printed."""
    name: str
    about: str = ""
    """Behavior, or which inputs."""
    value: float | None
    low: float | None = None
    high: float | None = None
    kind: Kind = "bounded"
    level: float | None = None
    """Nominal coverage of the interval; None without one."""
    unit: str = ""
    n: int | None = None
    """Values (seeds, probes) behind it."""
    mc_error: float | None = None
    """Monte Carlo standard error of `value`."""
    method: str = ""
    reference: str = ""
    inputs: tuple[str, ...] = ()
    """Keys of published values, or uuids of runs."""
    published: Published | None = None
    note: str = ""
    detail: bool = False
    """Left out of the table on the terminal; everything else shows it."""

    @property
    def agrees(self) -> bool | None:
        """Whether it rounds to the published figure, up to three Monte Carlo errors; None where there is none."""
        if self.published is None or self.value is None:
            return None
        return self.published.agrees(self.value, within=3 * (self.mc_error or 0.0))


def of_ratio(ratio: RatioSet, **rest: Any) -> Quantity:
    """A quantity from a set of ratios; degenerate or missing data leave it without an interval."""
    known = ratio.status == "ok"
    return Quantity(
        value=ratio.value,
        low=ratio.low if known else None,
        high=ratio.high if known else None,
        kind=ratio.kind if known else "bounded",
        level=ratio.level if known else None,
        method=rest.pop("method", ratio.method),
        note=rest.pop("note", "") or ("" if known else ratio.status),
        **rest,
    )


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Everything a study of quantities found in one call."""

    study: str
    inputs: Source
    options: Mapping[str, Any]
    given: tuple[Mapping[str, Any], ...]
    """The input figures: published values with section and precision, or the means of cells with their runs."""
    quantities: tuple[Quantity, ...]
    conclusions: tuple[str, ...]
    """Sentences computed from the quantities."""
    messages: tuple[str, ...]
    """What was left out, and why; what else a reader has to know."""
    query: Query
    """Everything the study read."""
    narrow: Callable[[tuple[str, ...]], Query] = field(repr=False)
    """The SELECT that returns only the rows of these inputs."""
    caption: str
    drawing: Any = field(default=None, repr=False)
    """The study's own typed result, from which its figures are drawn; not part of the JSON."""

    def to_json(self) -> dict[str, Any]:
        """Plain dicts and lists; inputs stand next to outputs."""
        numbered = [
            {"number": i, **asdict(quantity), "agrees": quantity.agrees}
            for i, quantity in enumerate(self.quantities, 1)
        ]
        return {
            "study": self.study,
            "inputs": self.inputs,
            "options": dict(self.options),
            "given": [dict(row) for row in self.given],
            "quantities": numbered,
            "conclusions": list(self.conclusions),
            "messages": list(self.messages),
            "query": {"sql": self.query.sql, "parameters": dict(self.query.parameters)},
            "caption": self.caption,
        }


class AnswerStudy(ABC):
    """A study of quantities. The first line of a study's docstring is its summary in the registry."""

    name: ClassVar[str]
    families: ClassVar[tuple[str, ...]]
    """First parts of the keys of the published values it needs."""

    @abstractmethod
    def own_query(self, options: AnswerOptions) -> Query:
        """The SELECT over this warehouse's own runs."""

    @abstractmethod
    def has_own(self, frame: "pd.DataFrame", options: AnswerOptions) -> bool:
        """Whether the rows of `own_query` are enough for the study."""

    @abstractmethod
    def compute(
        self,
        frame: "pd.DataFrame",
        inputs: Literal["published", "db"],
        options: AnswerOptions,
        rng: np.random.Generator,
    ) -> Answer:
        """The answer from the rows of one of the two queries. Pure."""

    def published_query(self) -> Query:
        """The SELECT over the published values."""
        return published_query(families=self.families)

    @abstractmethod
    def own_rows(self, options: AnswerOptions, runs: Sequence[str]) -> Query:
        """`own_query`, narrowed to some runs."""

    def narrowed(self, inputs: Source, options: AnswerOptions) -> Callable[[tuple[str, ...]], Query]:
        """How the rows of single quantities are fetched."""
        if inputs == "published":
            return lambda keys: published_query(keys=tuple(dict.fromkeys(keys)))
        return lambda runs: self.own_rows(options, tuple(dict.fromkeys(runs)))

    def load_own(self, wh: "Warehouse", options: AnswerOptions) -> "pd.DataFrame":
        """The rows of `own_query`, as the warehouse holds them now."""
        query = self.own_query(options)
        return wh.frame(query.sql, **query.parameters)

    def load(self, wh: "Warehouse", options: AnswerOptions) -> tuple[Source, "pd.DataFrame"]:
        """The inputs that the options choose, and their rows as the warehouse holds them now."""
        if options.inputs != "published":
            frame = self.load_own(within_limits(wh, options), options)
            if options.inputs == "db" or self.has_own(frame, options):
                return "db", frame
        query = self.published_query()
        return "published", wh.frame(query.sql, **query.parameters)

    def run(self, wh: "Warehouse", options: AnswerOptions) -> Answer:
        """Load and compute, with a generator made from the options' seed."""
        inputs, frame = self.load(wh, options)
        return self.compute(frame, inputs, options, np.random.default_rng(options.seed))


def published_query(*, families: Sequence[str] = (), keys: Sequence[str] = ()) -> Query:
    """Published values of whole families (first part of the key), or just those of `keys`."""
    names = {f"family_{i}": f"{family}/%" for i, family in enumerate(families, 1)}
    terms = [f"key LIKE :{name}" for name in names]
    marks = {f"key_{i}": key for i, key in enumerate(keys, 1)}
    if marks:
        terms.append(f"key IN ({', '.join(':' + name for name in marks)})")
    return Query(
        sql=read_sql("published_values", conditions=" OR ".join(terms) or "1 = 1"), parameters={**names, **marks}
    )


class PublishedTable:
    """The rows of `published_query` by key. Raises InputError for a key that is not there."""

    def __init__(self, frame: "pd.DataFrame | None") -> None:
        rows = [] if frame is None else frame.to_dict("records")
        self.rows: dict[str, dict[str, Any]] = {
            str(row["key"]): {str(column): _known(str(column), entry) for column, entry in row.items()} for row in rows
        }

    def __contains__(self, key: str) -> bool:
        return key in self.rows

    def value(self, key: str) -> float:
        """The figure called `key`."""
        if key not in self.rows:
            raise InputError(
                f"the warehouse holds no published value {key!r}: `rhodb analyze` copies the shipped ones; "
                "does the warehouse hold older ones of its own?"
            )
        return float(self.rows[key]["value"])

    def printed(self, key: str) -> Published | None:
        """The figure with its precision, to compare with; None where it is not there."""
        if key not in self.rows:
            return None
        row = self.rows[key]
        return Published(value=float(row["value"]), precision=row["precision"], key=key)

    def below(self, prefix: str) -> dict[str, float]:
        """Figures whose key begins with `prefix`, by the rest of the key."""
        return {
            key.removeprefix(prefix): float(row["value"]) for key, row in self.rows.items() if key.startswith(prefix)
        }

    def given(self) -> tuple[Mapping[str, Any], ...]:
        """All rows, as inputs of an answer."""
        return tuple(self.rows.values())


def _known(column: str, entry: Any) -> Any:
    """None for SQL's NULL, which pandas turns into NaN in a column of numbers; whole numbers stay whole."""
    if entry is None or (isinstance(entry, float) and math.isnan(entry)):
        return None
    return int(entry) if column == "n" else entry
