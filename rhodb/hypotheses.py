"""Registered hypotheses: what may be registered, the rows, and the runs that count as evidence.

A hypothesis is never changed. Runs that were begun before it was registered are no evidence for it.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from rhodb.errors import InputError, UnknownNameError
from rhodb.liveness import now
from rhodb.records import canonical_json, digest
from rhodb.sql import saved_query
from rhodb.vocabulary import (
    BEHAVIORS,
    CONDITIONS,
    DIRECTIONS,
    FUTILITIES,
    HYPOTHESIS_KINDS,
    METRICS,
    PROCEDURES,
    SPENDINGS,
    SPLITS,
    STOPPING_RULES,
)
from rhodb.warehouse import Warehouse

BASELINE: Final = "baseline"
FIRST_SEED: Final = 1001
USUAL_LOOKS: Final = (3, 5, 8, 12, 16, 20, 25, 30, 40, 50, 65, 80, 100)
LATER: Final = ("trend", "ratio-of-spreads", "rate", "interaction")
"""Kinds that can be asked but not yet decided sequentially."""


@dataclass(frozen=True, kw_only=True)
class Hypothesis:
    """A question with its whole design. `id` and `registered_at` come with registration."""

    name: str
    kind: str = "difference"
    treatment: str
    control: str
    model: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    behavior: str
    metric: str
    split: str = "eval"
    direction: str
    margin: float
    alpha: float = 0.05
    beta: float = 0.1
    futility: str = "non-binding"
    family: str = "main"
    procedure: str = "holm"
    rule: str = "group-sequential"
    spending: str | None = "pocock"
    looks: tuple[int, ...]
    seeds: tuple[int, ...]
    id: int = 0
    hash: str = ""
    registered_at: str = ""
    withdrawn_at: str | None = None
    withdrawn_why: str | None = None

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms whose runs it needs."""
        return tuple(arm for arm in (self.treatment, self.control) if arm != BASELINE)

    @property
    def design(self) -> dict[str, Any]:
        """All that is fixed by registration, its time included; what the hash is made of."""
        own = asdict(self)
        return {key: own[key] for key in own if key not in ("id", "hash", "withdrawn_at", "withdrawn_why")}

    def matches(self, arm: str, config: Mapping[str, Any]) -> bool:
        """Whether a run's configuration is that of an arm under the constant settings."""
        condition, own = read_arm(arm)
        wanted = dict(self.settings) | own
        return config.get("condition") == condition and all(
            config[key] == value for key, value in wanted.items() if key in config
        )


@dataclass(frozen=True, kw_only=True)
class Look:
    """What a look said; one row of hypothesis_looks."""

    seeds: int
    decision: str
    level: float
    p: float
    mean: float
    estimate: float | None
    low: float | None
    high: float | None
    method: str
    runs: tuple[str, ...]
    differences: tuple[float, ...]
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """The differences treatment - control of the seeds that are done, in the registered order without a gap."""

    differences: tuple[float, ...]
    runs: tuple[tuple[str, ...], ...]
    """Runs behind each difference."""
    seconds: tuple[float, ...]


def read_arm(arm: str) -> tuple[str, dict[str, Any]]:
    """`rho-guided@rho_weight=0.5` -> condition and settings of its own. Raises InputError."""
    condition, _, rest = arm.partition("@")
    if condition not in CONDITIONS:
        raise UnknownNameError("arm", condition, [*CONDITIONS, BASELINE])
    own = {}
    for part in filter(None, rest.split(",")):
        key, _, value = part.partition("=")
        try:
            own[key.strip().replace("-", "_")] = json.loads(value)
        except json.JSONDecodeError:
            raise InputError(
                f"arm {arm!r}: after @ come settings with numbers, such as rho_weight=0.5, got {part!r}"
            ) from None
    return condition, own


def usual_looks(most: int) -> tuple[int, ...]:
    """Looks after 3, 5, 8, 12, ... seeds, the last one after all."""
    return (*(n for n in (USUAL_LOOKS if most > 3 else (2,)) if n < most), most)


def check(h: Hypothesis) -> None:
    """Raises InputError, one sentence, for a design that cannot be registered."""
    if h.kind in LATER:
        raise InputError(f"kind {h.kind} cannot be decided yet: register {', '.join(HYPOTHESIS_KINDS)}")
    words = (
        ("kind", h.kind, HYPOTHESIS_KINDS), ("direction", h.direction, DIRECTIONS),
        ("behavior", h.behavior, BEHAVIORS), ("metric", h.metric, tuple(METRICS)),
        ("split", h.split, SPLITS), ("futility", h.futility, FUTILITIES), ("procedure", h.procedure, PROCEDURES),
        ("rule", h.rule, STOPPING_RULES), ("spending function", h.spending or SPENDINGS[0], SPENDINGS),
    )  # fmt: skip
    for what, word, choices in words:
        if word not in choices:
            raise UnknownNameError(what, word, choices)
    if not h.name.strip() or h.name != h.name.strip() or not h.name.isprintable():
        raise InputError(f"a hypothesis needs a name of one line without spaces around it, got {h.name!r}")
    read_arm(h.treatment)
    if h.control != BASELINE:
        read_arm(h.control)
    if h.treatment == h.control:
        raise InputError(f"--contrast compares {h.treatment} with itself: name two arms, or ARM:baseline")
    if h.kind == "equivalence" and h.direction != "different":
        raise InputError("equivalence has no direction: leave --direction out")
    if h.kind == "non-inferiority" and h.direction == "different":
        raise InputError("non-inferiority needs --direction greater (more is better) or less")
    if not (math.isfinite(h.margin) and h.margin > 0):
        raise InputError(f"--margin must be a number above 0 in the metric's unit, got {h.margin:g}")
    for option, value in (("--alpha", h.alpha), ("--beta", h.beta)):
        if not 0 < value < 0.5:
            raise InputError(f"{option} must lie between 0 and 0.5, got {value:g}")
    _check_looks(h)


def _check_looks(h: Hypothesis) -> None:
    if len(set(h.seeds)) < len(h.seeds) or min(h.seeds, default=0) < 0:
        raise InputError("--seeds must be different whole numbers of at least 0")
    if len(h.seeds) < 2:
        raise InputError("a hypothesis needs at least two seeds: raise --max-seeds")
    if h.rule == "group-sequential" and len(h.looks) < 2:
        raise InputError("a spending rule needs at least two looks: give --looks 3,5,8 or choose --rule any-time")
    if h.looks[0] < 2 or any(b <= a for a, b in zip(h.looks, h.looks[1:], strict=False)):
        raise InputError(f"--looks must rise and begin with 2 seeds or more, got {','.join(map(str, h.looks))}")
    if h.looks[-1] != len(h.seeds):
        raise InputError(f"the last look is after {h.looks[-1]} seeds, but there are {len(h.seeds)}: make them equal")


def register(wh: Warehouse, h: Hypothesis) -> Hypothesis:
    """Insert a hypothesis; it comes back with id, hash and time. Raises InputError, and nothing is written."""
    check(h)
    _check_against_warehouse(wh, h)
    timed = replace(h, registered_at=now())
    full = replace(timed, hash=digest(canonical_json(timed.design)))
    row = full.design | {"hash": full.hash}
    for column in ("settings", "looks", "seeds"):
        row[column] = canonical_json(row[column])
    columns = ", ".join(row)
    try:
        with wh.write() as connection:
            connection.execute(
                text(f"INSERT INTO hypotheses ({columns}) VALUES ({', '.join(':' + key for key in row)})"), row
            )
    except IntegrityError:
        raise InputError(f"there is a hypothesis {h.name!r} already: a changed one needs another name") from None
    return find(wh, h.name)


def _check_against_warehouse(wh: Warehouse, h: Hypothesis) -> None:
    for other in registered(wh):
        if other.name == h.name:
            raise InputError(f"there is a hypothesis {h.name!r} already: a changed one needs another name")
        if other.family == h.family and (other.alpha, other.procedure) != (h.alpha, h.procedure):
            raise InputError(
                f"family {h.family} has alpha {other.alpha:g} and procedure {other.procedure}: "
                "keep to them or name another --family"
            )
    measured = wh.rows(saved_query("hypothesis_scored"), model=h.model)
    if measured and (h.behavior, h.metric, h.split) not in {(r["behavior"], r["metric"], r["split"]) for r in measured}:
        raise InputError(
            f"{h.metric} of {h.behavior}, split {h.split}, was never scored on {h.model}: "
            "see `rhodb sql 'SELECT DISTINCT behavior, metric, split FROM behavior_scores'`"
        )
    trained = [r | {"config": json.loads(r["config"])} for r in wh.rows(saved_query("hypothesis_runs"), model=h.model)]
    for arm in h.arms:
        runs = [r for r in trained if h.matches(arm, r["config"])]
        if done := sorted({r["seed"] for r in runs} & set(h.seeds)):
            raise InputError(
                f"seeds {', '.join(map(str, done))} of {arm} were run before: choose other --seeds, evidence is new"
            )
        configs = {r["config_hash"]: r["config"] for r in runs}
        if len(configs) > 1:
            raise InputError(
                f"{len(configs)} strata of {arm} match these settings: "
                f"fix {', '.join(differing(list(configs.values())))} with --set"
            )


def differing(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Keys whose values differ between configurations."""
    keys = sorted({key for config in configs for key in config})
    return [key for key in keys if len({canonical_json(config.get(key)) for config in configs}) > 1]


def registered(wh: Warehouse) -> list[Hypothesis]:
    """All hypotheses, withdrawn ones too, in the order of registration."""
    found = []
    for row in wh.rows("SELECT * FROM hypotheses ORDER BY id"):
        row["settings"] = json.loads(row["settings"])
        row |= {key: tuple(json.loads(row[key])) for key in ("looks", "seeds")}
        found.append(Hypothesis(**row))
    return found


def find(wh: Warehouse, name: str) -> Hypothesis:
    """The hypothesis of this name. Raises UnknownNameError."""
    every = registered(wh)
    for h in every:
        if h.name == name:
            return h
    if not every:
        raise InputError(f"there is no hypothesis {name!r}: `rhodb hypothesis add` registers one")
    raise UnknownNameError("hypothesis", name, [h.name for h in every])


def withdraw(wh: Warehouse, name: str, why: str) -> None:
    """Mark a hypothesis as withdrawn; it stays visible, and the others of its family get its share of alpha."""
    h = find(wh, name)
    if h.withdrawn_at is not None:
        raise InputError(f"hypothesis {name!r} was withdrawn already, at {h.withdrawn_at}")
    if not why.strip():
        raise InputError("say --why: what is withdrawn stays visible with its reason")
    with wh.write() as connection:
        connection.execute(
            text("UPDATE hypotheses SET withdrawn_at = :at, withdrawn_why = :why WHERE id = :id"),
            {"at": now(), "why": why.strip(), "id": h.id},
        )


def looks_at(wh: Warehouse, h: Hypothesis) -> list[Look]:
    """The looks taken so far."""
    found = []
    for row in wh.rows("SELECT * FROM hypothesis_looks WHERE hypothesis_id = :id ORDER BY seeds", id=h.id):
        del row["hypothesis_id"], row["made_at"]
        found.append(Look(**row | {key: tuple(json.loads(row[key])) for key in ("runs", "differences")}))
    return found


def store_look(wh: Warehouse, h: Hypothesis, look: Look) -> None:
    """Insert a look; one that was open and is decided now that the family has more alpha is replaced.

    Where another process has stored the same look, its row stays.
    """
    row = asdict(look) | {"hypothesis_id": h.id, "made_at": now()}
    row |= {key: canonical_json(row[key]) for key in ("runs", "differences")}
    with wh.write() as connection:
        connection.execute(
            text(
                "DELETE FROM hypothesis_looks WHERE hypothesis_id = :hypothesis_id AND seeds = :seeds "
                "AND decision = 'open'"
            ),
            row,
        )
        connection.execute(
            text(
                f"INSERT INTO hypothesis_looks ({', '.join(row)}) VALUES ({', '.join(':' + key for key in row)}) "
                "ON CONFLICT DO NOTHING"
            ),
            row,
        )


def earlier(wh: Warehouse, h: Hypothesis) -> Evidence:
    """Differences of all seeds that were ever run, for planning only: they are no evidence."""
    rows = wh.rows(saved_query("hypothesis_runs"), model=h.model)
    seeds = tuple(sorted({row["seed"] for row in rows}))
    return evidence(wh, replace(h, seeds=seeds, registered_at=""), gaps=True)


def evidence(wh: Warehouse, h: Hypothesis, *, gaps: bool = False) -> Evidence:
    """Differences of the seeds that are done since registration, up to the first that is not (unless `gaps`).

    Raises InputError where two strata match.
    """
    rows = wh.rows(
        saved_query("hypothesis_scores"), model=h.model, behavior=h.behavior, metric=h.metric, split=h.split,
        since=h.registered_at,
    )  # fmt: skip
    rows = [row | {"config": json.loads(row["config"])} for row in rows if row["seed"] in h.seeds]
    by_arm: dict[str, dict[int, dict[str, Any]]] = {}
    for arm in h.arms:
        mine = [row for row in rows if h.matches(arm, row["config"])]
        configs = {row["config_hash"]: row["config"] for row in mine}
        if len(configs) > 1:
            raise InputError(
                f"hypothesis {h.name}: {len(configs)} strata of {arm} match its settings "
                f"(they differ in {', '.join(differing(list(configs.values())))}): withdraw it and register it anew"
            )
        by_arm[arm] = {row["seed"]: row for row in mine}
    values, runs, seconds = [], [], []
    for seed in h.seeds:
        found = [by_arm[arm].get(seed) for arm in h.arms]
        held = [row for row in found if row is not None]
        control = None
        if len(held) == len(found):
            control = held[1]["value"] if len(held) == 2 else held[0]["baseline_value"]
        if control is None:
            if gaps:
                continue
            break
        values.append(held[0]["value"] - control)
        runs.append(tuple(row["run"] for row in held))
        seconds.append(sum(row["seconds"] or 0.0 for row in held))
    return Evidence(differences=tuple(values), runs=tuple(runs), seconds=tuple(seconds))
