"""Rows of the experiments' own tables, as runners return them. A missing value is None, never a zero."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class AlignmentRow:
    """The family row of a run of kind `alignment`: its axes and its own outcomes."""

    condition: str
    rho_weight: float
    margin: float | None
    sft_size: int
    lora_rank: int
    lora_alpha: float
    epochs: float
    lr: float
    train_ce_loss: float | None
    """Mean over the last quarter of the steps."""
    train_rho_loss: float | None
    steps: int
    updates: int
    swapped_share: float | None
    """Share of sampled pairs whose labels were swapped (shuffled-pairs only)."""
    adapter_path: str | None


@dataclass(frozen=True, kw_only=True)
class LandscapeRow:
    """The family row of a run of kind `landscape`: the graph of similar probe texts, and its communities as a whole."""

    threshold: float
    """Texts whose cosine exceeds it are joined."""
    resolution: float
    """Louvain's γ; the run's seed is Louvain's seed."""
    nodes: int
    primary_nodes: int
    edges: int
    clusters: int
    """Communities, those of one node included."""
    singletons: int
    modularity: float


@dataclass(frozen=True, kw_only=True)
class ClusterRow:
    """A community of the landscape."""

    cluster: int
    """Number from 0, by size descending."""
    size: int
    dominant_behavior: str
    dominance: float
    """Share of the dominant behavior among the members, (0, 1]."""
    central_node: int
    centrality: float
    """Degree centrality of that node inside the cluster."""
    central_ties: int
    """Nodes that are equally central, itself included."""


@dataclass(frozen=True, kw_only=True)
class ClusterMemberRow:
    """A text of the landscape and its place."""

    node: int
    """Number from 0, in the order of the probe files."""
    cluster: int
    behavior: str
    set_name: str
    probe_key: str
    """Id of the entry in its file."""
    variant: str
    """primary, deceptive, harmful or negative."""
    pair_key: str | None
    """Key in `probes` of the probe that scores use it in; None for a toxicity text without a counterpart."""
    split: str | None
    """train or eval: that probe's side by hash of its key."""
    cluster_split: str | None
    """The same where similar probes stay together (`--probe-split cluster`)."""
    text_hash: str
    """SHA-256 of the text: its key in the table `embeddings`."""
    degree: int
    """Edges to other texts, in any cluster."""
    x: float | None
    """Place on the two-dimensional map; None where the run drew none."""
    y: float | None


@dataclass(frozen=True, kw_only=True)
class FreezeRow:
    """The family row of a run of kind `freeze`."""

    table: Literal["freeze_sweep"] = "freeze_sweep"
    compress_ratio: float
    """Share of the singular values kept, (0, 1]; 1 is uncompressed."""
    freeze_ratio: float
    """Share of the layers, from the bottom, that is frozen, [0, 1]."""
    fine_tuned: bool | None
    n_compressed: int | None = None
    """Matrices compressed."""
    n_frozen: int | None = None
    """Layers frozen."""
    train_ce_loss: float | None = None
    """nats/token, mean over the last quarter of the steps."""


@dataclass(frozen=True, kw_only=True)
class Cf90Row:
    """The family row of a run of kind `cf90`."""

    table: Literal["cf90_multiseed"] = "cf90_multiseed"
    ratio: float
    n_compressed: int | None
    retention: float | None
    """Share of factual probes on the right side, [0, 1]."""
    rho_drop: float | None
    """Factual `truth_corr` before minus after."""


@dataclass(frozen=True, kw_only=True)
class SteeringRow:
    """The family row of a run of kind `steering`."""

    table: Literal["steering_heatmap"] = "steering_heatmap"
    layer: int
    """From 0."""
    depth: float | None
    """Layer divided by the number of layers, [0, 1]."""
    alpha: float | None
    vector_norm: float | None
    """Euclidean norm of the vector, before α."""
    steered_behavior: str | None
    method: str | None
    """How the vector was made."""
    control: int | None = None
    """Number of the random control vector, from 0; None for the real vector."""


@dataclass(frozen=True, kw_only=True)
class AttackDefenseRow:
    """The family row of a run of kind `attack_defense`."""

    table: Literal["attack_defense"] = "attack_defense"
    layer: int
    target_behavior: str
    scale: float
    """Factor of the target's features; 1 leaves the model unchanged."""
    n_features: int | None
    n_regressed: int | None
    """Other behaviors that became worse."""
    mean_collateral: float | None
    """Mean Δ of the other behaviors."""
    reconstruction_error: float | None = None
    """Share of the activations' variance that the autoencoder misses."""
    l0: float | None = None
    """Mean number of active features a token."""
    dead_features: int | None = None


@dataclass(frozen=True, kw_only=True)
class HybridRow:
    """The family row of a run of kind `hybrid`."""

    table: Literal["hybrid_sweep"] = "hybrid_sweep"
    compress_ratio: float | None
    freeze_fraction: float | None
    sae_layer: int | None
    """None: no autoencoder."""
    rho_weight: float | None
    margin: float | None


@dataclass(frozen=True, kw_only=True)
class HybridPhaseRow:
    """A phase of a hybrid run."""

    table: Literal["hybrid_phases"] = "hybrid_phases"
    position: int
    """From 0."""
    phase: str
    seconds: float | None
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class LeaderboardRow:
    """The family row of a run of kind `leaderboard`."""

    table: Literal["leaderboard"] = "leaderboard"
    label: str
    model_type: str | None = None
    merge_method: str | None = None
    parents: tuple[str, ...] | None = None
    weights: tuple[float, ...] | None = None
    description: str | None = None


@dataclass(frozen=True, kw_only=True)
class FidelityRow:
    """The family row of a run of kind `fidelity`; its scores are `FidelityCategoryRow`s."""

    table: Literal["fidelity_bench"] = "fidelity_bench"
    n_categories: int


@dataclass(frozen=True, kw_only=True)
class FidelityCategoryRow:
    """The scores of one category of probes."""

    table: Literal["fidelity_categories"] = "fidelity_categories"
    category: str
    n_probes: int | None
    """Pairs."""
    truth_corr: float | None
    p: float | None
    """p value of truth_corr."""
    mean_delta: float | None
    """Mean confidence of the true text minus that of the false one, nats/token."""
    pair_accuracy: float | None


@dataclass(frozen=True, kw_only=True)
class StressRow:
    """The family row of a run of kind `stress`."""

    table: Literal["stress_tests"] = "stress_tests"
    condition: str
    """`baseline` for the untouched model."""
    training_run: str | None
    """uuid of the run whose adapter answered."""
    n_jailbreak: int | None
    jailbreak_refused: int | None
    n_benign: int | None
    benign_refused: int | None
    judge: str | None


@dataclass(frozen=True, kw_only=True)
class StressResponseRow:
    """One answer of a stress test."""

    table: Literal["stress_responses"] = "stress_responses"
    prompt_key: str
    kind: str
    """`jailbreak` or `benign`."""
    category: str | None
    prompt: str | None
    response: str | None
    refused: bool | None
    judge: str | None
    rule: str | None = None
    """Which of the judge's rules decided."""
    tokens: int | None = None
    seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class CheckpointScoreRow:
    """A score of an alignment run on the way, before its last step."""

    table: Literal["checkpoint_scores"] = "checkpoint_scores"
    step: int
    """Micro-batches done."""
    epochs: float
    """Passes over the SFT texts done."""
    behavior: str
    metric: str
    split: str
    value: float
    se: float | None
    n: int


@dataclass(frozen=True, kw_only=True)
class GeneratedAnswerRow:
    """The answer to a generation probe."""

    table: Literal["generated_answers"] = "generated_answers"
    behavior: str
    """reasoning or overrefusal."""
    probe_key: str
    variant: str
    """`clean` or `flattered` for a problem, `question` for a benign question."""
    split: str
    response: str
    success: bool
    """The problem was solved; the question was refused."""
    rule: str
    """What decided: how the number was found, or which rule of the refusal judge."""
    tokens: int
    seconds: float


FamilyRow = (
    FreezeRow
    | Cf90Row
    | SteeringRow
    | AttackDefenseRow
    | HybridRow
    | HybridPhaseRow
    | LeaderboardRow
    | FidelityRow
    | FidelityCategoryRow
    | StressRow
    | StressResponseRow
    | CheckpointScoreRow
    | GeneratedAnswerRow
)
"""A row of an experiment's own table. Its field `table` names the table, the other fields are its columns."""
