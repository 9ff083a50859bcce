"""Schema v4: hypotheses registered before the runs that answer them, and the looks taken at them."""

import sqlalchemy as sa
from alembic import op

from migrations.views import view_sql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

REAL = sa.Double().with_variant(sa.REAL(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "hypotheses",
        sa.Column("id", sa.Integer(), nullable=False, comment="Row number, in the order of registration."),
        sa.Column("name", sa.Text(), nullable=False, comment="Name that the user gave."),
        sa.Column(
            "hash", sa.Text(), nullable=False, comment="SHA-256 over the canonical JSON of the design and its time."
        ),
        sa.Column(
            "registered_at",
            sa.Text(),
            nullable=False,
            comment="When it was registered, UTC, ISO 8601; runs begun before are no evidence.",
        ),
        sa.Column("kind", sa.Text(), nullable=False, comment="difference, equivalence or non-inferiority."),
        sa.Column(
            "treatment", sa.Text(), nullable=False, comment="Arm asked about: a condition, with settings after @."
        ),
        sa.Column(
            "control", sa.Text(), nullable=False, comment="Arm it is compared with, or baseline (the untouched model)."
        ),
        sa.Column("model", sa.Text(), nullable=False, comment="Key of the model."),
        sa.Column("settings", sa.Text(), nullable=False, comment="Settings that stay constant, canonical JSON."),
        sa.Column("behavior", sa.Text(), nullable=False, comment="Behavior, e.g. refusal."),
        sa.Column("metric", sa.Text(), nullable=False, comment="Metric, e.g. gap."),
        sa.Column("split", sa.Text(), nullable=False, comment="Probes scored: train, eval or none."),
        sa.Column("direction", sa.Text(), nullable=False, comment="What is claimed of treatment - control."),
        sa.Column("margin", REAL, nullable=False, comment="Smallest effect of interest, in the metric's unit."),
        sa.Column("alpha", REAL, nullable=False, comment="Level of the family."),
        sa.Column("beta", REAL, nullable=False, comment="Probability of refuting what is true, at most."),
        sa.Column("futility", sa.Text(), nullable=False, comment="Whether and how it is given up early."),
        sa.Column("family", sa.Text(), nullable=False, comment="Hypotheses that share their alpha."),
        sa.Column(
            "procedure", sa.Text(), nullable=False, comment="How they do: holm, or ordered (in order of registration)."
        ),
        sa.Column("rule", sa.Text(), nullable=False, comment="Stopping rule: group-sequential or any-time."),
        sa.Column("spending", sa.Text(), nullable=True, comment="Spending function of a group-sequential rule."),
        sa.Column("looks", sa.Text(), nullable=False, comment="Numbers of seeds at which it is looked, JSON."),
        sa.Column("seeds", sa.Text(), nullable=False, comment="Seeds in the order in which they are run, JSON."),
        sa.Column("withdrawn_at", sa.Text(), nullable=True, comment="When it was withdrawn, UTC, ISO 8601."),
        sa.Column("withdrawn_why", sa.Text(), nullable=True, comment="Why it was withdrawn."),
        sa.CheckConstraint(
            "(rule = 'group-sequential') = (spending IS NOT NULL)", name=op.f("ck_hypotheses_spending_rule")
        ),
        sa.CheckConstraint("direction IN ('greater', 'less', 'different')", name=op.f("ck_hypotheses_direction")),
        sa.CheckConstraint("futility IN ('none', 'non-binding', 'binding')", name=op.f("ck_hypotheses_futility")),
        sa.CheckConstraint("kind IN ('difference', 'equivalence', 'non-inferiority')", name=op.f("ck_hypotheses_kind")),
        sa.CheckConstraint(
            "metric IN ('gap', 'answer_gap', 'rho', 'pair_accuracy', 'auc', 'truth_corr', "
            "'choice_accuracy', 'answer_rate', 'accuracy', 'refusal_rate', 'retention', 'brier', 'ece')",
            name=op.f("ck_hypotheses_metric"),
        ),
        sa.CheckConstraint("procedure IN ('holm', 'ordered')", name=op.f("ck_hypotheses_procedure")),
        sa.CheckConstraint("rule IN ('group-sequential', 'any-time')", name=op.f("ck_hypotheses_rule")),
        sa.CheckConstraint("spending IN ('pocock', 'obrien-fleming')", name=op.f("ck_hypotheses_spending")),
        sa.CheckConstraint("split IN ('train', 'eval', 'none')", name=op.f("ck_hypotheses_split")),
        sa.CheckConstraint("(withdrawn_at IS NULL) = (withdrawn_why IS NULL)", name=op.f("ck_hypotheses_withdrawn")),
        sa.CheckConstraint("abs(margin) < 1e300", name=op.f("ck_hypotheses_margin_finite")),
        sa.CheckConstraint("alpha > 0 AND alpha < 0.5", name=op.f("ck_hypotheses_alpha")),
        sa.CheckConstraint("beta > 0 AND beta < 0.5", name=op.f("ck_hypotheses_beta")),
        sa.CheckConstraint("margin > 0", name=op.f("ck_hypotheses_margin")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hypotheses")),
        sa.UniqueConstraint("hash", name=op.f("uq_hypotheses_hash")),
        sa.UniqueConstraint("name", name=op.f("uq_hypotheses_name")),
        comment="Questions registered before the runs that answer them. Never changed, only withdrawn.",
        sqlite_strict=True,
    )
    op.create_table(
        "hypothesis_looks",
        sa.Column("hypothesis_id", sa.Integer(), autoincrement=False, nullable=False, comment="Hypothesis."),
        sa.Column("seeds", sa.Integer(), autoincrement=False, nullable=False, comment="Seeds looked at."),
        sa.Column("made_at", sa.Text(), nullable=False, comment="When, UTC, ISO 8601."),
        sa.Column(
            "decision", sa.Text(), nullable=False, comment="open, supported, refuted or undecided (the seeds ran out)."
        ),
        sa.Column("level", REAL, nullable=False, comment="One-sided level at which it was held: its share of alpha."),
        sa.Column("p", REAL, nullable=False, comment="p of the claim, valid at every look, before the family's share."),
        sa.Column("mean", REAL, nullable=False, comment="Plain mean over the seeds, in the metric's unit."),
        sa.Column("estimate", REAL, nullable=True, comment="Effect, corrected for stopping where it stopped."),
        sa.Column("low", REAL, nullable=True, comment="Lower end of the 95 % interval, valid at this look."),
        sa.Column("high", REAL, nullable=True, comment="Upper end of the 95 % interval."),
        sa.Column("method", sa.Text(), nullable=False, comment="How estimate and interval were made."),
        sa.Column("runs", sa.Text(), nullable=False, comment="uuids of the runs that it rests on, JSON."),
        sa.Column("differences", sa.Text(), nullable=False, comment="One value a seed, in the registered order, JSON."),
        sa.Column("seconds", REAL, nullable=False, comment="What those runs took together, s."),
        sa.CheckConstraint(
            "decision IN ('open', 'supported', 'refuted', 'undecided')", name=op.f("ck_hypothesis_looks_decision")
        ),
        sa.CheckConstraint("abs(estimate) < 1e300", name=op.f("ck_hypothesis_looks_estimate_finite")),
        sa.CheckConstraint("abs(high) < 1e300", name=op.f("ck_hypothesis_looks_high_finite")),
        sa.CheckConstraint("abs(low) < 1e300", name=op.f("ck_hypothesis_looks_low_finite")),
        sa.CheckConstraint("abs(mean) < 1e300", name=op.f("ck_hypothesis_looks_mean_finite")),
        sa.CheckConstraint("level BETWEEN 0 AND 1", name=op.f("ck_hypothesis_looks_level")),
        sa.CheckConstraint("p BETWEEN 0 AND 1", name=op.f("ck_hypothesis_looks_p")),
        sa.CheckConstraint("seconds >= 0", name=op.f("ck_hypothesis_looks_seconds")),
        sa.CheckConstraint("seeds >= 1", name=op.f("ck_hypothesis_looks_seeds")),
        sa.ForeignKeyConstraint(
            ["hypothesis_id"],
            ["hypotheses.id"],
            name=op.f("fk_hypothesis_looks_hypothesis_id_hypotheses"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("hypothesis_id", "seeds", name=op.f("pk_hypothesis_looks")),
        comment="Looks at hypotheses: what the seeds so far said, and what was decided.",
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.execute(view_sql("hypotheses", "v_hypotheses"))


def downgrade() -> None:
    op.execute("DROP VIEW v_hypotheses")
    op.drop_table("hypothesis_looks")
    op.drop_table("hypotheses")
