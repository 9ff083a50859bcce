"""Experiments on weights, one table a family: one row a run, with the family's axes and own outcomes."""

from sqlalchemy import Index, Integer, Text
from sqlalchemy.orm import Mapped, mapped_column

from rhodb.schema.base import CLUSTERED, STRICT, Base, Real, at_least, finite, flag, one_of, run_key, share
from rhodb.vocabulary import CONDITIONS


class AlignmentRun(Base):
    __tablename__ = "alignment_runs"
    __table_args__ = (
        one_of("condition", CONDITIONS),
        at_least("rho_weight"),
        at_least("margin"),
        at_least("sft_size"),
        at_least("lora_rank", 1),
        at_least("steps"),
        at_least("updates"),
        share("swapped_share"),
        Index(None, "condition", "rho_weight", "margin"),
        {"comment": "Axes and outcomes of rho-guided fine-tuning runs (kind alignment).", **STRICT},
    )

    run_id: Mapped[int] = run_key()
    condition: Mapped[str] = mapped_column(Text, comment="sft-only, rho-guided, contrastive-only or shuffled-pairs.")
    rho_weight: Mapped[float | None] = mapped_column(Real, comment="λ, weight of the contrastive term.")
    margin: Mapped[float | None] = mapped_column(Real, comment="γ, hinge margin, nats/token.")
    sft_size: Mapped[int | None] = mapped_column(Integer, comment="Training texts of an epoch.")
    lora_rank: Mapped[int | None] = mapped_column(Integer, comment="Rank of the LoRA adapters.")
    lora_alpha: Mapped[float | None] = mapped_column(Real, comment="LoRA alpha; the scale is alpha / rank.")
    epochs: Mapped[float | None] = mapped_column(Real, comment="Passes over the training texts.")
    lr: Mapped[float | None] = mapped_column(Real, comment="Peak learning rate.")
    train_ce_loss: Mapped[float | None] = mapped_column(
        Real, comment="SFT loss, mean over the last quarter of the steps, nats/token."
    )
    train_rho_loss: Mapped[float | None] = mapped_column(
        Real, comment="Hinge before λ, mean over the last quarter of the steps, nats/token."
    )
    steps: Mapped[int | None] = mapped_column(Integer, comment="Micro-batches.")
    updates: Mapped[int | None] = mapped_column(Integer, comment="Optimizer updates.")
    swapped_share: Mapped[float | None] = mapped_column(
        Real, comment="Share of the sampled pairs whose labels were swapped (shuffled-pairs only)."
    )
    adapter_path: Mapped[str | None] = mapped_column(Text, comment="Folder of the saved adapter.")


class FreezeSweep(Base):
    __tablename__ = "freeze_sweep"
    __table_args__ = (
        share("compress_ratio"),
        share("freeze_ratio"),
        flag("fine_tuned"),
        at_least("n_compressed"),
        at_least("n_frozen"),
        Index(None, "compress_ratio", "freeze_ratio"),
        {"comment": "SVD compression with frozen layers (kind freeze).", **STRICT},
    )

    run_id: Mapped[int] = run_key()
    compress_ratio: Mapped[float] = mapped_column(Real, comment="Share of the singular values kept; 1: uncompressed.")
    freeze_ratio: Mapped[float] = mapped_column(Real, comment="Share of the layers, from the bottom, that is frozen.")
    fine_tuned: Mapped[int | None] = mapped_column(Integer, comment="1 if the rest was fine-tuned afterwards.")
    n_compressed: Mapped[int | None] = mapped_column(Integer, comment="Matrices compressed.")
    n_frozen: Mapped[int | None] = mapped_column(Integer, comment="Layers frozen.")
    train_ce_loss: Mapped[float | None] = mapped_column(
        Real, comment="SFT loss, mean over the last quarter of the steps, nats/token."
    )


class Cf90Multiseed(Base):
    __tablename__ = "cf90_multiseed"
    __table_args__ = (
        share("ratio"),
        at_least("n_compressed"),
        share("retention"),
        finite("rho_drop"),
        {"comment": "SVD compression with several seeds (kind cf90).", **STRICT},
    )

    run_id: Mapped[int] = run_key()
    ratio: Mapped[float] = mapped_column(Real, comment="Share of the singular values kept.")
    n_compressed: Mapped[int | None] = mapped_column(Integer, comment="Matrices compressed.")
    retention: Mapped[float | None] = mapped_column(Real, comment="Share of factual probes on the right side, [0, 1].")
    rho_drop: Mapped[float | None] = mapped_column(
        Real, comment="Factual truth_corr before minus after compression, as the run states it."
    )


class HybridSweep(Base):
    __tablename__ = "hybrid_sweep"
    __table_args__ = (
        share("compress_ratio"),
        share("freeze_fraction"),
        at_least("sae_layer"),
        at_least("rho_weight"),
        at_least("margin"),
        Index(None, "compress_ratio", "sae_layer", "rho_weight"),
        {
            "comment": "Compression, freezing, sparse autoencoder and guided SFT in one pipeline (kind hybrid).",
            **STRICT,
        },
    )

    run_id: Mapped[int] = run_key()
    compress_ratio: Mapped[float | None] = mapped_column(Real, comment="Share of the singular values kept.")
    freeze_fraction: Mapped[float | None] = mapped_column(Real, comment="Share of the layers that is frozen.")
    sae_layer: Mapped[int | None] = mapped_column(Integer, comment="Layer of the sparse autoencoder; none: not used.")
    rho_weight: Mapped[float | None] = mapped_column(Real, comment="λ, weight of the contrastive term.")
    margin: Mapped[float | None] = mapped_column(Real, comment="γ, hinge margin, nats/token.")


class HybridPhase(Base):
    __tablename__ = "hybrid_phases"
    __table_args__ = (
        at_least("position"),
        at_least("seconds"),
        {"comment": "Phases of hybrid runs in their order, with their times.", **CLUSTERED},
    )

    run_id: Mapped[int] = run_key()
    position: Mapped[int] = mapped_column(Integer, primary_key=True, comment="From 0.", autoincrement=False)
    phase: Mapped[str] = mapped_column(Text, comment="Name of the phase, e.g. weight_space.")
    seconds: Mapped[float | None] = mapped_column(Real, comment="Duration, s.")
    error: Mapped[str | None] = mapped_column(Text, comment="Why the phase failed.")


class Leaderboard(Base):
    __tablename__ = "leaderboard"
    __table_args__ = (
        Index(None, "label"),
        {"comment": "Audits of models and merges (kind leaderboard).", **STRICT},
    )

    run_id: Mapped[int] = run_key()
    label: Mapped[str] = mapped_column(Text, comment="Name of the entry.")
    model_type: Mapped[str | None] = mapped_column(Text, comment="original, merged, abliterated, ..., as stated.")
    merge_method: Mapped[str | None] = mapped_column(Text, comment="linear, slerp, task-arithmetic, ties, ...")
    parents: Mapped[str | None] = mapped_column(Text, comment="Models that were merged, JSON list.")
    weights: Mapped[str | None] = mapped_column(Text, comment="Their weights, JSON list of numbers.")
    description: Mapped[str | None] = mapped_column(Text, comment="Description, as stated.")
