"""Rows for the warehouse's tables, written in bulk: models, probe sets, runs and what a run produced."""

import uuid as uuids
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any, get_args

from sqlalchemy import Connection, text

from rhodb.errors import InputError
from rhodb.family_records import AlignmentRow, ClusterMemberRow, ClusterRow, FamilyRow, LandscapeRow
from rhodb.liveness import now
from rhodb.records import ModelRecord, Outcome, ProbeSetRecord, RunIdentity, TrainStepRow, canonical_json

NAMESPACE = uuids.UUID("6f0c1a0e-5b1d-5c8f-9a51-72686f646200")
"""Namespace of run names; changing it would rename every run."""

SCORE_COLUMNS = ("behavior", "metric", "split", "value", "se", "n")
PROBE_COLUMNS = ("key", "split", "kind", "category", "positive", "negative", "prompt")
STEP_COLUMNS = tuple(field.name for field in fields(TrainStepRow))
TABLES: dict[type[Any], str] = {
    AlignmentRow: "alignment_runs",
    LandscapeRow: "probe_landscapes",
    ClusterRow: "probe_clusters",
    ClusterMemberRow: "probe_cluster_members",
} | {kind: kind.table for kind in get_args(FamilyRow)}
"""Type of a family's record -> its table, parents before the tables that refer to them; fields are columns."""
COLUMNS: dict[type[Any], tuple[str, ...]] = {
    kind: tuple(field.name for field in fields(kind) if field.name != "table") for kind in TABLES
}


def run_uuid(identity: RunIdentity) -> str:
    """The name of a run, made from its identity, so that every machine and every attempt gives it the same."""
    return uuid_of(identity.kind, identity.model_key, identity.model_fingerprint, identity.seed, identity.config_hash)


def uuid_of(kind: str, model_key: str, model_fingerprint: str, seed: int, config_hash: str) -> str:
    """`run_uuid` of an identity whose configuration was hashed already."""
    return str(uuids.uuid5(NAMESPACE, canonical_json([kind, model_key, model_fingerprint, seed, config_hash])))


def bulk_insert(
    connection: Connection,
    table: str,
    columns: Sequence[str],
    rows: Iterable[tuple[Any, ...]],
    *,
    new_only: bool = False,
) -> None:
    """INSERT many tuples through the driver itself, which is several times as fast as Core with dicts.

    `new_only` leaves rows alone whose key is there already.
    """
    rows = list(rows)
    if not rows:
        return
    mark = "?" if connection.dialect.paramstyle == "qmark" else "%s"
    marks = ", ".join([mark] * len(columns))
    conflict = " ON CONFLICT DO NOTHING" if new_only else ""
    connection.exec_driver_sql(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks}){conflict}", rows)


class RowBuffer:
    """Rows of several runs, written table by table: the more at once, the faster."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, tuple[str, ...]], list[tuple[Any, ...]]] = {}

    def add(self, table: str, columns: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> None:
        self._rows.setdefault((table, columns), []).extend(rows)

    def flush(self, connection: Connection) -> None:
        """Insert everything, parents before the tables that refer to them."""
        order = [*TABLES.values()]
        waiting, self._rows = self._rows, {}
        places = {table: order.index(table) if table in order else -1 for table, _ in waiting}
        for (table, columns), rows in sorted(waiting.items(), key=lambda item: places[item[0][0]]):
            bulk_insert(connection, table, columns, rows)


# Statements are built once: SQLAlchemy takes longer to read a text than SQLite to run it.
MODEL_ID = text("SELECT id FROM models WHERE key = :key AND fingerprint = :fingerprint")
ADD_MODEL = text(
    "INSERT INTO models (key, source, revision, fingerprint, architecture, n_layers, n_parameters, quantization) "
    "VALUES (:key, :source, :revision, :fingerprint, :architecture, :n_layers, :n_parameters, :quantization) "
    "ON CONFLICT DO NOTHING"
)
FIND_RUN = text(
    "SELECT runs.id FROM runs JOIN models ON models.id = runs.model_id "
    "WHERE models.key = :key AND models.fingerprint = :fingerprint "
    "AND kind = :kind AND seed = :seed AND config_hash = :config_hash AND repeat = 0"
)
PLAN_RUN = text(
    "INSERT INTO runs (uuid, kind, model_id, seed, config, config_hash, baseline_run_id, state, attempt, planned_at, "
    "notes) VALUES (:uuid, :kind, :model, :seed, :config, :config_hash, :baseline, 'planned', 0, :now, '{}') "
    "ON CONFLICT DO NOTHING RETURNING id"
)
LINK_BASELINE = text("UPDATE runs SET baseline_run_id = :baseline WHERE id = :id AND baseline_run_id IS NULL")


def model_id(connection: Connection, key: str, fingerprint: str) -> int | None:
    """Row number of a model, or None."""
    found: int | None = connection.scalar(MODEL_ID, {"key": key, "fingerprint": fingerprint})
    return found


def ensure_model(connection: Connection, model: ModelRecord) -> int:
    """Insert the model unless it is there; its row number."""
    connection.execute(ADD_MODEL, vars(model))
    found = model_id(connection, model.key, model.fingerprint)
    assert found is not None
    return found


def find_run(connection: Connection, identity: RunIdentity) -> int | None:
    """Row number of the run with this identity, or None."""
    if not 0 <= identity.seed < 2**63:
        raise InputError(f"a seed must be between 0 and 2^63 - 1, got {identity.seed}")
    found: int | None = connection.scalar(
        FIND_RUN,
        {
            "key": identity.model_key,
            "fingerprint": identity.model_fingerprint,
            "kind": identity.kind,
            "seed": identity.seed,
            "config_hash": identity.config_hash,
        },
    )
    return found


def ensure_run(
    connection: Connection, identity: RunIdentity, *, uuid: str | None = None, baseline: int | None = None
) -> tuple[int, bool]:
    """Insert a planned run unless one with this identity is there; its row number, and whether it is new."""
    found = find_run(connection, identity)
    if found is not None:
        if baseline is not None:
            connection.execute(LINK_BASELINE, {"baseline": baseline, "id": found})
        return found, False
    model = model_id(connection, identity.model_key, identity.model_fingerprint)
    if model is None:
        raise InputError(
            f"the warehouse does not know model {identity.model_key!r} "
            f"(fingerprint {identity.model_fingerprint[:12]}...) that a run refers to"
        )
    added: int | None = connection.scalar(
        PLAN_RUN,
        {
            "uuid": uuid or run_uuid(identity),
            "kind": identity.kind,
            "model": model,
            "seed": identity.seed,
            "config": identity.config_json,
            "config_hash": identity.config_hash,
            "baseline": baseline,
            "now": now(),
        },
    )
    if added is not None:
        return added, True
    found = find_run(connection, identity)  # on a server, another process was faster
    if found is None:
        raise InputError(f"the warehouse holds another run under the uuid {uuid}")
    return found, False


def ensure_probe_set(connection: Connection, record: ProbeSetRecord) -> int:
    """Insert a probe set with its probes unless it is there; its row number."""
    by_fingerprint = text("SELECT id FROM probe_sets WHERE fingerprint = :fingerprint")
    key = {"fingerprint": record.fingerprint}
    found: int | None = connection.scalar(by_fingerprint, key)
    if found is not None:
        return found
    added = connection.execute(
        text(
            "INSERT INTO probe_sets (behavior, name, package, package_version, fingerprint) "
            "VALUES (:behavior, :name, :package, :package_version, :fingerprint) ON CONFLICT DO NOTHING"
        ),
        {name: getattr(record, name) for name in ("behavior", "name", "package", "package_version", "fingerprint")},
    )
    set_id: int = connection.execute(by_fingerprint, key).scalar_one()
    if added.rowcount == 0:
        return set_id  # on a server, another process was faster
    getter = attrgetter(*PROBE_COLUMNS)
    bulk_insert(connection, "probes", ("set_id", *PROBE_COLUMNS), ((set_id, *getter(probe)) for probe in record.probes))
    return set_id


def collect_rows(
    connection: Connection, run_id: int, outcome: Outcome, probe_sets: Mapping[str, ProbeSetRecord], rows: RowBuffer
) -> None:
    """Add everything that a successful run produced to `rows`; its probe sets are inserted at once."""
    sets = _set_ids(connection, outcome, probe_sets)
    rows.add("run_probe_sets", ("run_id", "probe_set_id"), ((run_id, set_id) for set_id in sorted(sets.values())))
    for table, columns, records in (
        ("behavior_scores", SCORE_COLUMNS, outcome.scores),
        ("train_steps", STEP_COLUMNS, outcome.train_steps),
    ):
        getter = attrgetter(*columns)
        rows.add(table, ("run_id", *columns), ((run_id, *getter(record)) for record in records))
    _add_probe_scores(connection, run_id, outcome, sets, rows)
    single = [row for row in (outcome.alignment, outcome.landscape) if row is not None]
    for row in [*single, *outcome.clusters, *outcome.cluster_members, *outcome.family_rows]:
        columns = COLUMNS[type(row)]
        rows.add(
            TABLES[type(row)],
            ("run_id", *columns),
            [(run_id, *(_column_value(getattr(row, name)) for name in columns))],
        )


def _column_value(value: Any) -> Any:
    """As STRICT tables take it: flags as 0 or 1, lists as JSON."""
    if isinstance(value, bool):
        return int(value)
    return canonical_json(value) if isinstance(value, tuple | list | dict) else value


def _set_ids(connection: Connection, outcome: Outcome, probe_sets: Mapping[str, ProbeSetRecord]) -> dict[str, int]:
    """Row numbers of the outcome's probe sets, which are inserted where they are missing."""
    wanted = set(outcome.probe_sets) | {row.probe_set for row in outcome.probe_scores}
    ids = {}
    for fingerprint in sorted(wanted):
        if fingerprint in probe_sets:
            ids[fingerprint] = ensure_probe_set(connection, probe_sets[fingerprint])
            continue
        found = connection.scalar(
            text("SELECT id FROM probe_sets WHERE fingerprint = :fingerprint"), {"fingerprint": fingerprint}
        )
        if found is None:
            raise InputError(f"run {outcome.uuid} was scored with probe set {fingerprint[:12]}..., which is not here")
        ids[fingerprint] = found
    return ids


def _add_probe_scores(
    connection: Connection, run_id: int, outcome: Outcome, sets: Mapping[str, int], buffer: RowBuffer
) -> None:
    probes = {
        (fingerprint, key): probe_id
        for fingerprint, set_id in sets.items()
        for key, probe_id in connection.execute(text("SELECT key, id FROM probes WHERE set_id = :id"), {"id": set_id})
    }
    try:
        rows = [
            (
                run_id,
                probes[row.probe_set, row.probe_key],
                row.side,
                row.split,
                row.tokens,
                row.ce,
                row.answer_tokens,
                row.answer_ce,
                int(row.truncated),
            )
            for row in outcome.probe_scores
        ]
    except KeyError as error:
        raise InputError(f"run {outcome.uuid} scored probe {error.args[0][1]!r}, which its probe set lacks") from error
    columns = ("run_id", "probe_id", "side", "split", "tokens", "ce", "answer_tokens", "answer_ce", "truncated")
    buffer.add("probe_scores", columns, sorted(rows))
