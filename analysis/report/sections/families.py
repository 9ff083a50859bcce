"""Experiment families as tables: one row a stratum, metric and split, one column a behavior; means over seeds."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from analysis.query import Conditions, Query, read_sql
from analysis.report.addresses import equals
from analysis.report.context import DASH, Context, number, unique
from analysis.report.document import Cell, Chart, Column, Number, Part, Row, Scalar, Table
from analysis.report.sections.columns import slim
from rhodb.vocabulary import BEHAVIORS

P = TypeVar("P", bound=Part)

MOST = 16_000
"""Rows of the query: a stratum's behaviors, metrics and splits."""
MOST_ROWS = 300
TINY: Final = 1e-12
"""Standard deviations of equal values, as rounding leaves them."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """A family's table in the warehouse, the columns that tell its strata apart, and its own outcomes."""

    kind: str
    table: str | None = None
    axes: tuple[str, ...] = ()
    outcomes: tuple[str, ...] = ()
    titles: Mapping[str, str] | None = None


FAMILIES: Final[Mapping[str, Family]] = {
    "baseline": Family(kind="baseline"),
    "alignment": Family(
        kind="alignment", table="alignment_runs", axes=("condition", "rho_weight", "margin", "epochs"),
        titles={"rho_weight": "λ", "margin": "γ"},
    ),
    "steering": Family(
        kind="steering", table="steering_heatmap", axes=("steered_behavior", "method", "layer", "alpha", "control"),
        titles={"steered_behavior": "steered", "alpha": "strength"},
    ),
    "freeze": Family(
        kind="freeze", table="freeze_sweep", axes=("compress_ratio", "freeze_ratio", "fine_tuned"),
        titles={"compress_ratio": "kept singular values", "freeze_ratio": "frozen layers"},
    ),
    "cf90": Family(
        kind="cf90", table="cf90_multiseed", axes=("ratio",), outcomes=("n_compressed", "retention", "rho_drop"),
        titles={"n_compressed": "matrices", "rho_drop": "truth_corr lost"},
    ),
    "attack_defense": Family(
        kind="attack_defense", table="attack_defense", axes=("target_behavior", "layer", "scale"),
        outcomes=("n_features", "n_regressed", "mean_collateral"),
        titles={"target_behavior": "target", "n_features": "features", "n_regressed": "behaviors worse",
                "mean_collateral": "mean collateral"},
    ),
    "hybrid": Family(
        kind="hybrid", table="hybrid_sweep",
        axes=("compress_ratio", "freeze_fraction", "sae_layer", "rho_weight", "margin"),
        titles={"rho_weight": "λ", "margin": "γ", "sae_layer": "SAE layer"},
    ),
    "leaderboard": Family(kind="leaderboard", table="leaderboard", axes=("label", "model_type", "merge_method")),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Means:
    """The rows of a family's query, and the query."""

    family: Family
    query: Query
    rows: tuple[Mapping[str, Any], ...]
    labels: tuple[str, ...] = ()
    """Further columns of the rows that tell strata apart: settings of their configurations, and the weights where one
    key stands for several models."""

    @property
    def axes(self) -> tuple[str, ...]:
        return (*self.family.axes, *self.labels)


def means(ctx: Context, family: Family, *, metrics: Sequence[str] = ()) -> Means:
    """Means over seeds of a family's strata, the report's split and metric first. Raises InputError for the SQL."""
    query = family_query(ctx, family, metrics)
    rows = tuple(ctx.rows(query))
    return Means(family=family, query=query, rows=rows, labels=("weights",) if several_weights(rows) else ())


def several_weights(rows: Iterable[Mapping[str, Any]]) -> bool:
    """Whether some model's key stands for several weights among these rows."""
    known: dict[str, str] = {}
    return any(known.setdefault(row["model"], row["model_fingerprint"]) != row["model_fingerprint"] for row in rows)


def family_query(ctx: Context, family: Family, metrics: Sequence[str] = ()) -> Query:
    conditions = Conditions()
    conditions.equal("chosen.model", ctx.options.model)
    conditions.among("score.metric", metrics)
    named = "".join(f", chosen.{axis}" for axis in family.axes)
    first = "score.split <> :first_split, "
    parameters = {"first_split": ctx.options.split}
    if not metrics:
        first += "score.metric <> :first_metric, "
        parameters["first_metric"] = ctx.options.metrics[0]
    sql = read_sql(
        "report_family",
        axes="".join(f",\n           family.{column}" for column in (*family.axes, *family.outcomes)),
        join=f"\n    JOIN {family.table} AS family ON family.run_id = runs.id" if family.table else "",
        kind=family.kind,
        # Untouched models are the reference of whatever runs are chosen.
        where="1 = 1" if family.kind == "baseline" else ctx.where(),
        group=named,
        outcomes="".join(f",\n       avg(chosen.{column}) AS {column}" for column in family.outcomes),
        conditions=conditions,
        first=first,
        most=MOST,
    )
    return Query(sql=sql, parameters=conditions.parameters | parameters)


def pivoted(ctx: Context, found: Means, *, key: str, title: str, caption: str = "", scores: str = "") -> Table | None:
    """A row a stratum, metric and split; a column a behavior: mean (Δ to the untouched model ± SD over seeds)."""
    family = found.family
    cells: dict[tuple[Any, ...], dict[str, Mapping[str, Any]]] = {}
    for row in found.rows:
        place = (row["model"], row["experiment"], row["config_hash"], *(row[axis] for axis in found.axes),
                 row["metric"], row["split"])  # fmt: skip
        cells.setdefault(place, {})[row["behavior"]] = row
    if not cells:
        return None
    shown = dict(list(cells.items())[:MOST_ROWS])
    behaviors = [b for b in BEHAVIORS if any(b in members for members in shown.values())]
    crowded = len({(p[0], *p[3:]) for p in shown}) < len(shown)
    names = unique(["|".join("" if part is None else str(part) for part in place) for place in shown])
    rows = [
        _row(ctx, found, name, place, members, behaviors, crowded)
        for name, (place, members) in zip(names, shown.items(), strict=True)
    ]
    more = f" The first {MOST_ROWS} rows." if len(cells) > MOST_ROWS else ""
    more += _stopped(found)
    return slim(
        Table(
            key=key, title=title, columns=_columns(family, found.axes, behaviors, crowded), rows=tuple(rows),
            caption=f"{caption} {scores or SCORES}{more}".strip(),
        )
    )  # fmt: skip


SCORES = (
    "Each cell: mean over the runs of the row, in parentheses its change Δ against the untouched model ± standard "
    "deviation over seeds. Rows with different configurations are never pooled."
)


def _stopped(found: Means) -> str:
    return f" The query stops after {MOST} rows: not all is shown." if len(found.rows) == MOST else ""


def _title(family: Family, column: str) -> str:
    return (family.titles or {}).get(column) or column.replace("_", " ")


def _label(value: Any) -> str:
    return DASH if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _columns(family: Family, axes: Sequence[str], behaviors: Sequence[str], crowded: bool) -> tuple[Column, ...]:
    return (
        Column(key="model", title="model"),
        *(Column(key=axis, title=_title(family, axis)) for axis in axes),
        *((Column(key="settings", title="settings", help="experiment, hash of the configuration"),) if crowded else ()),
        Column(key="metric", title="metric"),
        Column(key="split", title="split"),
        Column(key="runs", title="runs", numeric=True, help="runs (seeds) of the row"),
        *(Column(key=outcome, title=_title(family, outcome), numeric=True) for outcome in family.outcomes),
        *(Column(key=behavior, title=behavior, numeric=True) for behavior in behaviors),
    )


def stratum_runs(ctx: Context, row: Mapping[str, Any], kind: str) -> list[str]:
    """The finished runs of a row's stratum."""
    return ctx.book.runs_of(kind, row)


def _row(
    ctx: Context,
    found: Means,
    name: str,
    place: tuple[Any, ...],
    members: Mapping[str, Mapping[str, Any]],
    behaviors: Sequence[str],
    crowded: bool,
) -> Row:
    family, any_row = found.family, next(iter(members.values()))
    address = row_address(ctx, found, any_row)
    labels = [_label(any_row[axis]) for axis in found.axes]
    settings = (" ".join(filter(None, (any_row["experiment"], any_row["config_hash"][:8]))),) if crowded else ()
    cells: tuple[Cell, ...] = (
        any_row["model"], *labels, *settings, any_row["metric"], any_row["split"],
        number(max(m["runs"] for m in members.values()), address),
        *(number(any_row[outcome], address) for outcome in family.outcomes),
        *(_score(members.get(behavior), address) for behavior in behaviors),
    )  # fmt: skip
    return Row(key=name, cells=cells, model=any_row["model"], metric=any_row["metric"], split=any_row["split"])


def row_address(ctx: Context, found: Means, row: Mapping[str, Any]) -> str:
    """The address of a stratum's row for one metric and split: its query, cut down to it."""
    columns = ("model", "model_fingerprint", "config_hash", "experiment", *found.family.axes, "metric", "split")
    return ctx.book.address(
        "row", found.query, runs=stratum_runs(ctx, row, found.family.kind),
        narrow=[equals(column, row[column]) for column in columns],
        pick="columns value, delta and sd of the behavior's row", method="mean and sample SD over the runs",
    )  # fmt: skip


def existing(part: P | None) -> list[P]:
    """A part as a list; empty where there is none."""
    return [] if part is None else [part]


def _score(row: Mapping[str, Any] | None, address: str) -> Cell:
    if row is None:
        return DASH
    text = _rounded(row["value"], "")
    sd = "" if row["sd"] is None else f" ± {row['sd'] if row['sd'] > TINY else 0:.2g}"
    text += sd if row["delta"] is None else f" ({_rounded(row['delta'], '+')}{sd})"
    return Number(value=row["value"], text=text, address=address)


def _rounded(value: float, sign: str) -> str:
    """Three decimals; no minus before what rounds to zero."""
    return f"{round(value, 3) + 0.0:{sign}.3f}"


def _apart(found: Means, rows: Sequence[Mapping[str, Any]], *, placed: set[str]) -> list[str]:
    """Axes and settings that vary among rows drawn at one place: each value gets a panel, none lies over another."""
    axes = [name for name in (*found.axes, "model") if name not in placed]
    return [name for name in axes if len({row.get(name) for row in rows}) > 1]


def with_courses(rows: Sequence[Mapping[str, Any]], panel: Sequence[str], x: str) -> list[Mapping[str, Any]]:
    """The rows whose panel (their values in these columns) has several values of x: one shows no course."""
    reached: dict[tuple[Any, ...], set[Any]] = defaultdict(set)
    panels = [tuple(row[name] for name in panel) for row in rows]
    for row, place in zip(rows, panels, strict=True):
        reached[place].add(row[x])
    return [row for row, place in zip(rows, panels, strict=True) if len(reached[place]) > 1]


def chart(
    ctx: Context,
    found: Means,
    *,
    key: str,
    title: str,
    kind: Any,
    x: str,
    y: str | None = None,
    facet: str | None = None,
    metric: str | None = None,
    titles: Mapping[str, str] | None = None,
) -> Chart | None:
    """Δ (or the score, where there is no untouched model) of the report's split by one or two axes."""
    usable = [r for r in found.rows if r[x] is not None and (y is None or r[y] is not None)]
    splits = {r["split"] for r in usable}
    split = ctx.options.split if ctx.options.split in splits else next(iter(sorted(splits)), "")
    chosen = [r for r in usable if r["split"] == split and (metric is None or r["metric"] == metric)]
    if len({r[x] for r in chosen}) < 2:
        return None
    panel = facet or "model"
    placed = {x, y or "behavior", panel}
    if kind != "heatmap":
        chosen = with_courses(chosen, (*_apart(found, chosen, placed=placed), panel), x)
        if not chosen:
            return None
    apart = _apart(found, chosen, placed=placed)
    rows: list[dict[str, Scalar]] = []
    for r in chosen:
        value = r["delta"] if r["delta"] is not None else r["value"]
        row: dict[str, Scalar] = {name: r[name] for name in (x, "model", "behavior", "metric", "split")}
        row |= {name: r[name] for name in (y, facet) if name}
        if apart:
            told_apart = (f"{_title(found.family, name)} {_label(r[name])}" for name in apart)
            row["stratum"] = ", ".join([str(r[panel]), *told_apart])
        rows.append(row | {"delta" if r["delta"] is not None else "value": value, "shown": value, "sd": r["sd"]})
    encodings = {"x": x, "y": y or "shown", "facet": "stratum" if apart else panel}
    encodings |= {"value": "shown"} if kind == "heatmap" else {"colour": "behavior"}
    named = {"shown": "change Δ" if all(r["delta"] is not None for r in chosen) else "Δ, or score without a baseline"}
    family = found.family
    told = {part: named.get(name) or _title(family, name) for part, name in encodings.items()}
    return Chart(
        key=key, title=title, kind=kind, rows=tuple(rows), encodings=encodings, titles=told | dict(titles or {}),
        addresses=tuple(row_address(ctx, found, r) for r in chosen),
        caption=f"Means over seeds, split {split}.{_stopped(found)}",
    )  # fmt: skip
