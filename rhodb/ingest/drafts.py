"""Runs as read from a file, before the warehouse has seen them; and when two of them are the same run."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from rhodb.ingest.fields import FormatError, step
from rhodb.records import canonical_json, digest
from rhodb.vocabulary import SIGNED_UNIT_METRICS, UNIT_METRICS

Key = tuple[str, str]
"""(behavior, metric) of a score, or (table column, name) of another outcome."""

LOWEST = dict.fromkeys(UNIT_METRICS, 0.0) | dict.fromkeys(SIGNED_UNIT_METRICS, -1.0)
"""Metrics that lie between this and 1."""
LEAST_DIGITS = 3
"""Numbers with fewer decimals are equal only if they are equal: rounded that far, different runs look alike."""


@dataclass(kw_only=True)
class RunDraft:
    """One run of a file. Identity: kind, model, seed, config; what came out decides whether two are the same."""

    kind: str
    model: str
    seed: int
    config: dict[str, Any]
    place: str
    """JSON path in the file."""
    seed_known: bool = True
    scores: dict[Key, tuple[float, int | None]] = field(default_factory=dict)
    """(behavior, metric) -> value, n."""
    table: str | None = None
    family: dict[str, Any] = field(default_factory=dict)
    """Columns of the family's row."""
    outcomes: tuple[str, ...] = ()
    """Those columns that are results, not settings."""
    children: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    """Rows of tables with several rows a run."""
    baseline: "RunDraft | None" = None
    error: str | None = None
    experiment: str | None = None
    finished_at: str | None = None
    seconds: float | None = None
    device: str | None = None
    notes: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    missing: int = 0
    """Scores that the file holds as null or NaN."""
    warnings: list[str] = field(default_factory=list)
    """What in the file contradicts itself or was not taken as it stands; the values are in `extra`."""
    reported: bool = False
    """Several runs share a baseline: what it lacks is reported once."""
    row: int | None = None
    """Row number, once it has its place in the warehouse."""

    @cached_property
    def config_json(self) -> str:
        return canonical_json(self.config)

    @cached_property
    def config_hash(self) -> str:
        return digest(self.config_json)

    def results(self) -> dict[Key, float]:
        """Every number that came out, for comparing."""
        found = {key: value for key, (value, _) in self.scores.items()}
        found |= counts({key: n for key, (_, n) in self.scores.items()}, self.notes)
        for column in self.outcomes:
            if self.family.get(column) is not None:
                found["column", column] = float(self.family[column])
        for _, row in self.children:
            if "category" in row and "truth_corr" in row:
                found |= category_results(row)
        return found


def counts(numbers: dict[Key, int | None], notes: dict[str, Any]) -> dict[Key, float]:
    """How many a score was taken over, and how many were right: results that two copies of a run must agree in."""
    found = {(behavior, f"{metric} n"): float(n) for (behavior, metric), n in numbers.items() if n}
    right = notes.get("positive_count", {})
    return found | {(behavior, "positive_count"): float(n) for behavior, n in right.items()}


CATEGORY_OUTCOMES = ("truth_corr", "mean_delta", "pair_accuracy")


def category_results(row: dict[str, Any]) -> dict[Key, float]:
    """Results of one row of fidelity_categories."""
    return {(row["category"], name): row[name] for name in CATEGORY_OUTCOMES if row[name] is not None}


def add_score(draft: RunDraft, behavior: str, metric: str, value: float, n: int | None) -> None:
    """Add a score after checking its range."""
    low = LOWEST.get(metric)
    if low is not None and not low <= value <= 1:
        raise FormatError(f"{metric} must lie between {low:g} and 1, got {value:g}", step(behavior))
    draft.scores[behavior, metric] = (value, n if n else None)


def check_difference(draft: RunDraft, name: str, stated: float, before: float | None, after: float | None) -> None:
    """A stated difference says nothing new if it is after - before up to the digits given; else it is kept and told."""
    if before is not None and after is not None:
        # Both scores are rounded alike, though 0.5 may stand for 0.500; the difference may be rounded otherwise.
        rounding = 0.5000001 * 10.0 ** -_decimals_of(stated) + 1.0000001 * 10.0 ** -_decimals((before, after))
        if abs(after - before - stated) <= max(rounding, 1e-9):
            return
        draft.warnings.append(
            f"{name} is stated as {stated:g}, but {after:g} - {before:g} is {after - before:.6g}: kept in `extra`"
        )
    draft.extra[name] = stated


def same_results(a: dict[Key, float], b: dict[Key, float]) -> bool:
    """Whether two runs of one identity came out alike: in all that both have, and both have something.

    A reformatted copy may hold fewer digits: numbers are equal if they agree to the last decimal of the
    coarser of the two runs.
    """
    common = a.keys() & b.keys()
    if not common:
        return not a and not b
    decimals = min(_decimals(a.values()), _decimals(b.values()))
    tolerance = 1e-9 if decimals < LEAST_DIGITS else max(0.5000001 * 10.0**-decimals, 1e-9)
    return all(abs(a[key] - b[key]) <= tolerance for key in common)


def _decimals(values: Any) -> int:
    """The most decimals that any of the numbers has."""
    return max(_decimals_of(value) for value in values)


def _decimals_of(value: float) -> int:
    written = f"{value:.12f}".rstrip("0")  # 12: a sum of two rounded numbers is off in the 17th
    return len(written) - written.index(".") - 1
