"""What a study answers: findings with effect, tests, verdict, one sentence and the way back to the rows.

A closed set of frozen dataclasses that turn into JSON without NaN; drawing and printing live elsewhere.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from operator import attrgetter
from typing import Any, Final, Literal

import orjson

from analysis.query import Query
from analysis.stats.conventional import Conventional, conventional
from analysis.stats.multiplicity import Correction, adjust
from analysis.stats.results import Estimate, Test

__all__ = ["Estimate", "Evidence", "Finding", "Group", "Result", "Robustness", "Test", "Verdict", "correct"]

Verdict = Literal[
    "supported", "contradicted", "suggestive", "not supported", "artefact", "degenerate", "not enough data"
]  # fmt: skip
"""Contradicted: the question has an opposite with a test of its own, and that is decided (equivalent or different)."""
CLEAR_VERDICTS: Final[tuple[Verdict, ...]] = ("supported", "contradicted", "artefact")
"""Verdicts whose sentences are told before and beside the tables."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """The values of one stratum: one per seed, in the order of `seeds`."""

    label: str
    seeds: tuple[int, ...]
    values: tuple[float, ...]
    mean: float | None
    sd: float | None
    """Standard deviation over seeds (n - 1); None with one value."""
    seeds_known: bool = True
    """False where nobody recorded them: their numbers then only tell the runs apart."""

    @property
    def n(self) -> int:
        return len(self.values)


@dataclass(frozen=True, kw_only=True, slots=True)
class Robustness:
    """The effect and its p as each seed in turn is left out of every group."""

    lowest: float
    highest: float
    largest_p: float
    seed_of_largest_p: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """Where the numbers come from and how they were made."""

    query: Query
    runs: tuple[str, ...]
    """UUIDs of the runs whose rows the query returns."""
    method: str
    reference: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One look at the data. The first of `tests` is the one whose p is adjusted for the number of looks."""

    number: int
    about: Mapping[str, str]
    """What was looked at: model, behavior, metric, split, ... and the two sides `a` and `b`."""
    unit: str
    groups: tuple[Group, ...]
    effect: Estimate
    standardised: Estimate
    tests: tuple[Test, ...]
    robustness: Robustness | None
    """None where leaving a seed out leaves too little."""
    verdict: Verdict
    sentence: str
    notes: tuple[str, ...]
    evidence: Evidence

    @property
    def p(self) -> float | None:
        return self.tests[0].p if self.tests else None

    @property
    def p_adjusted(self) -> float | None:
        return self.tests[0].p_adjusted if self.tests else None


@dataclass(frozen=True, kw_only=True)
class Result:
    """All findings of one call of a study."""

    study: str
    options: Mapping[str, Any]
    findings: tuple[Finding, ...]
    looks: int
    """Tests over which p values were adjusted."""
    messages: tuple[str, ...]
    """What the design gate split, dropped or refused, and what else a reader has to know."""
    query: Query
    caption: str
    """How to read the table: unit, split, intervals, correction, rule of the verdict."""

    def to_json(self) -> dict[str, Any]:
        """Plain dicts and lists, with n, p and adjusted p beside the tests that they come from."""
        plain: dict[str, Any] = orjson.loads("".join(self.json_pieces()))
        return plain

    def json_pieces(self) -> Iterator[str]:
        """The same as one compact document, finding by finding: of very many there is never a whole copy."""

        def encode(value: Any) -> str:
            # NaN becomes null; `dict` for what is a mapping without being one
            return orjson.dumps(value, default=dict, option=orjson.OPT_NON_STR_KEYS).decode()

        rest = {key: value for key, value in vars(self).items() if key != "findings"}
        yield encode(rest)[:-1] + ', "findings": ['
        for start in range(0, len(self.findings), _PIECE):
            groups: dict[int, dict[str, Any]] = {}  # a sample stands in several findings
            piece = [_plain(finding, self.query, groups) for finding in self.findings[start : start + _PIECE]]
            yield (", " if start else "") + encode(piece)[1:-1]
        yield "]}"


_PIECE = 1_000
"""Findings encoded at a time."""


def _plain(finding: Finding, query: Query, groups: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """A finding's fields with n and p beside them; the query of the whole result is not repeated."""
    for group in finding.groups:
        if id(group) not in groups:
            groups[id(group)] = {**_fields(group), "n": group.n}
    plain = _fields(finding)
    plain["groups"] = [groups[id(group)] for group in finding.groups]
    plain["evidence"] = _fields(finding.evidence)
    printed = as_papers_print(finding)
    if printed is not None:
        plain["as_papers_print"] = asdict(printed)
    if finding.evidence.query is query:
        plain["evidence"]["query"] = None
    return plain | {"n": finding.effect.n, "p": finding.p, "p_adjusted": finding.p_adjusted}


_values = {kind: attrgetter(*kind.__slots__) for kind in (Finding, Group, Evidence)}
"""Class -> all fields of an object of it at once."""


def _fields(value: Finding | Group | Evidence) -> dict[str, Any]:
    kind = type(value)
    return dict(zip(kind.__slots__, _values[kind](value), strict=True))


def as_papers_print(finding: Finding) -> Conventional | None:
    """Cohen's d, t tests and Wilcoxon's of an effect between two groups; None for what a detector looked at."""
    if "detector" in finding.about or len(finding.groups) != 2:
        return None
    a, b = finding.groups
    values = [dict(zip(side.seeds, side.values, strict=True)) for side in (a, b)]
    return conventional(*values, paired=a.seeds_known and b.seeds_known)


def correct(tests: list[Test], correction: Correction) -> list[Test]:
    """The tests with `p_adjusted` over all those that have a p; the others stay as they are."""
    known = [test.p for test in tests if test.p is not None]
    adjusted = iter(adjust(known, correction).tolist())
    return [test if test.p is None else replace(test, p_adjusted=next(adjusted)) for test in tests]
