"""Schema: how other tools' evaluations ended, and which of their scores are no number."""

import sqlalchemy as sa
from alembic import op

from migrations.views import view_sql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

VIEW = "v_external_scores"


def upgrade() -> None:
    op.create_table(
        "external_outcomes",
        sa.Column("evaluation_id", sa.Integer(), autoincrement=False, nullable=False, comment="Evaluation."),
        sa.Column(
            "status",
            sa.Text(),
            nullable=False,
            comment="The tool's own word, e.g. success, cancelled, RUNNING.",
        ),
        sa.Column("finished", sa.Integer(), nullable=False, comment="1 if it came to its end, else 0."),
        sa.Column("samples", sa.Integer(), comment="Samples that were to be done, epochs counted."),
        sa.Column("samples_done", sa.Integer(), comment="Samples that were done."),
        sa.CheckConstraint("samples >= 0", name=op.f("ck_external_outcomes_samples")),
        sa.CheckConstraint("samples_done >= 0", name=op.f("ck_external_outcomes_samples_done")),
        _of_an_evaluation("external_outcomes"),
        sa.PrimaryKeyConstraint("evaluation_id", name=op.f("pk_external_outcomes")),
        comment="How other tools' evaluations ended, and on how many of their samples.",
        sqlite_strict=True,
    )
    op.create_table(
        "external_missing",
        sa.Column("evaluation_id", sa.Integer(), autoincrement=False, nullable=False, comment="Evaluation."),
        sa.Column("task", sa.Text(), nullable=False, comment="Task."),
        sa.Column("metric", sa.Text(), nullable=False, comment="Metric."),
        sa.Column("reason", sa.Text(), nullable=False, comment="What stands there, e.g. NaN, unscored."),
        sa.Column("n", sa.Integer(), nullable=False, comment="How often."),
        sa.CheckConstraint("n >= 1", name=op.f("ck_external_missing_n")),
        _of_an_evaluation("external_missing"),
        sa.PrimaryKeyConstraint("evaluation_id", "task", "metric", "reason", name=op.f("pk_external_missing")),
        comment="Scores of other tools' evaluations that are no number, and why.",
        sqlite_strict=True,
    )
    _make_view(revision)


def downgrade() -> None:
    _make_view("0001")
    op.drop_table("external_missing")
    op.drop_table("external_outcomes")


def _of_an_evaluation(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["evaluation_id"],
        ["external_evaluations.id"],
        name=op.f(f"fk_{table}_evaluation_id_external_evaluations"),
        ondelete="CASCADE",
    )


def _make_view(of: str) -> None:
    op.execute(f"DROP VIEW {VIEW}")
    op.execute(sa.text(view_sql(of, VIEW)))
