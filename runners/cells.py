"""The vocabulary of execution: a runner is declared, its grid expands into cells, a cell yields typed rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from rhodb.family_records import AlignmentRow, ClusterMemberRow, ClusterRow, FamilyRow, LandscapeRow
from rhodb.records import ModelRecord, ProbeScoreRow, ProbeSetRecord, RunIdentity, ScoreRow, TrainStepRow
from runners.config import RunConfig

C = TypeVar("C", bound=RunConfig)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One run to be executed."""

    identity: RunIdentity
    label: str
    """Short name for people, e.g. `rho-guided λ=0.2 γ=0.1 seed 42`."""
    baseline: RunIdentity | None
    train_work: float
    score_work: float
    """Expected cost of each phase in tokens of a forward pass; a trained token counts three times."""
    requires: tuple[RunIdentity, ...] = ()
    """Runs of the plan, besides the baseline, that must be done before."""

    @property
    def needs(self) -> tuple[RunIdentity, ...]:
        """All runs that must be done before this one."""
        return self.requires if self.baseline is None else (self.baseline, *self.requires)

    @property
    def work(self) -> float:
        return self.train_work + self.score_work


@dataclass(frozen=True, kw_only=True)
class CellRows:
    """What executing a cell returns. The executor adds identity, times and provenance."""

    scores: Sequence[ScoreRow] = ()
    probe_scores: Sequence[ProbeScoreRow] = ()
    train_steps: Sequence[TrainStepRow] = ()
    alignment: AlignmentRow | None = None
    landscape: LandscapeRow | None = None
    clusters: Sequence[ClusterRow] = ()
    cluster_members: Sequence[ClusterMemberRow] = ()
    family_rows: Sequence[FamilyRow] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)


class CellProgress(Protocol):
    """What a cell reports while it runs; a reporter shows it or not."""

    def step(self, row: TrainStepRow, total: int) -> None: ...

    def scored(self, done: int, total: int) -> None: ...


class Described(Protocol):
    """What is to be run, as far as planning and storing need to know it."""

    @property
    def model(self) -> ModelRecord: ...

    @property
    def probe_sets(self) -> Mapping[str, ProbeSetRecord]:
        """The sets that the cells score, by fingerprint."""

    @property
    def cells(self) -> Sequence[Cell]:
        """Baselines before the cells that are compared with them."""


class Session(Described, Protocol):
    """A runner made ready: model loaded, probes selected, grid expanded."""

    def execute(self, cell: Cell, artefacts: Path, progress: CellProgress) -> CellRows:
        """Run one cell. `artefacts` is a folder of the cell's own that the session may create and fill."""

    def seconds_per_work(self) -> float:
        """A quick measurement on this machine: seconds for one unit of `Cell.work`."""


class Runner(Protocol, Generic[C]):
    """A declared experiment."""

    @property
    def config(self) -> type[C]: ...

    def prepare(self, config: C) -> Session: ...
