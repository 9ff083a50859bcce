"""Tables of schema v1 for scores on the way and generated answers, written for revision 0001."""

import sqlalchemy as sa
from alembic import op

REAL = sa.Double().with_variant(sa.REAL(), "sqlite")
TABLES = ("checkpoint_scores", "generated_answers")


def create_training_tables() -> None:
    _checkpoint_scores()
    _generated_answers()


def _checkpoint_scores() -> None:
    op.create_table(
        "checkpoint_scores",
        sa.Column("run_id", sa.Integer(), autoincrement=False, nullable=False, comment="Run."),
        sa.Column("step", sa.Integer(), autoincrement=False, nullable=False, comment="Micro-batches done."),
        sa.Column("behavior", sa.Text(), nullable=False, comment="Behavior."),
        sa.Column("metric", sa.Text(), nullable=False, comment="Metric, e.g. gap (nats/token)."),
        sa.Column("split", sa.Text(), nullable=False, comment="train, eval, or none."),
        sa.Column("epochs", REAL, nullable=False, comment="Passes over the training texts done."),
        sa.Column("value", REAL, nullable=False, comment="The score, in the metric's unit."),
        sa.Column("se", REAL, comment="Standard error over probes."),
        sa.Column("n", sa.Integer(), nullable=False, comment="Pairs, or texts for rho and auc."),
        sa.CheckConstraint(
            "metric IN ('gap', 'answer_gap', 'rho', 'pair_accuracy', 'auc', 'truth_corr', 'choice_accuracy', "
            "'answer_rate', 'accuracy', 'refusal_rate', 'retention', 'brier', 'ece')",
            name=op.f("ck_checkpoint_scores_metric"),
        ),
        sa.CheckConstraint("split IN ('train', 'eval', 'none')", name=op.f("ck_checkpoint_scores_split")),
        sa.CheckConstraint("epochs > 0", name=op.f("ck_checkpoint_scores_epochs")),
        sa.CheckConstraint("n >= 1", name=op.f("ck_checkpoint_scores_n")),
        sa.CheckConstraint("se >= 0", name=op.f("ck_checkpoint_scores_se")),
        sa.CheckConstraint("step >= 1", name=op.f("ck_checkpoint_scores_step")),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name=op.f("fk_checkpoint_scores_run_id_runs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", "step", "behavior", "metric", "split", name=op.f("pk_checkpoint_scores")),
        comment="Scores of alignment runs on the way; those at the end are in behavior_scores.",
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )


def _generated_answers() -> None:
    op.create_table(
        "generated_answers",
        sa.Column("run_id", sa.Integer(), autoincrement=False, nullable=False, comment="Run."),
        sa.Column("probe_key", sa.Text(), nullable=False, comment="Id of the probe in its file."),
        sa.Column(
            "variant",
            sa.Text(),
            nullable=False,
            comment="clean or flattered (a problem), question (a benign one).",
        ),
        sa.Column("behavior", sa.Text(), nullable=False, comment="reasoning or overrefusal."),
        sa.Column("split", sa.Text(), nullable=False, comment="train, eval, or none."),
        sa.Column("response", sa.Text(), nullable=False, comment="The answer."),
        sa.Column(
            "success", sa.Integer(), nullable=False, comment="1 if the problem was solved, or the question refused."
        ),
        sa.Column("rule", sa.Text(), nullable=False, comment="What decided that."),
        sa.Column("tokens", sa.Integer(), nullable=False, comment="Tokens generated."),
        sa.Column("seconds", REAL, nullable=False, comment="Its share of the time to generate, s."),
        sa.CheckConstraint("behavior IN ('reasoning', 'overrefusal')", name=op.f("ck_generated_answers_behavior")),
        sa.CheckConstraint("variant IN ('clean', 'flattered', 'question')", name=op.f("ck_generated_answers_variant")),
        sa.CheckConstraint("split IN ('train', 'eval', 'none')", name=op.f("ck_generated_answers_split")),
        sa.CheckConstraint("success IN (0, 1)", name=op.f("ck_generated_answers_success")),
        sa.CheckConstraint("seconds >= 0", name=op.f("ck_generated_answers_seconds")),
        sa.CheckConstraint("tokens >= 0", name=op.f("ck_generated_answers_tokens")),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name=op.f("fk_generated_answers_run_id_runs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", "probe_key", "variant", name=op.f("pk_generated_answers")),
        comment="Answers to generation probes, whole: problems, flattered or not, and benign questions.",
        sqlite_strict=True,
    )
    op.create_index(
        op.f("ix_generated_answers_behavior_variant_split"),
        "generated_answers",
        ["behavior", "variant", "split"],
        unique=False,
    )
