"""Is the warehouse sound? Every problem comes with what to do about it."""

import shlex
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from rhodb.errors import DatabaseError
from rhodb.liveness import Owner, is_dead
from rhodb.records import digest
from rhodb.sql import saved_query
from rhodb.vocabulary import FAMILY_TABLES
from rhodb.warehouse import Warehouse

TOLERANCE = 1e-9
"""Allowed difference between a stored metric and the one recomputed from probe scores."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Something wrong with the warehouse."""

    check: str
    what: str
    fix: str
    """A command, or what to do."""


def check(wh: Warehouse, *, recompute: bool = True) -> list[Problem]:
    """All checks in turn; an empty list means sound. `recompute` compares every metric (0.03 s a run)."""
    problems: list[Problem] = []
    if wh.is_sqlite:
        problems += _integrity(wh)
        if problems:
            return problems  # nothing else can be trusted
        problems += _foreign_keys(wh)
    problems += [*_states(wh), *_baselines(wh), *_hashes(wh), *_abandoned(wh), *_spooled(wh)]
    if recompute:
        problems += _metrics(wh)
    return problems


def _sql(wh: Warehouse, statement: str) -> str:
    """A command line that runs a statement, with foreign keys on."""
    if wh.is_sqlite:
        return f"sqlite3 {shlex.quote(str(wh.location))} {shlex.quote('PRAGMA foreign_keys = ON; ' + statement)}"
    place = str(wh.location).replace("+psycopg", "", 1)
    return f"psql {shlex.quote(place)} -c {shlex.quote(statement)}"


def _integrity(wh: Warehouse) -> Iterator[Problem]:
    try:
        found = [str(row["integrity_check"]) for row in wh.rows("PRAGMA integrity_check")]
    except DatabaseError as error:
        found = [str(error)]  # damaged so badly that even the check stops
    for what in found:
        if what != "ok":
            yield Problem(
                check="integrity",
                what=what,
                fix=f"move {wh.location} away, put a backup in its place, then `rhodb runs recover`",
            )


def _foreign_keys(wh: Warehouse) -> Iterator[Problem]:
    broken: dict[tuple[str, str, int], int] = defaultdict(int)
    for row in wh.rows("PRAGMA foreign_key_check"):
        broken[row["table"], row["parent"], row["fkid"]] += 1
    for (table, parent, key), n in broken.items():
        link = next(r for r in wh.rows(f"PRAGMA foreign_key_list({table})") if r["id"] == key)
        yield Problem(
            check="foreign keys",
            what=f"{n} rows of {table} point to rows of {parent} that do not exist",
            fix=_sql(
                wh,
                f"DELETE FROM {table} WHERE {link['from']} NOT IN (SELECT {link['to']} FROM {parent})",
            ),
        )


STATE_CHECKS = (
    (
        "is done, but has no scores",
        "SELECT uuid FROM runs WHERE state = 'done' AND kind IN ('baseline', 'alignment') AND origin = 'rhodb' "
        "AND NOT EXISTS (SELECT 1 FROM behavior_scores WHERE run_id = runs.id)",
        True,
    ),
    *(
        (
            f"is a finished {kind} run without a row in {table}",
            f"SELECT uuid FROM runs WHERE state = 'done' AND kind = '{kind}' "
            f"AND NOT EXISTS (SELECT 1 FROM {table} WHERE run_id = runs.id)",
            True,
        )
        for kind, table in FAMILY_TABLES.items()
    ),
    (
        "is not done, but has scores",
        "SELECT uuid FROM runs WHERE state <> 'done' "
        "AND (EXISTS (SELECT 1 FROM behavior_scores WHERE run_id = runs.id) "
        "OR EXISTS (SELECT 1 FROM probe_scores WHERE run_id = runs.id))",
        True,
    ),
    (
        "is done, but its baseline is not, so that it has no differences",
        "SELECT runs.uuid FROM runs JOIN runs AS baselines ON baselines.id = runs.baseline_run_id "
        "WHERE runs.state = 'done' AND baselines.state <> 'done'",
        False,
    ),
)
"""(what is wrong, SQL that finds such runs, whether the run must be executed anew)."""

RUN_TABLES = (
    "run_probe_sets",
    "behavior_scores",
    "probe_scores",
    "train_steps",
    "hybrid_phases",
    "fidelity_categories",
    "stress_responses",
    *FAMILY_TABLES.values(),
)


def _states(wh: Warehouse) -> Iterator[Problem]:
    for what, sql, anew in STATE_CHECKS:
        for row in wh.rows(sql):
            fix = "run the experiment's command again (`rhodb runs recover` first, if its outcome is spooled)"
            yield Problem(
                check="states", what=f"run {row['uuid']} {what}", fix=_renew(wh, row["uuid"]) if anew else fix
            )


def _baselines(wh: Warehouse) -> Iterator[Problem]:
    """A run is compared with a run that has no baseline of its own, so never with itself, nor in a circle."""
    sql = (
        "SELECT runs.uuid AS uuid, baselines.uuid AS baseline FROM runs "
        "JOIN runs AS baselines ON baselines.id = runs.baseline_run_id "
        "WHERE baselines.baseline_run_id IS NOT NULL ORDER BY runs.id"
    )
    for row in wh.rows(sql):
        own = row["uuid"] == row["baseline"]
        what = "is its own baseline" if own else f"has run {row['baseline']} as baseline, which has one itself"
        yield Problem(
            check="baselines",
            what=f"run {row['uuid']} {what}",
            fix="restore it from a backup, or let it have none: "
            + _sql(wh, f"UPDATE runs SET baseline_run_id = NULL WHERE uuid = '{row['uuid']}'"),
        )


def _renew(wh: Warehouse, uuid: str) -> str:
    """How a run's rows are made again: from its file, or by its experiment."""
    origin = wh.rows("SELECT origin FROM runs WHERE uuid = :uuid", uuid=uuid)[0]["origin"]
    return _reset(wh, uuid) if origin == "rhodb" else _ingested_anew(wh, uuid)


def _ingested_anew(wh: Warehouse, uuid: str) -> str:
    """The command that makes an ingested run again, from its file; a copy of the warehouse is kept."""
    if wh.is_sqlite:
        return f"rhodb --db {shlex.quote(str(wh.location))} rebuild --without {uuid}"
    return "ingest its file into a new warehouse (`rhodb --db new.db ingest FILE`), or restore a backup"


def _reset(wh: Warehouse, uuid: str) -> str:
    """The command that empties a run and plans it anew."""
    this = f"(SELECT id FROM runs WHERE uuid = '{uuid}')"
    deletes = "".join(f"DELETE FROM {table} WHERE run_id = {this}; " for table in RUN_TABLES)
    return (
        _sql(wh, f"{deletes}UPDATE runs SET state = 'planned', error = NULL WHERE uuid = '{uuid}'")
        + " and run the experiment's command again"
    )


def _hashes(wh: Warehouse) -> Iterator[Problem]:
    for row in wh.rows("SELECT uuid, origin, config, config_hash FROM runs"):
        if digest(row["config"]) != row["config_hash"]:
            anew = _ingested_anew(wh, row["uuid"])
            delete = _sql(wh, f"DELETE FROM runs WHERE uuid = '{row['uuid']}'")
            again = f"delete the run: {delete} and run the experiment's command again"
            yield Problem(
                check="configurations",
                what=f"the configuration of run {row['uuid']} was changed after the run was planned",
                fix="restore it from a backup, or " + (again if row["origin"] == "rhodb" else anew),
            )


def _abandoned(wh: Warehouse) -> Iterator[Problem]:
    sql = "SELECT uuid, host, pid, process_started, heartbeat_at FROM runs WHERE state = 'running'"
    for row in wh.rows(sql):
        known = None not in (row["host"], row["pid"], row["process_started"])
        owner = Owner(host=row["host"], pid=row["pid"], process_started=row["process_started"]) if known else None
        if is_dead(owner, row["heartbeat_at"]):
            yield Problem(
                check="processes",
                what=f"run {row['uuid']} is running in process {row['pid']} on {row['host']}, which is gone",
                fix="run the experiment's command again: it takes the run up",
            )


def _spooled(wh: Warehouse) -> Iterator[Problem]:
    from rhodb.spool import Spool

    waiting = len(Spool.beside(wh).pending())
    if waiting:
        yield Problem(
            check="spool",
            what=f"{waiting} finished runs in {wh.spool_folder} are not in the warehouse",
            fix=f"rhodb --db {shlex.quote(str(wh.location))} runs recover",
        )


def _metrics(wh: Warehouse) -> Iterator[Problem]:
    sql = (
        "SELECT id, uuid FROM runs WHERE state = 'done' "
        "AND EXISTS (SELECT 1 FROM probe_scores WHERE run_id = runs.id) ORDER BY id"
    )
    for run in wh.rows(sql):
        for row in wh.rows(saved_query("check_recomputed"), run_id=run["id"], tolerance=TOLERANCE):
            yield Problem(
                check="metrics",
                what=f"run {run['uuid']}: {row['behavior']} {row['metric']} ({row['split']}) is stored as "
                f"{row['stored']} (n {row['stored_n']}), its probe scores give {row['computed']} "
                f"(n {row['computed_n']})",
                fix=_renew(wh, run["uuid"]),
            )
