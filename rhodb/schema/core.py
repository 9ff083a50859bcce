"""The tables every experiment shares: models, probes, runs and their scores."""

from sqlalchemy import CheckConstraint, ForeignKey, Index, Integer, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from rhodb.schema.base import CLUSTERED, STRICT, Base, Big, Real, at_least, finite, flag, one_of
from rhodb.vocabulary import METRICS, RUN_ORIGINS, RUN_STATES, SIDES, SIGNED_UNIT_METRICS, SPLITS, UNIT_METRICS


def _range_of(metrics: tuple[str, ...], low: int, name: str) -> CheckConstraint:
    quoted = ", ".join(f"'{metric}'" for metric in metrics)
    return CheckConstraint(f"metric NOT IN ({quoted}) OR value BETWEEN {low} AND 1", name=name)


class Model(Base):
    __tablename__ = "models"
    __table_args__ = (
        UniqueConstraint("key", "fingerprint"),
        at_least("n_layers"),
        at_least("n_parameters"),
        {"comment": "Language models as they were loaded; identity is (key, fingerprint).", **STRICT},
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True, comment="Row number.")
    key: Mapped[str] = mapped_column(Text, comment="Short name, hub id or path that the user gave.")
    source: Mapped[str] = mapped_column(Text, comment="Where the weights came from: package, hub or folder.")
    revision: Mapped[str | None] = mapped_column(Text, comment="Hub revision, where there is one.")
    fingerprint: Mapped[str] = mapped_column(
        Text, comment="SHA-256 over the contents of the weight files; unknown for ingested results."
    )
    architecture: Mapped[str | None] = mapped_column(Text, comment="Model type of the configuration, e.g. llama.")
    n_layers: Mapped[int | None] = mapped_column(Integer, comment="Decoder layers.")
    n_parameters: Mapped[int | None] = mapped_column(Big, comment="Parameters.")
    quantization: Mapped[str | None] = mapped_column(Text, comment="Quantization of the weight files, e.g. Q4_1.")


class ProbeSet(Base):
    __tablename__ = "probe_sets"
    __table_args__ = (
        UniqueConstraint("fingerprint"),
        Index(None, "behavior"),
        {"comment": "Files of probes for one behavior; identity is the fingerprint of their contents.", **STRICT},
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True, comment="Row number.")
    behavior: Mapped[str] = mapped_column(Text, comment="Behavior that the probes measure, e.g. toxicity.")
    name: Mapped[str] = mapped_column(Text, comment="Name of the set, e.g. the probe file's path.")
    package: Mapped[str] = mapped_column(Text, comment="Package or folder that the file came from.")
    package_version: Mapped[str | None] = mapped_column(Text, comment="Version of that package.")
    fingerprint: Mapped[str] = mapped_column(Text, comment="SHA-256 over the canonical JSON of the probes.")


class Probe(Base):
    __tablename__ = "probes"
    __table_args__ = (
        UniqueConstraint("set_id", "key"),
        one_of("split", ("train", "eval")),
        one_of("kind", ("pair", "generation")),
        CheckConstraint("kind <> 'pair' OR negative IS NOT NULL", name="pair_has_negative"),
        {"comment": "Single probes: a desired text and, for a pair, an undesired one.", **STRICT},
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True, comment="Row number.")
    set_id: Mapped[int] = mapped_column(ForeignKey("probe_sets.id"), comment="Probe set it belongs to.")
    key: Mapped[str] = mapped_column(Text, comment="Name of the probe, unique in its set.")
    split: Mapped[str] = mapped_column(Text, comment="train or eval, by hash of the key.")
    kind: Mapped[str] = mapped_column(Text, comment="pair or generation (no second text).")
    category: Mapped[str | None] = mapped_column(Text, comment="Category that the file gives.")
    positive: Mapped[str] = mapped_column(Text, comment="Desired text, prompt included.")
    negative: Mapped[str | None] = mapped_column(Text, comment="Undesired text, prompt included.")
    prompt: Mapped[str | None] = mapped_column(Text, comment="What both texts begin with by construction.")


class Run(Base):
    __tablename__ = "runs"
    __table_args__ = (
        UniqueConstraint("kind", "model_id", "seed", "config_hash", "repeat"),
        UniqueConstraint("uuid"),
        one_of("state", RUN_STATES),
        one_of("origin", RUN_ORIGINS),
        at_least("repeat"),
        flag("seed_known"),
        at_least("seed"),
        at_least("attempt"),
        at_least("seconds"),
        flag("git_dirty"),
        CheckConstraint(
            "state NOT IN ('done', 'failed') OR finished_at IS NOT NULL OR origin <> 'rhodb'", name="finished"
        ),
        CheckConstraint("(state = 'failed') = (error IS NOT NULL)", name="error"),
        Index(None, "baseline_run_id"),
        Index(None, "state", "kind"),
        Index(None, "model_id", "kind"),
        {"comment": "One row a run: what was asked for (identity), how far it is (state), how it went.", **STRICT},
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True, comment="Row number; other tables point to it.")
    uuid: Mapped[str] = mapped_column(Text, comment="Name of the run, made from its identity: same on all machines.")
    kind: Mapped[str] = mapped_column(Text, comment="Experiment family, e.g. baseline or alignment.")
    model_id: Mapped[int] = mapped_column(ForeignKey("models.id"), comment="Model it ran on.")
    seed: Mapped[int] = mapped_column(Big, comment="Seed of everything random in the run.")
    config: Mapped[str] = mapped_column(Text, comment="Resolved configuration, canonical JSON.")
    config_hash: Mapped[str] = mapped_column(Text, comment="SHA-256 of config.")
    repeat: Mapped[int] = mapped_column(
        Integer,
        default=0,
        server_default="0",
        comment="0; of ingested runs that were asked for alike but came out differently, 1, 2, ...",
    )
    seed_known: Mapped[int] = mapped_column(
        Integer,
        default=1,
        server_default="1",
        comment="0 if the source names no seed: seed then only numbers the runs.",
    )
    origin: Mapped[str] = mapped_column(
        Text, default="rhodb", server_default="rhodb", comment="rhodb: a runner made it; legacy: ingested from a file."
    )
    experiment: Mapped[str | None] = mapped_column(
        Text, comment="Experiment that an ingested run was part of: its file's own word for it, else the file's stem."
    )
    baseline_run_id: Mapped[int | None] = mapped_column(
        ForeignKey("runs.id"), comment="Run of the untouched model that this one is compared with."
    )
    state: Mapped[str] = mapped_column(Text, comment="planned, running, done or failed.")
    attempt: Mapped[int] = mapped_column(Integer, comment="How often the run was begun.")
    planned_at: Mapped[str] = mapped_column(Text, comment="When the row was made, UTC, ISO 8601.")
    started_at: Mapped[str | None] = mapped_column(Text, comment="Begin of the last attempt, UTC, ISO 8601.")
    finished_at: Mapped[str | None] = mapped_column(Text, comment="End of the last attempt, UTC, ISO 8601.")
    seconds: Mapped[float | None] = mapped_column(Real, comment="Duration of the last attempt, s.")
    host: Mapped[str | None] = mapped_column(Text, comment="Machine that runs or ran it.")
    pid: Mapped[int | None] = mapped_column(Integer, comment="Process that runs or ran it.")
    process_started: Mapped[float | None] = mapped_column(
        Real, comment="Start of that process, Unix time in s: tells a reused process number."
    )
    heartbeat_at: Mapped[str | None] = mapped_column(Text, comment="Last sign of life while running, UTC, ISO 8601.")
    device: Mapped[str | None] = mapped_column(Text, comment="MLX device.")
    platform: Mapped[str | None] = mapped_column(Text, comment="Operating system and machine.")
    python: Mapped[str | None] = mapped_column(Text, comment="Python version.")
    blas: Mapped[str | None] = mapped_column(Text, comment="BLAS that MLX used on the CPU.")
    git_commit: Mapped[str | None] = mapped_column(Text, comment="Commit of the code that ran.")
    git_dirty: Mapped[int | None] = mapped_column(Integer, comment="1 if that checkout had local changes.")
    versions: Mapped[str | None] = mapped_column(Text, comment="Package versions, JSON.")
    error: Mapped[str | None] = mapped_column(Text, comment="Why the last attempt failed; only in state failed.")
    notes: Mapped[str] = mapped_column(Text, comment="Facts without a column of their own, JSON.", default="{}")
    extra: Mapped[str | None] = mapped_column(Text, comment="Keys of an ingested run that no column holds, JSON.")


class RunProbeSet(Base):
    __tablename__ = "run_probe_sets"
    __table_args__ = (
        Index(None, "probe_set_id"),
        {"comment": "Which probe sets a run was scored with.", **CLUSTERED},
    )

    run_id: Mapped[int] = mapped_column(
        ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True, comment="Run.", autoincrement=False
    )
    probe_set_id: Mapped[int] = mapped_column(
        ForeignKey("probe_sets.id"), primary_key=True, comment="Probe set.", autoincrement=False
    )


class BehaviorScore(Base):
    __tablename__ = "behavior_scores"
    __table_args__ = (
        one_of("metric", tuple(METRICS)),
        one_of("split", SPLITS),
        _range_of(SIGNED_UNIT_METRICS, -1, "signed_unit_range"),
        _range_of(UNIT_METRICS, 0, "unit_range"),
        finite("value"),
        at_least("se"),
        at_least("n", 1),
        Index(None, "behavior", "metric", "split"),
        {"comment": "Every score: one row a run, behavior, metric and split. No row: not measured.", **CLUSTERED},
    )

    run_id: Mapped[int] = mapped_column(
        ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True, comment="Run.", autoincrement=False
    )
    behavior: Mapped[str] = mapped_column(Text, primary_key=True, comment="Behavior, e.g. toxicity.")
    metric: Mapped[str] = mapped_column(Text, primary_key=True, comment="Metric, e.g. gap (nats/token).")
    split: Mapped[str] = mapped_column(
        Text, primary_key=True, comment="Probes scored: train, eval, or none (the run did not split them)."
    )
    value: Mapped[float] = mapped_column(Real, comment="The score, in the metric's unit.")
    se: Mapped[float | None] = mapped_column(Real, comment="Standard error of the score over probes.")
    n: Mapped[int | None] = mapped_column(Integer, comment="Pairs or texts that the score rests on, where known.")


class ProbeScore(Base):
    __tablename__ = "probe_scores"
    __table_args__ = (
        one_of("side", SIDES),
        one_of("split", SPLITS),
        at_least("tokens", 1),
        finite("ce"),
        at_least("answer_tokens", 1),
        finite("answer_ce"),
        CheckConstraint("(answer_tokens IS NULL) = (answer_ce IS NULL)", name="answer"),
        flag("truncated"),
        {"comment": "Cross-entropy of single probe texts: the raw material of the metrics.", **CLUSTERED},
    )

    run_id: Mapped[int] = mapped_column(
        ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True, comment="Run.", autoincrement=False
    )
    probe_id: Mapped[int] = mapped_column(
        ForeignKey("probes.id"), primary_key=True, comment="Probe.", autoincrement=False
    )
    side: Mapped[str] = mapped_column(Text, primary_key=True, comment="positive or negative text of the pair.")
    split: Mapped[str] = mapped_column(Text, comment="How the run used the probe: train, eval or none.")
    tokens: Mapped[int] = mapped_column(Integer, comment="Scored tokens of the whole text.")
    ce: Mapped[float] = mapped_column(Real, comment="Cross-entropy of the whole text, nats/token.")
    answer_tokens: Mapped[int | None] = mapped_column(Integer, comment="Tokens after the shared prompt.")
    answer_ce: Mapped[float | None] = mapped_column(Real, comment="Cross-entropy of those tokens, nats/token.")
    truncated: Mapped[int] = mapped_column(Integer, comment="1 if the text was cut at the length limit.")


class TrainStep(Base):
    __tablename__ = "train_steps"
    __table_args__ = (
        at_least("step", 1),
        at_least("tokens"),
        at_least("seconds"),
        CheckConstraint("active_pairs BETWEEN 0 AND pairs", name="active_pairs"),
        {"comment": "Training curves: one row a micro-batch.", **CLUSTERED},
    )

    run_id: Mapped[int] = mapped_column(
        ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True, comment="Run.", autoincrement=False
    )
    step: Mapped[int] = mapped_column(Integer, primary_key=True, comment="Micro-batch, from 1.", autoincrement=False)
    ce_loss: Mapped[float | None] = mapped_column(Real, comment="SFT loss, nats/token.")
    rho_loss: Mapped[float | None] = mapped_column(Real, comment="Mean hinge over pairs before λ, nats/token.")
    active_pairs: Mapped[int | None] = mapped_column(Integer, comment="Pairs with a hinge above 0.")
    pairs: Mapped[int | None] = mapped_column(Integer, comment="Pairs of the step.")
    lr: Mapped[float] = mapped_column(Real, comment="Learning rate.")
    grad_norm: Mapped[float | None] = mapped_column(Real, comment="L2 norm of the gradient, on updates only.")
    tokens: Mapped[int] = mapped_column(Integer, comment="Tokens of the step.")
    seconds: Mapped[float] = mapped_column(Real, comment="Duration of the step, s.")
