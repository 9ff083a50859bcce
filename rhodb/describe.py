"""What the tables and columns mean: the comments of the models, and the views of the warehouse."""

from functools import cache
from typing import Any

from sqlalchemy import Table

from rhodb.errors import UnknownNameError
from rhodb.schema import Base
from rhodb.view_columns import view_column

Row = dict[str, Any]

WIDE = "wide: <behavior>_<metric>_<split>, before_<...> of the baseline and d_<...>, the difference."
VIEWS = {
    "v_scores": "Every score, tidy: axes of the run, value, standard error, n, baseline's value and difference.",
    "v_wide_scores": "The scores of every run, one column a behavior, metric and split: <behavior>_<metric>_<split>.",
    "v_alignment": f"Alignment runs, {WIDE}",
    "v_freeze_sweep": f"Compressed models with frozen layers, {WIDE}",
    "v_cf90_multiseed": f"Compressed models, several seeds, {WIDE}",
    "v_hybrid_sweep": f"Hybrid pipelines, {WIDE}",
    "v_leaderboard": f"Audited models and merges, {WIDE}",
    "v_steering_heatmap": f"Steered models, {WIDE}",
    "v_attack_defense": f"Models with scaled autoencoder features, {WIDE}",
    "v_fidelity_bench": "Audits by category, one row a run and category.",
    "v_stress_tests": "Stress tests with refusal rates, and those of the untouched model.",
    "v_generation_probes": "Accuracy on clean and flattered problems, refusals of benign questions, by run and split.",
    "v_recomputed_scores": "Every metric of probe texts, computed anew from probe_scores. Filter by run_id.",
    "v_hypotheses": "Registered hypotheses with their last look: verdict, effect with interval, seeds, looks, seconds.",
    "v_external_scores": "Scores of other tools' evaluations, tidy.",
}


def tables() -> list[Row]:
    """Every table and view with its meaning."""
    found: list[Row] = [
        {"name": table.name, "type": "table", "meaning": table.comment} for table in Base.metadata.sorted_tables
    ]
    return found + [{"name": name, "type": "view", "meaning": meaning} for name, meaning in VIEWS.items()]


def columns(name: str) -> list[Row]:
    """Every column of a table with type, key, reference and meaning; of a view with type and meaning."""
    if name in VIEWS:
        return _view_columns(name)
    choices = [*Base.metadata.tables, *VIEWS]
    if name not in Base.metadata.tables:
        raise UnknownNameError("table", name, choices)
    return [_column(Base.metadata.tables[name], column.name) for column in Base.metadata.tables[name].columns]


def _column(table: Table, name: str) -> Row:
    column = table.columns[name]
    targets = [key.target_fullname for key in column.foreign_keys]
    return {
        "table": table.name,
        "column": name,
        "type": _sqlite_type(column.type),
        "null": "yes" if column.nullable else "no",
        "key": "primary" if column.primary_key else "",
        "refers_to": targets[0] if targets else "",
        "meaning": column.comment,
    }


def _sqlite_type(type_: Any) -> str:
    from sqlalchemy.dialects import sqlite

    return str(type_.compile(dialect=sqlite.dialect()))


def _view_columns(name: str) -> list[Row]:
    """A view's columns, taken from a warehouse in memory: the views are written by the migrations only."""
    return [
        {"table": name, "column": column, "type": type_, "meaning": view_column(name, column)}
        for column, type_ in _made_views()[name]
    ]


@cache
def _made_views() -> dict[str, list[tuple[str, str]]]:
    """View -> (column, type)."""
    from rhodb.migrate import in_memory

    with in_memory() as connection:
        sql = "SELECT name, type FROM pragma_table_info(?)"
        return {view: [(row[0], row[1]) for row in connection.exec_driver_sql(sql, (view,))] for view in VIEWS}
