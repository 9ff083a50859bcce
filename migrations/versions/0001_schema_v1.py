"""Schema v1: models, probes, runs, scores, one table an experiment family, sources, and the views over them.

Revision 0001. Written out in full and never changed after release: a later schema is a later revision.
The tables stand in `migrations/*_tables.py`, the views in `migrations/views/0001/`.
"""

from collections.abc import Iterator

import sqlalchemy as sa
from alembic import op

from migrations import audit_tables, core_tables, family_tables, landscape_tables, source_tables, training_tables
from migrations.views import view_sql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = (
    *core_tables.TABLES,
    *family_tables.TABLES,
    *audit_tables.TABLES,
    *landscape_tables.TABLES,
    *source_tables.TABLES,
    *training_tables.TABLES,
)
VIEWS = (
    "v_scores",
    "v_wide_scores",
    "v_alignment",
    "v_freeze_sweep",
    "v_cf90_multiseed",
    "v_hybrid_sweep",
    "v_leaderboard",
    "v_steering_heatmap",
    "v_attack_defense",
    "v_fidelity_bench",
    "v_stress_tests",
    "v_generation_probes",
    "v_recomputed_scores",
    "v_external_scores",
)

BEHAVIORS = (
    "factual",
    "toxicity",
    "bias",
    "sycophancy",
    "reasoning",
    "refusal",
    "deception",
    "overrefusal",
    "bench",
)
METRICS = ("gap", "answer_gap", "rho", "pair_accuracy", "auc", "truth_corr", "retention")
OWN_METRICS = {
    "bias": ("choice_accuracy",),
    "sycophancy": ("choice_accuracy",),
    "reasoning": ("choice_accuracy", "accuracy"),
    "refusal": ("refusal_rate",),
    "overrefusal": ("answer_rate", "refusal_rate"),
}
"""Metrics that only some behaviors have."""
SPLITS = ("eval", "train", "none")


def upgrade() -> None:
    core_tables.create_core_tables()
    family_tables.create_family_tables()
    audit_tables.create_audit_tables()
    landscape_tables.create_landscape_tables()
    source_tables.create_source_tables()
    training_tables.create_training_tables()
    names = list(_score_columns())
    scores = ",\n    ".join(f"{score} AS {name}" for name, score in names)
    shown = ",\n    ".join(
        f"after.{name}, before.{name} AS before_{name}, after.{name} - before.{name} AS d_{name}" for name, _ in names
    )
    for view in VIEWS:
        op.execute(sa.text(view_sql(revision, view).replace(":scores", scores).replace(":columns", shown)))


def downgrade() -> None:
    for view in reversed(VIEWS):
        op.execute(sa.text(f"DROP VIEW {view}"))
    for table in reversed(TABLES):
        op.drop_table(table)


def _score_columns() -> Iterator[tuple[str, str]]:
    """Name and SQL of a run's score, for every behavior, metric that it can have and split."""
    for behavior in BEHAVIORS:
        for metric in (*METRICS, *OWN_METRICS.get(behavior, ())):
            for split in SPLITS:
                yield (
                    f"{behavior}_{metric}_{split}",
                    f"(SELECT value FROM behavior_scores WHERE run_id = runs.id AND behavior = '{behavior}' "
                    f"AND metric = '{metric}' AND split = '{split}')",
                )
