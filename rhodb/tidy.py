"""Tidy data frames for notebooks: every score, every run."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from rhodb.errors import InputError, UnknownNameError
from rhodb.vocabulary import BEHAVIORS, CONDITIONS, FAMILY_TABLES, METRICS, RUN_KINDS, RUN_ORIGINS, RUN_STATES, SPLITS

if TYPE_CHECKING:
    import pandas as pd

    from rhodb.warehouse import Warehouse

Value = str | int | float
Choice = Value | Iterable[Value] | None
"""One value, several of them, or None for all."""

WORDS: dict[str, tuple[str, ...]] = {
    "kind": RUN_KINDS,
    "metric": tuple(METRICS),
    "split": SPLITS,
    "behavior": BEHAVIORS,
    "condition": CONDITIONS,
    "state": RUN_STATES,
    "origin": RUN_ORIGINS,
}


def scores(
    wh: "Warehouse",
    *,
    kind: Choice = None,
    metric: Choice = None,
    split: Choice = None,
    behavior: Choice = None,
    condition: Choice = None,
    model: Choice = None,
    seed: Choice = None,
    experiment: Choice = None,
    origin: Choice = None,
) -> "pd.DataFrame":
    """One row a run, behavior, metric and split: axes, value, se, n, baseline_value and delta (view v_scores).

    Each condition takes one value or several. A score that was not measured has no row; a baseline that
    was not measured is NaN. Raises UnknownNameError for a word that rhodb does not know.
    """
    conditions = {
        "kind": kind, "metric": metric, "split": split, "behavior": behavior, "condition": condition,
        "model": model, "seed": seed, "experiment": experiment, "origin": origin,
    }  # fmt: skip
    where, params = _where(conditions)
    return wh.query(f"SELECT * FROM v_scores{where}", **params)


def runs(
    wh: "Warehouse",
    *,
    kind: Choice = None,
    state: Choice = None,
    model: Choice = None,
    seed: Choice = None,
    experiment: Choice = None,
    origin: Choice = None,
) -> "pd.DataFrame":
    """One row a run: identity, state, times, host. With one `kind`, the columns of its own table, too."""
    where, params = _where(
        {"kind": kind, "state": state, "models.key": model, "seed": seed, "experiment": experiment, "origin": origin}
    )
    family, join = "", ""
    if isinstance(kind, str) and kind in FAMILY_TABLES:
        table = FAMILY_TABLES[kind]
        names = wh.query(f"SELECT * FROM {table} LIMIT 0").columns
        family = "".join(f", family.{name}" for name in names if name != "run_id")
        join = f" LEFT JOIN {table} AS family ON family.run_id = runs.id"
    columns = (
        "runs.uuid AS run, models.key AS model, runs.kind, runs.seed, runs.state, runs.attempt, runs.started_at, "
        "runs.finished_at, runs.seconds, runs.host, runs.device, runs.experiment, runs.origin, runs.repeat, "
        "runs.seed_known, baselines.uuid AS baseline, runs.error, runs.config, runs.config_hash"
    )
    return wh.query(
        f"SELECT {columns}{family} FROM runs JOIN models ON models.id = runs.model_id "
        f"LEFT JOIN runs AS baselines ON baselines.id = runs.baseline_run_id{join}{where} ORDER BY runs.id",
        **params,
    )


def _where(conditions: dict[str, Choice]) -> tuple[str, dict[str, Any]]:
    """` WHERE ...` with named parameters."""
    parts: list[str] = []
    params: dict[str, Any] = {}
    for column, choice in conditions.items():
        if choice is None:
            continue
        values = [choice] if isinstance(choice, Value) else list(choice)
        if not values:
            raise InputError(f"{column} is an empty list: give a value, or leave it out for all")
        for value in values:
            if column in WORDS and value not in WORDS[column]:
                raise UnknownNameError(column, str(value), WORDS[column])
        name = column.rsplit(".", maxsplit=1)[-1]
        marks = ", ".join(f":{name}_{i}" for i in range(len(values)))
        params |= {f"{name}_{i}": value for i, value in enumerate(values)}
        qualified = column if "." in column else f"runs.{column}" if "models.key" in conditions else column
        parts.append(f"{qualified} IN ({marks})")
    return (" WHERE " + " AND ".join(parts) if parts else ""), params
