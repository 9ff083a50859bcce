"""Schema v2: choice_accuracy is a share and lies in [0, 1] like every other.

Older audits hold a few values below 0 under that name. They move to the column `extra` of their run, under
`choice_accuracy_below_0` (behavior -> value, n), and come back on the way down.
"""

import json
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

REAL = sa.Double().with_variant(sa.REAL(), "sqlite")
TABLE = "behavior_scores"
KEPT = "choice_accuracy_below_0"
Ranges = dict[str, str]
OLD: Ranges = {
    "unit_range": "metric NOT IN ('pair_accuracy', 'auc', 'answer_rate', 'accuracy', 'refusal_rate', 'retention', "
    "'brier', 'ece') OR value BETWEEN 0 AND 1",
    "signed_unit_range": "metric NOT IN ('rho', 'truth_corr', 'choice_accuracy') OR value BETWEEN -1 AND 1",
}
NEW: Ranges = {
    "unit_range": "metric NOT IN ('pair_accuracy', 'auc', 'choice_accuracy', 'answer_rate', 'accuracy', "
    "'refusal_rate', 'retention', 'brier', 'ece') OR value BETWEEN 0 AND 1",
    "signed_unit_range": "metric NOT IN ('rho', 'truth_corr') OR value BETWEEN -1 AND 1",
}


def upgrade() -> None:
    _set_values_aside()
    _change_ranges(NEW)


def downgrade() -> None:
    _change_ranges(OLD)
    _bring_values_back()


def _set_values_aside() -> None:
    bind = op.get_bind()
    below = "metric = 'choice_accuracy' AND value < 0"
    rows = bind.execute(sa.text(f"SELECT run_id, behavior, value, n FROM {TABLE} WHERE {below} AND split = 'none'"))
    found: dict[int, dict[str, Any]] = {}
    for run, behavior, value, n in rows.fetchall():
        found.setdefault(run, {})[behavior] = [value, n]
    for run, values in found.items():
        extra = bind.execute(sa.text("SELECT extra FROM runs WHERE id = :run"), {"run": run}).scalar_one()
        _write_extra(run, json.loads(extra or "{}") | {KEPT: values})
    bind.execute(sa.text(f"DELETE FROM {TABLE} WHERE {below}"))


def _bring_values_back() -> None:
    insert = sa.text(
        f"INSERT INTO {TABLE} (run_id, behavior, metric, split, value, n) "
        "VALUES (:run, :behavior, 'choice_accuracy', 'none', :value, :n)"
    )
    for run, extra in _with_values_aside():
        for behavior, (value, n) in extra.pop(KEPT).items():
            op.get_bind().execute(insert, {"run": run, "behavior": behavior, "value": value, "n": n})
        _write_extra(run, extra)


def _with_values_aside() -> Iterator[tuple[int, dict[str, Any]]]:
    rows = op.get_bind().execute(sa.text("SELECT id, extra FROM runs WHERE extra LIKE :kept"), {"kept": f'%"{KEPT}"%'})
    for run, extra in rows.fetchall():
        value = json.loads(extra)
        if KEPT in value:
            yield run, value


def _write_extra(run: int, extra: dict[str, Any]) -> None:
    written = json.dumps(extra, sort_keys=True, separators=(",", ":"), ensure_ascii=False) if extra else None
    op.get_bind().execute(sa.text("UPDATE runs SET extra = :extra WHERE id = :run"), {"extra": written, "run": run})


def _change_ranges(ranges: Ranges) -> None:
    if op.get_bind().dialect.name != "sqlite":
        for name, rule in ranges.items():
            op.drop_constraint(op.f(f"ck_{TABLE}_{name}"), TABLE, type_="check")
            op.create_check_constraint(op.f(f"ck_{TABLE}_{name}"), TABLE, rule)
        return
    # SQLite cannot change a constraint: the table is written anew. Nothing refers to it but views, which
    # `legacy_alter_table` leaves alone while the name stands for nothing.
    op.execute("PRAGMA legacy_alter_table = ON")
    _create(f"{TABLE}_new", ranges)
    op.execute(f"INSERT INTO {TABLE}_new SELECT run_id, behavior, metric, split, value, se, n FROM {TABLE}")
    op.drop_table(TABLE)
    op.rename_table(f"{TABLE}_new", TABLE)
    op.create_index(op.f(f"ix_{TABLE}_behavior_metric_split"), TABLE, ["behavior", "metric", "split"], unique=False)
    op.execute("PRAGMA legacy_alter_table = OFF")


def _create(name: str, ranges: Ranges) -> None:
    op.create_table(
        name,
        sa.Column("run_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("behavior", sa.Text(), nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("split", sa.Text(), nullable=False),
        sa.Column("value", REAL, nullable=False),
        sa.Column("se", REAL),
        sa.Column("n", sa.Integer()),
        sa.CheckConstraint(
            "metric IN ('gap', 'answer_gap', 'rho', 'pair_accuracy', 'auc', 'truth_corr', "
            "'choice_accuracy', 'answer_rate', 'accuracy', 'refusal_rate', 'retention', 'brier', 'ece')",
            name=op.f(f"ck_{TABLE}_metric"),
        ),
        *(sa.CheckConstraint(rule, name=op.f(f"ck_{TABLE}_{short}")) for short, rule in ranges.items()),
        sa.CheckConstraint("split IN ('train', 'eval', 'none')", name=op.f(f"ck_{TABLE}_split")),
        sa.CheckConstraint("abs(value) < 1e300", name=op.f(f"ck_{TABLE}_value_finite")),
        sa.CheckConstraint("n >= 1", name=op.f(f"ck_{TABLE}_n")),
        sa.CheckConstraint("se >= 0", name=op.f(f"ck_{TABLE}_se")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f(f"fk_{TABLE}_run_id_runs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", "behavior", "metric", "split", name=op.f(f"pk_{TABLE}")),
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
