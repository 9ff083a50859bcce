"""Tables of schema v1 for experiments on weights, written out for revision 0001; never changed after release."""

import sqlalchemy as sa
from alembic import op

REAL = sa.Double().with_variant(sa.REAL(), "sqlite")
TABLES = (
    "alignment_runs",
    "cf90_multiseed",
    "freeze_sweep",
    "hybrid_phases",
    "hybrid_sweep",
    "leaderboard",
)


def create_family_tables() -> None:
    _alignment_runs()
    _cf90_multiseed()
    _freeze_sweep()
    _hybrid_phases()
    _hybrid_sweep()
    _leaderboard()


def _alignment_runs() -> None:
    op.create_table(
        "alignment_runs",
        sa.Column("run_id", sa.Integer(), autoincrement=False, nullable=False, comment="Run."),
        sa.Column(
            "condition", sa.Text(), nullable=False, comment="sft-only, rho-guided, contrastive-only or shuffled-pairs."
        ),
        sa.Column("rho_weight", REAL, comment="λ, weight of the contrastive term."),
        sa.Column("margin", REAL, comment="γ, hinge margin, nats/token."),
        sa.Column("sft_size", sa.Integer(), comment="Training texts of an epoch."),
        sa.Column("lora_rank", sa.Integer(), comment="Rank of the LoRA adapters."),
        sa.Column("lora_alpha", REAL, comment="LoRA alpha; the scale is alpha / rank."),
        sa.Column("epochs", REAL, comment="Passes over the training texts."),
        sa.Column("lr", REAL, comment="Peak learning rate."),
        sa.Column("train_ce_loss", REAL, comment="SFT loss, mean over the last quarter of the steps, nats/token."),
        sa.Column(
            "train_rho_loss", REAL, comment="Hinge before λ, mean over the last quarter of the steps, nats/token."
        ),
        sa.Column("steps", sa.Integer(), comment="Micro-batches."),
        sa.Column("updates", sa.Integer(), comment="Optimizer updates."),
        sa.Column(
            "swapped_share", REAL, comment="Share of the sampled pairs whose labels were swapped (shuffled-pairs only)."
        ),
        sa.Column("adapter_path", sa.Text(), comment="Folder of the saved adapter."),
        sa.CheckConstraint(
            "condition IN ('sft-only', 'rho-guided', 'contrastive-only', 'shuffled-pairs')",
            name=op.f("ck_alignment_runs_condition"),
        ),
        sa.CheckConstraint("lora_rank >= 1", name=op.f("ck_alignment_runs_lora_rank")),
        sa.CheckConstraint("margin >= 0", name=op.f("ck_alignment_runs_margin")),
        sa.CheckConstraint("rho_weight >= 0", name=op.f("ck_alignment_runs_rho_weight")),
        sa.CheckConstraint("sft_size >= 0", name=op.f("ck_alignment_runs_sft_size")),
        sa.CheckConstraint("steps >= 0", name=op.f("ck_alignment_runs_steps")),
        sa.CheckConstraint("swapped_share BETWEEN 0 AND 1", name=op.f("ck_alignment_runs_swapped_share")),
        sa.CheckConstraint("updates >= 0", name=op.f("ck_alignment_runs_updates")),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name=op.f("fk_alignment_runs_run_id_runs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_alignment_runs")),
        comment="Axes and outcomes of rho-guided fine-tuning runs (kind alignment).",
        sqlite_strict=True,
    )
    op.create_index(
        op.f("ix_alignment_runs_condition_rho_weight_margin"),
        "alignment_runs",
        ["condition", "rho_weight", "margin"],
        unique=False,
    )


def _cf90_multiseed() -> None:
    op.create_table(
        "cf90_multiseed",
        sa.Column("run_id", sa.Integer(), autoincrement=False, nullable=False, comment="Run."),
        sa.Column("ratio", REAL, nullable=False, comment="Share of the singular values kept."),
        sa.Column("n_compressed", sa.Integer(), comment="Matrices compressed."),
        sa.Column("retention", REAL, comment="Share of factual probes on the right side, [0, 1]."),
        sa.Column("rho_drop", REAL, comment="Factual truth_corr before minus after compression, as the run states it."),
        sa.CheckConstraint("abs(rho_drop) < 1e300", name=op.f("ck_cf90_multiseed_rho_drop_finite")),
        sa.CheckConstraint("n_compressed >= 0", name=op.f("ck_cf90_multiseed_n_compressed")),
        sa.CheckConstraint("ratio BETWEEN 0 AND 1", name=op.f("ck_cf90_multiseed_ratio")),
        sa.CheckConstraint("retention BETWEEN 0 AND 1", name=op.f("ck_cf90_multiseed_retention")),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name=op.f("fk_cf90_multiseed_run_id_runs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_cf90_multiseed")),
        comment="SVD compression with several seeds (kind cf90).",
        sqlite_strict=True,
    )


def _freeze_sweep() -> None:
    op.create_table(
        "freeze_sweep",
        sa.Column("run_id", sa.Integer(), autoincrement=False, nullable=False, comment="Run."),
        sa.Column(
            "compress_ratio", REAL, nullable=False, comment="Share of the singular values kept; 1: uncompressed."
        ),
        sa.Column(
            "freeze_ratio", REAL, nullable=False, comment="Share of the layers, from the bottom, that is frozen."
        ),
        sa.Column("fine_tuned", sa.Integer(), comment="1 if the rest was fine-tuned afterwards."),
        sa.Column("n_compressed", sa.Integer(), comment="Matrices compressed."),
        sa.Column("n_frozen", sa.Integer(), comment="Layers frozen."),
        sa.Column("train_ce_loss", REAL, comment="SFT loss, mean over the last quarter of the steps, nats/token."),
        sa.CheckConstraint("compress_ratio BETWEEN 0 AND 1", name=op.f("ck_freeze_sweep_compress_ratio")),
        sa.CheckConstraint("fine_tuned IN (0, 1)", name=op.f("ck_freeze_sweep_fine_tuned")),
        sa.CheckConstraint("freeze_ratio BETWEEN 0 AND 1", name=op.f("ck_freeze_sweep_freeze_ratio")),
        sa.CheckConstraint("n_compressed >= 0", name=op.f("ck_freeze_sweep_n_compressed")),
        sa.CheckConstraint("n_frozen >= 0", name=op.f("ck_freeze_sweep_n_frozen")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_freeze_sweep_run_id_runs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_freeze_sweep")),
        comment="SVD compression with frozen layers (kind freeze).",
        sqlite_strict=True,
    )
    op.create_index(
        op.f("ix_freeze_sweep_compress_ratio_freeze_ratio"),
        "freeze_sweep",
        ["compress_ratio", "freeze_ratio"],
        unique=False,
    )


def _hybrid_phases() -> None:
    op.create_table(
        "hybrid_phases",
        sa.Column("run_id", sa.Integer(), autoincrement=False, nullable=False, comment="Run."),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False, comment="From 0."),
        sa.Column("phase", sa.Text(), nullable=False, comment="Name of the phase, e.g. weight_space."),
        sa.Column("seconds", REAL, comment="Duration, s."),
        sa.Column("error", sa.Text(), comment="Why the phase failed."),
        sa.CheckConstraint("position >= 0", name=op.f("ck_hybrid_phases_position")),
        sa.CheckConstraint("seconds >= 0", name=op.f("ck_hybrid_phases_seconds")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_hybrid_phases_run_id_runs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", "position", name=op.f("pk_hybrid_phases")),
        comment="Phases of hybrid runs in their order, with their times.",
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )


def _hybrid_sweep() -> None:
    op.create_table(
        "hybrid_sweep",
        sa.Column("run_id", sa.Integer(), autoincrement=False, nullable=False, comment="Run."),
        sa.Column("compress_ratio", REAL, comment="Share of the singular values kept."),
        sa.Column("freeze_fraction", REAL, comment="Share of the layers that is frozen."),
        sa.Column("sae_layer", sa.Integer(), comment="Layer of the sparse autoencoder; none: not used."),
        sa.Column("rho_weight", REAL, comment="λ, weight of the contrastive term."),
        sa.Column("margin", REAL, comment="γ, hinge margin, nats/token."),
        sa.CheckConstraint("compress_ratio BETWEEN 0 AND 1", name=op.f("ck_hybrid_sweep_compress_ratio")),
        sa.CheckConstraint("freeze_fraction BETWEEN 0 AND 1", name=op.f("ck_hybrid_sweep_freeze_fraction")),
        sa.CheckConstraint("margin >= 0", name=op.f("ck_hybrid_sweep_margin")),
        sa.CheckConstraint("rho_weight >= 0", name=op.f("ck_hybrid_sweep_rho_weight")),
        sa.CheckConstraint("sae_layer >= 0", name=op.f("ck_hybrid_sweep_sae_layer")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_hybrid_sweep_run_id_runs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_hybrid_sweep")),
        comment="Compression, freezing, sparse autoencoder and guided SFT in one pipeline (kind hybrid).",
        sqlite_strict=True,
    )
    op.create_index(
        op.f("ix_hybrid_sweep_compress_ratio_sae_layer_rho_weight"),
        "hybrid_sweep",
        ["compress_ratio", "sae_layer", "rho_weight"],
        unique=False,
    )


def _leaderboard() -> None:
    op.create_table(
        "leaderboard",
        sa.Column("run_id", sa.Integer(), autoincrement=False, nullable=False, comment="Run."),
        sa.Column("label", sa.Text(), nullable=False, comment="Name of the entry."),
        sa.Column("model_type", sa.Text(), comment="original, merged, abliterated, ..., as stated."),
        sa.Column("merge_method", sa.Text(), comment="linear, slerp, task-arithmetic, ties, ..."),
        sa.Column("parents", sa.Text(), comment="Models that were merged, JSON list."),
        sa.Column("weights", sa.Text(), comment="Their weights, JSON list of numbers."),
        sa.Column("description", sa.Text(), comment="Description, as stated."),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_leaderboard_run_id_runs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_leaderboard")),
        comment="Audits of models and merges (kind leaderboard).",
        sqlite_strict=True,
    )
    op.create_index(op.f("ix_leaderboard_label"), "leaderboard", ["label"], unique=False)
