"""Tables of schema v1 for models, probes, runs and scores, written for revision 0001; never changed after release."""

import sqlalchemy as sa
from alembic import op

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
REAL = sa.Double().with_variant(sa.REAL(), "sqlite")
TABLES = (
    "models",
    "probe_sets",
    "probes",
    "runs",
    "behavior_scores",
    "probe_scores",
    "run_probe_sets",
    "train_steps",
)


def create_core_tables() -> None:
    _models()
    _probe_sets()
    _probes()
    _runs()
    _behavior_scores()
    _probe_scores()
    _run_probe_sets()
    _train_steps()


def _models() -> None:
    op.create_table(
        "models",
        sa.Column("id", sa.Integer(), nullable=False, comment="Row number."),
        sa.Column("key", sa.Text(), nullable=False, comment="Short name, hub id or path that the user gave."),
        sa.Column("source", sa.Text(), nullable=False, comment="Where the weights came from: package, hub or folder."),
        sa.Column("revision", sa.Text(), comment="Hub revision, where there is one."),
        sa.Column(
            "fingerprint",
            sa.Text(),
            nullable=False,
            comment="SHA-256 over the contents of the weight files; unknown for ingested results.",
        ),
        sa.Column("architecture", sa.Text(), comment="Model type of the configuration, e.g. llama."),
        sa.Column("n_layers", sa.Integer(), comment="Decoder layers."),
        sa.Column("n_parameters", BIG, comment="Parameters."),
        sa.Column("quantization", sa.Text(), comment="Quantization of the weight files, e.g. Q4_1."),
        sa.CheckConstraint("n_layers >= 0", name=op.f("ck_models_n_layers")),
        sa.CheckConstraint("n_parameters >= 0", name=op.f("ck_models_n_parameters")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_models")),
        sa.UniqueConstraint("key", "fingerprint", name=op.f("uq_models_key_fingerprint")),
        comment="Language models as they were loaded; identity is (key, fingerprint).",
        sqlite_strict=True,
    )


def _probe_sets() -> None:
    op.create_table(
        "probe_sets",
        sa.Column("id", sa.Integer(), nullable=False, comment="Row number."),
        sa.Column("behavior", sa.Text(), nullable=False, comment="Behavior that the probes measure, e.g. toxicity."),
        sa.Column("name", sa.Text(), nullable=False, comment="Name of the set, e.g. the probe file's path."),
        sa.Column("package", sa.Text(), nullable=False, comment="Package or folder that the file came from."),
        sa.Column("package_version", sa.Text(), comment="Version of that package."),
        sa.Column("fingerprint", sa.Text(), nullable=False, comment="SHA-256 over the canonical JSON of the probes."),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_probe_sets")),
        sa.UniqueConstraint("fingerprint", name=op.f("uq_probe_sets_fingerprint")),
        comment="Files of probes for one behavior; identity is the fingerprint of their contents.",
        sqlite_strict=True,
    )
    op.create_index(op.f("ix_probe_sets_behavior"), "probe_sets", ["behavior"], unique=False)


def _probes() -> None:
    op.create_table(
        "probes",
        sa.Column("id", sa.Integer(), nullable=False, comment="Row number."),
        sa.Column("set_id", sa.Integer(), nullable=False, comment="Probe set it belongs to."),
        sa.Column("key", sa.Text(), nullable=False, comment="Name of the probe, unique in its set."),
        sa.Column("split", sa.Text(), nullable=False, comment="train or eval, by hash of the key."),
        sa.Column("kind", sa.Text(), nullable=False, comment="pair or generation (no second text)."),
        sa.Column("category", sa.Text(), comment="Category that the file gives."),
        sa.Column("positive", sa.Text(), nullable=False, comment="Desired text, prompt included."),
        sa.Column("negative", sa.Text(), comment="Undesired text, prompt included."),
        sa.Column("prompt", sa.Text(), comment="What both texts begin with by construction."),
        sa.CheckConstraint("kind <> 'pair' OR negative IS NOT NULL", name=op.f("ck_probes_pair_has_negative")),
        sa.CheckConstraint("kind IN ('pair', 'generation')", name=op.f("ck_probes_kind")),
        sa.CheckConstraint("split IN ('train', 'eval')", name=op.f("ck_probes_split")),
        sa.ForeignKeyConstraint(["set_id"], ["probe_sets.id"], name=op.f("fk_probes_set_id_probe_sets")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_probes")),
        sa.UniqueConstraint("set_id", "key", name=op.f("uq_probes_set_id_key")),
        comment="Single probes: a desired text and, for a pair, an undesired one.",
        sqlite_strict=True,
    )


def _runs() -> None:
    op.create_table(
        "runs",
        sa.Column("id", sa.Integer(), nullable=False, comment="Row number; other tables point to it."),
        sa.Column(
            "uuid", sa.Text(), nullable=False, comment="Name of the run, made from its identity: same on all machines."
        ),
        sa.Column("kind", sa.Text(), nullable=False, comment="Experiment family, e.g. baseline or alignment."),
        sa.Column("model_id", sa.Integer(), nullable=False, comment="Model it ran on."),
        sa.Column("seed", BIG, nullable=False, comment="Seed of everything random in the run."),
        sa.Column("config", sa.Text(), nullable=False, comment="Resolved configuration, canonical JSON."),
        sa.Column("config_hash", sa.Text(), nullable=False, comment="SHA-256 of config."),
        sa.Column(
            "repeat",
            sa.Integer(),
            server_default="0",
            nullable=False,
            comment="0; of ingested runs that were asked for alike but came out differently, 1, 2, ...",
        ),
        sa.Column(
            "seed_known",
            sa.Integer(),
            server_default="1",
            nullable=False,
            comment="0 if the source names no seed: seed then only numbers the runs.",
        ),
        sa.Column(
            "origin",
            sa.Text(),
            server_default="rhodb",
            nullable=False,
            comment="rhodb: a runner made it; legacy: ingested from a file.",
        ),
        sa.Column(
            "experiment",
            sa.Text(),
            comment="Experiment that an ingested run was part of: its file's own word for it, else the file's stem.",
        ),
        sa.Column(
            "baseline_run_id", sa.Integer(), comment="Run of the untouched model that this one is compared with."
        ),
        sa.Column("state", sa.Text(), nullable=False, comment="planned, running, done or failed."),
        sa.Column("attempt", sa.Integer(), nullable=False, comment="How often the run was begun."),
        sa.Column("planned_at", sa.Text(), nullable=False, comment="When the row was made, UTC, ISO 8601."),
        sa.Column("started_at", sa.Text(), comment="Begin of the last attempt, UTC, ISO 8601."),
        sa.Column("finished_at", sa.Text(), comment="End of the last attempt, UTC, ISO 8601."),
        sa.Column("seconds", REAL, comment="Duration of the last attempt, s."),
        sa.Column("host", sa.Text(), comment="Machine that runs or ran it."),
        sa.Column("pid", sa.Integer(), comment="Process that runs or ran it."),
        sa.Column(
            "process_started", REAL, comment="Start of that process, Unix time in s: tells a reused process number."
        ),
        sa.Column("heartbeat_at", sa.Text(), comment="Last sign of life while running, UTC, ISO 8601."),
        sa.Column("device", sa.Text(), comment="MLX device."),
        sa.Column("platform", sa.Text(), comment="Operating system and machine."),
        sa.Column("python", sa.Text(), comment="Python version."),
        sa.Column("blas", sa.Text(), comment="BLAS that MLX used on the CPU."),
        sa.Column("git_commit", sa.Text(), comment="Commit of the code that ran."),
        sa.Column("git_dirty", sa.Integer(), comment="1 if that checkout had local changes."),
        sa.Column("versions", sa.Text(), comment="Package versions, JSON."),
        sa.Column("error", sa.Text(), comment="Why the last attempt failed; only in state failed."),
        sa.Column("notes", sa.Text(), nullable=False, comment="Facts without a column of their own, JSON."),
        sa.Column("extra", sa.Text(), comment="Keys of an ingested run that no column holds, JSON."),
        sa.CheckConstraint("(state = 'failed') = (error IS NOT NULL)", name=op.f("ck_runs_error")),
        sa.CheckConstraint("origin IN ('rhodb', 'legacy')", name=op.f("ck_runs_origin")),
        sa.CheckConstraint("state IN ('planned', 'running', 'done', 'failed')", name=op.f("ck_runs_state")),
        sa.CheckConstraint(
            "state NOT IN ('done', 'failed') OR finished_at IS NOT NULL OR origin <> 'rhodb'",
            name=op.f("ck_runs_finished"),
        ),
        sa.CheckConstraint("attempt >= 0", name=op.f("ck_runs_attempt")),
        sa.CheckConstraint("git_dirty IN (0, 1)", name=op.f("ck_runs_git_dirty")),
        sa.CheckConstraint("repeat >= 0", name=op.f("ck_runs_repeat")),
        sa.CheckConstraint("seconds >= 0", name=op.f("ck_runs_seconds")),
        sa.CheckConstraint("seed >= 0", name=op.f("ck_runs_seed")),
        sa.CheckConstraint("seed_known IN (0, 1)", name=op.f("ck_runs_seed_known")),
        sa.ForeignKeyConstraint(["baseline_run_id"], ["runs.id"], name=op.f("fk_runs_baseline_run_id_runs")),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name=op.f("fk_runs_model_id_models")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_runs")),
        sa.UniqueConstraint(
            "kind",
            "model_id",
            "seed",
            "config_hash",
            "repeat",
            name=op.f("uq_runs_kind_model_id_seed_config_hash_repeat"),
        ),
        sa.UniqueConstraint("uuid", name=op.f("uq_runs_uuid")),
        comment="One row a run: what was asked for (identity), how far it is (state), how it went.",
        sqlite_strict=True,
    )
    op.create_index(op.f("ix_runs_baseline_run_id"), "runs", ["baseline_run_id"], unique=False)
    op.create_index(op.f("ix_runs_model_id_kind"), "runs", ["model_id", "kind"], unique=False)
    op.create_index(op.f("ix_runs_state_kind"), "runs", ["state", "kind"], unique=False)


def _behavior_scores() -> None:
    op.create_table(
        "behavior_scores",
        sa.Column("run_id", sa.Integer(), autoincrement=False, nullable=False, comment="Run."),
        sa.Column("behavior", sa.Text(), nullable=False, comment="Behavior, e.g. toxicity."),
        sa.Column("metric", sa.Text(), nullable=False, comment="Metric, e.g. gap (nats/token)."),
        sa.Column(
            "split",
            sa.Text(),
            nullable=False,
            comment="Probes scored: train, eval, or none (the run did not split them).",
        ),
        sa.Column("value", REAL, nullable=False, comment="The score, in the metric's unit."),
        sa.Column("se", REAL, comment="Standard error of the score over probes."),
        sa.Column("n", sa.Integer(), comment="Pairs or texts that the score rests on, where known."),
        sa.CheckConstraint(
            "metric IN ('gap', 'answer_gap', 'rho', 'pair_accuracy', 'auc', 'truth_corr', "
            "'choice_accuracy', 'answer_rate', 'accuracy', 'refusal_rate', 'retention', 'brier', 'ece')",
            name=op.f("ck_behavior_scores_metric"),
        ),
        sa.CheckConstraint(
            "metric NOT IN ('pair_accuracy', 'auc', 'answer_rate', 'accuracy', 'refusal_rate', 'retention', "
            "'brier', 'ece') OR value BETWEEN 0 AND 1",
            name=op.f("ck_behavior_scores_unit_range"),
        ),
        sa.CheckConstraint(
            "metric NOT IN ('rho', 'truth_corr', 'choice_accuracy') OR value BETWEEN -1 AND 1",
            name=op.f("ck_behavior_scores_signed_unit_range"),
        ),
        sa.CheckConstraint("split IN ('train', 'eval', 'none')", name=op.f("ck_behavior_scores_split")),
        sa.CheckConstraint("abs(value) < 1e300", name=op.f("ck_behavior_scores_value_finite")),
        sa.CheckConstraint("n >= 1", name=op.f("ck_behavior_scores_n")),
        sa.CheckConstraint("se >= 0", name=op.f("ck_behavior_scores_se")),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name=op.f("fk_behavior_scores_run_id_runs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", "behavior", "metric", "split", name=op.f("pk_behavior_scores")),
        comment="Every score: one row a run, behavior, metric and split. No row: not measured.",
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_index(
        op.f("ix_behavior_scores_behavior_metric_split"),
        "behavior_scores",
        ["behavior", "metric", "split"],
        unique=False,
    )


def _probe_scores() -> None:
    op.create_table(
        "probe_scores",
        sa.Column("run_id", sa.Integer(), autoincrement=False, nullable=False, comment="Run."),
        sa.Column("probe_id", sa.Integer(), autoincrement=False, nullable=False, comment="Probe."),
        sa.Column("side", sa.Text(), nullable=False, comment="positive or negative text of the pair."),
        sa.Column("split", sa.Text(), nullable=False, comment="How the run used the probe: train, eval or none."),
        sa.Column("tokens", sa.Integer(), nullable=False, comment="Scored tokens of the whole text."),
        sa.Column("ce", REAL, nullable=False, comment="Cross-entropy of the whole text, nats/token."),
        sa.Column("answer_tokens", sa.Integer(), comment="Tokens after the shared prompt."),
        sa.Column("answer_ce", REAL, comment="Cross-entropy of those tokens, nats/token."),
        sa.Column("truncated", sa.Integer(), nullable=False, comment="1 if the text was cut at the length limit."),
        sa.CheckConstraint("side IN ('positive', 'negative')", name=op.f("ck_probe_scores_side")),
        sa.CheckConstraint("split IN ('train', 'eval', 'none')", name=op.f("ck_probe_scores_split")),
        sa.CheckConstraint("(answer_tokens IS NULL) = (answer_ce IS NULL)", name=op.f("ck_probe_scores_answer")),
        sa.CheckConstraint("abs(answer_ce) < 1e300", name=op.f("ck_probe_scores_answer_ce_finite")),
        sa.CheckConstraint("abs(ce) < 1e300", name=op.f("ck_probe_scores_ce_finite")),
        sa.CheckConstraint("answer_tokens >= 1", name=op.f("ck_probe_scores_answer_tokens")),
        sa.CheckConstraint("tokens >= 1", name=op.f("ck_probe_scores_tokens")),
        sa.CheckConstraint("truncated IN (0, 1)", name=op.f("ck_probe_scores_truncated")),
        sa.ForeignKeyConstraint(["probe_id"], ["probes.id"], name=op.f("fk_probe_scores_probe_id_probes")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_probe_scores_run_id_runs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", "probe_id", "side", name=op.f("pk_probe_scores")),
        comment="Cross-entropy of single probe texts: the raw material of the metrics.",
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )


def _run_probe_sets() -> None:
    op.create_table(
        "run_probe_sets",
        sa.Column("run_id", sa.Integer(), autoincrement=False, nullable=False, comment="Run."),
        sa.Column("probe_set_id", sa.Integer(), autoincrement=False, nullable=False, comment="Probe set."),
        sa.ForeignKeyConstraint(
            ["probe_set_id"], ["probe_sets.id"], name=op.f("fk_run_probe_sets_probe_set_id_probe_sets")
        ),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name=op.f("fk_run_probe_sets_run_id_runs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", "probe_set_id", name=op.f("pk_run_probe_sets")),
        comment="Which probe sets a run was scored with.",
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_run_probe_sets_probe_set_id"), "run_probe_sets", ["probe_set_id"], unique=False)


def _train_steps() -> None:
    op.create_table(
        "train_steps",
        sa.Column("run_id", sa.Integer(), autoincrement=False, nullable=False, comment="Run."),
        sa.Column("step", sa.Integer(), autoincrement=False, nullable=False, comment="Micro-batch, from 1."),
        sa.Column("ce_loss", REAL, comment="SFT loss, nats/token."),
        sa.Column("rho_loss", REAL, comment="Mean hinge over pairs before λ, nats/token."),
        sa.Column("active_pairs", sa.Integer(), comment="Pairs with a hinge above 0."),
        sa.Column("pairs", sa.Integer(), comment="Pairs of the step."),
        sa.Column("lr", REAL, nullable=False, comment="Learning rate."),
        sa.Column("grad_norm", REAL, comment="L2 norm of the gradient, on updates only."),
        sa.Column("tokens", sa.Integer(), nullable=False, comment="Tokens of the step."),
        sa.Column("seconds", REAL, nullable=False, comment="Duration of the step, s."),
        sa.CheckConstraint("active_pairs BETWEEN 0 AND pairs", name=op.f("ck_train_steps_active_pairs")),
        sa.CheckConstraint("seconds >= 0", name=op.f("ck_train_steps_seconds")),
        sa.CheckConstraint("step >= 1", name=op.f("ck_train_steps_step")),
        sa.CheckConstraint("tokens >= 0", name=op.f("ck_train_steps_tokens")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_train_steps_run_id_runs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", "step", name=op.f("pk_train_steps")),
        comment="Training curves: one row a micro-batch.",
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
