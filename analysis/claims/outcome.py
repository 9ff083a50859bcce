"""What checking a claim yields: a `Check` (the recomputation), `Challenge`s (of the method), and the `Verdict`."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Kind = Literal[
    "reproduced",
    "up to rounding",
    "inconsistent",
    "method unsound",
    "only restated",
    "cannot be checked",
    "supported by own runs",
    "contradicted by own runs",
]
KINDS: tuple[Kind, ...] = (
    "reproduced", "up to rounding", "inconsistent", "method unsound", "only restated", "cannot be checked",
    "supported by own runs", "contradicted by own runs",
)  # fmt: skip
Speaks = Literal["for", "against", "undecided"]
GOOD: frozenset[Kind] = frozenset({"reproduced", "up to rounding", "supported by own runs"})
"""What `--strict` lets pass."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """A figure recomputed."""

    value: float | None
    """None where the public inputs do not give it; `needs` says what would."""
    low: float | None = None
    high: float | None = None
    """What the rounding of the inputs leaves open."""
    method: str = ""
    inputs: tuple[str, ...] = ()
    """Keys of published values, or uuids of runs."""
    numbers: Mapping[str, float] = field(default_factory=dict)
    """Whatever else was computed on the way, by name."""
    remarks: tuple[str, ...] = ()
    needs: str = ""
    impossible: str = ""
    """Why the printed figure cannot be right, although it cannot be recomputed."""
    restates: bool = False
    """Whether the value is one printed figure again, however converted: a second printing, no recomputation."""
    refused: str = ""
    """Why there is no value: the check's inputs go back to the printed figure itself."""
    of_warehouse: bool = False
    """From rows of this warehouse rather than from published values."""
    reference: str = ""


@dataclass(frozen=True, kw_only=True)
class Challenge:
    """Something that a method has to stand, and whether it does."""

    name: str = ""
    fails: bool
    """Whether the method fails it."""
    text: str
    """One sentence composed from the numbers: what was found, and the sound number."""
    numbers: Mapping[str, float] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class OwnRuns:
    """What this warehouse's own runs say about a claim."""

    speaks: Speaks
    same_experiment: bool
    """Same model, conditions and metric; else only a claim about the method in general is compared."""
    text: str
    numbers: Mapping[str, float] = field(default_factory=dict)
    runs: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A claim and what became of it: one row of a table."""

    id: str
    section: str
    subject: str
    statistic: str
    printed: str
    unit: str
    verdict: Kind
    recomputed: float | None
    low: float | None
    high: float | None
    text: str
    """One sentence or a few, composed from the numbers."""
    objections: tuple[str, ...]
    """Challenges that the method fails."""
    remarks: tuple[str, ...]
    """Challenges that it stands, and what else was seen."""
    numbers: Mapping[str, float]
    own_runs: OwnRuns | None
    checker: str
    method: str
    reference: str
    inputs: tuple[str, ...]
    provenance: Mapping[str, str] = field(default_factory=dict)
    """Input -> document and table or section it stands in."""

    @property
    def good(self) -> bool:
        return self.verdict in GOOD

    def to_json(self) -> dict[str, Any]:
        """Plain dicts and lists."""
        return asdict(self)
