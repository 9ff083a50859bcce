"""Rows of ingested runs: looked up, buffered, written in bulk through the driver."""

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection

from rhodb.ingest.drafts import CATEGORY_OUTCOMES, Key, RunDraft, category_results, counts
from rhodb.liveness import now
from rhodb.records import canonical_json, digest
from rhodb.rows import bulk_insert, uuid_of
from rhodb.vocabulary import FAMILY_TABLES

if TYPE_CHECKING:
    from rhodb.ingest.files import Contents

UNKNOWN = "unknown"
"""Fingerprint of a model of which only the name is known."""
ID_BLOCK = 500
LOOK_UP = 200
"""Runs that are looked up by one query; older SQLites take no more than 999 parameters."""
BATCH = 2000
"""Runs that wait until they are written."""
OUTCOMES = {
    "alignment": ("train_ce_loss", "train_rho_loss"),
    "steering": ("vector_norm",),
    "attack_defense": ("n_features", "n_regressed", "mean_collateral"),
    "cf90": ("retention", "rho_drop"),
}
"""Kind of run -> columns of its family's table that are results (as the formats declare them)."""
RUN_COLUMNS = (
    "id",
    "uuid",
    "kind",
    "model_id",
    "seed",
    "config",
    "config_hash",
    "repeat",
    "seed_known",
    "origin",
    "experiment",
    "baseline_run_id",
    "state",
    "attempt",
    "planned_at",
    "finished_at",
    "seconds",
    "device",
    "error",
    "notes",
    "extra",
)
SCORE_COLUMNS = ("run_id", "behavior", "metric", "split", "value", "n")


def draft_uuid(draft: RunDraft, repeat: int) -> str:
    """The name of an ingested run: that of its identity, of a repeat that of identity and number."""
    config_hash = digest(canonical_json(draft.config | {"repeat": repeat})) if repeat else draft.config_hash
    return uuid_of(draft.kind, draft.model, UNKNOWN, draft.seed, config_hash)


Identity = tuple[str, int, int, str]
"""(kind, model_id, seed, config hash)."""


@dataclass(kw_only=True)
class Known:
    """A run that is in the warehouse or waits to be inserted with the same file."""

    id: int
    repeat: int
    error: str | None
    draft: RunDraft | None = None
    """None: its results have to be looked up."""


class Driver:
    """SQL with `?` for parameters on both servers."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._mark = "?" if connection.dialect.paramstyle == "qmark" else "%s"

    def execute(self, sql: str, values: Sequence[Any] = ()) -> None:
        self.connection.exec_driver_sql(sql.replace("?", self._mark), tuple(values))

    def fetch(self, sql: str, values: Sequence[Any] = ()) -> Sequence[Sequence[Any]]:
        return self.connection.exec_driver_sql(sql.replace("?", self._mark), tuple(values)).fetchall()


class StoredRuns(Driver):
    """What the warehouse holds, looked up when it is needed and remembered for this transaction."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._known: dict[Identity, list[Known]] = {}

    def find(self, identity: Identity) -> list[Known]:
        """Runs of one identity, by repeat."""
        if identity not in self._known:
            self.look_up([identity])
        return self._known[identity]

    def look_up(self, identities: Iterable[Identity]) -> None:
        """Find the runs of several identities at once, which takes a tenth of the time of one by one."""
        wanted = [identity for identity in dict.fromkeys(identities) if identity not in self._known]
        for identity in wanted:
            self._known[identity] = []
        for start in range(0, len(wanted), LOOK_UP):
            part = wanted[start : start + LOOK_UP]
            # CROSS JOIN: SQLite's planner takes the values first, each by the index; with IN it reads all runs.
            rows = self.fetch(
                f"WITH wanted (k, m, s, c) AS (VALUES {', '.join(['(?, ?, ?, ?)'] * len(part))}) "
                "SELECT kind, model_id, seed, config_hash, id, repeat, error FROM wanted CROSS JOIN runs "
                "WHERE kind = k AND model_id = m AND seed = s AND config_hash = c ORDER BY repeat",
                [value for identity in part for value in identity],
            )
            for kind, model, seed, config_hash, run_id, repeat, error in rows:
                found = Known(id=run_id, repeat=repeat, error=error)
                self._known[kind, model, seed, config_hash].append(found)

    def remember(self, identity: Identity, known: Known) -> None:
        self._known[identity].append(known)

    def forget(self) -> None:
        """Look everything up anew: what was remembered is in the warehouse by now."""
        self._known.clear()

    def versions(self, name: str) -> list[int]:
        """Earlier versions of a file (same path from the experiment's folder on)."""
        return [row[0] for row in self.fetch("SELECT id FROM sources WHERE name = ?", (name,))]

    def stands_in(self, run_id: int, sources: Sequence[int]) -> bool:
        """Whether a run stands in one of these files."""
        sql = "SELECT 1 FROM run_sources WHERE run_id = ? AND source_id = ? LIMIT 1"
        return any(self.fetch(sql, (run_id, source)) for source in sources)

    def results(self, run_id: int) -> dict[Key, float]:
        """Every number that came out of a run, as `RunDraft.results` gives them."""
        sql = "SELECT behavior, metric, value, n FROM behavior_scores WHERE run_id = ?"
        scores = {(row[0], row[1]): (row[2], row[3]) for row in self.fetch(sql, (run_id,))}
        kind, notes = self.fetch("SELECT kind, notes FROM runs WHERE id = ?", (run_id,))[0]
        found: dict[Key, float] = {key: value for key, (value, _) in scores.items()}
        found |= counts({key: n for key, (_, n) in scores.items()}, from_json(notes))
        if columns := OUTCOMES.get(kind):
            for row in self.fetch(
                f"SELECT {', '.join(columns)} FROM {FAMILY_TABLES[kind]} WHERE run_id = ?", (run_id,)
            ):
                named = zip(columns, row, strict=True)
                found |= {("column", name): float(value) for name, value in named if value is not None}
        if kind == "fidelity":
            columns = ("category", *CATEGORY_OUTCOMES)
            sql = f"SELECT {', '.join(columns)} FROM fidelity_categories WHERE run_id = ?"
            for row in self.fetch(sql, (run_id,)):
                found |= category_results(dict(zip(columns, row, strict=True)))
        return found

    def uuid(self, run_id: int) -> str:
        return str(self.fetch("SELECT uuid FROM runs WHERE id = ?", (run_id,))[0][0])


class Rows(Driver):
    """Rows that wait to be inserted, and those that are written at once."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._models: dict[str, int] = {}
        self._ids: list[int] = []
        self._waiting: dict[int, tuple[RunDraft, tuple[Any, ...]]] = {}
        self._time = now()

    def model(self, key: str) -> int:
        """Row number of a model of which only the name is known."""
        if key not in self._models:
            self.execute(
                "INSERT INTO models (key, source, fingerprint) VALUES (?, 'named in an ingested file', ?) "
                "ON CONFLICT DO NOTHING",
                (key, UNKNOWN),
            )
            sql = "SELECT id FROM models WHERE key = ? AND fingerprint = ?"
            self._models[key] = self.fetch(sql, (key, UNKNOWN))[0][0]
        return self._models[key]

    def add(self, draft: RunDraft, model: int, baseline: int | None, repeat: int) -> int:
        """Add a run, written by the next `flush`; its row number."""
        run_id = self._next_id()
        row = (
            run_id,
            draft_uuid(draft, repeat),
            draft.kind,
            model,
            draft.seed,
            draft.config_json,
            draft.config_hash,
            repeat,
            int(draft.seed_known),
            "legacy",
            draft.experiment,
            baseline,
            "done" if draft.error is None else "failed",
            repeat + 1,
            self._time,
            draft.finished_at,
            draft.seconds,
            draft.device,
            draft.error,
            to_json(draft.notes),
            to_json(draft.extra) if draft.extra else None,
        )
        self._waiting[run_id] = draft, row
        return run_id

    def waits(self, run_id: int) -> bool:
        return run_id in self._waiting

    @property
    def is_full(self) -> bool:
        return len(self._waiting) >= BATCH

    def flush(self) -> None:
        """Insert what waits. Rows of runs first: the others point to them."""
        waiting, self._waiting = self._waiting, {}
        bulk_insert(self.connection, "runs", RUN_COLUMNS, [row for _, row in waiting.values()])
        bulk_insert(
            self.connection,
            "behavior_scores",
            SCORE_COLUMNS,
            [
                (run_id, behavior, metric, "none", value, n)
                for run_id, (draft, _) in waiting.items()
                for (behavior, metric), (value, n) in draft.scores.items()
            ],
        )
        self._insert_families([(run_id, draft) for run_id, (draft, _) in waiting.items()])

    def _insert_families(self, drafts: Sequence[tuple[int, RunDraft]]) -> None:
        grouped: dict[tuple[str, tuple[str, ...]], list[tuple[Any, ...]]] = defaultdict(list)
        for run_id, draft in drafts:
            rows = [(draft.table, draft.family)] if draft.table and draft.family else []
            for table, row in [*rows, *draft.children]:
                grouped[table, tuple(row)].append((run_id, *row.values()))
        for (table, columns), values in grouped.items():
            bulk_insert(self.connection, table, ("run_id", *columns), values)

    def add_scores(self, run_id: int, scores: dict[Key, tuple[float, int | None]]) -> None:
        """Scores that another copy of a run has beyond those that are stored."""
        rows = [(run_id, behavior, metric, "none", value, n) for (behavior, metric), (value, n) in scores.items()]
        bulk_insert(self.connection, "behavior_scores", SCORE_COLUMNS, rows)

    def replace(self, run_id: int, draft: RunDraft, baseline: int | None) -> None:
        """Give a run the results of another draft of it."""
        tables = {"behavior_scores", "run_sources", *([draft.table] if draft.table else ())}
        for table in sorted(tables | {"hybrid_phases", "fidelity_categories", "stress_responses"}):
            self.execute(f"DELETE FROM {table} WHERE run_id = ?", (run_id,))
        self.execute(
            "UPDATE runs SET state = ?, error = ?, baseline_run_id = ?, experiment = ?, finished_at = ?, seconds = ?, "
            "device = ?, notes = ?, extra = ? WHERE id = ?",
            (
                "done" if draft.error is None else "failed",
                draft.error,
                baseline,
                draft.experiment,
                draft.finished_at,
                draft.seconds,
                draft.device,
                to_json(draft.notes),
                to_json(draft.extra) if draft.extra else None,
                run_id,
            ),
        )
        self.flush()
        self.add_scores(run_id, draft.scores)
        self._insert_families([(run_id, draft)])

    def source(
        self,
        contents: "Contents",
        format_: str,
        *,
        extra: dict[str, Any],
        n_read: int,
        n_added: int,
    ) -> int:
        """Note an ingested file; its row number."""
        columns = "path, name, sha256, bytes, format, runs_read, runs_added, ingested_at, extra"
        self.execute(
            f"INSERT INTO sources ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (path, sha256) DO NOTHING",
            (
                str(contents.candidate.path),
                contents.candidate.name,
                contents.sha256,
                contents.size,
                format_,
                n_read,
                n_added,
                self._time,
                to_json(extra) if extra else None,
            ),
        )
        sql = "SELECT id FROM sources WHERE path = ? AND sha256 = ?"
        return int(self.fetch(sql, (str(contents.candidate.path), contents.sha256))[0][0])

    def complete_source(self, source: int, *, extra: dict[str, Any], n_read: int, n_added: int) -> None:
        """Note what a file held, when all of it was read."""
        sql = "UPDATE sources SET extra = ?, runs_read = ?, runs_added = ? WHERE id = ?"
        self.execute(sql, (to_json(extra) if extra else None, n_read, n_added, source))

    def link(self, source: int, links: Sequence[tuple[int, str]]) -> None:
        """Note where in a file its runs stand."""
        rows = sorted({(run_id, source, place) for run_id, place in links})
        bulk_insert(self.connection, "run_sources", ("run_id", "source_id", "place"), rows, new_only=True)

    def _next_id(self) -> int:
        if not self._ids:
            if self.connection.dialect.name == "sqlite":
                # Nobody else writes during this transaction.
                last = self.fetch("SELECT coalesce(max(id), 0) FROM runs")[0][0]
                start = max(last, max(self._waiting, default=0)) + 1
                self._ids = list(range(start + ID_BLOCK - 1, start - 1, -1))
            else:
                sql = "SELECT nextval(pg_get_serial_sequence('runs', 'id')) FROM generate_series(1, ?)"
                self._ids = [row[0] for row in self.fetch(sql, (ID_BLOCK,))][::-1]
        return self._ids.pop()


def from_json(stored: Any) -> dict[str, Any]:
    """A JSON column as SQLite (text) and PostgreSQL (an object) give it."""
    found: dict[str, Any] = json.loads(stored) if isinstance(stored, str) else stored or {}
    return found


def to_json(value: dict[str, Any]) -> str:
    """JSON that any database takes: NaN and infinities as text (an unknown key may hold one)."""
    try:
        return canonical_json(value)
    except ValueError:
        return canonical_json(_without_nan(value))


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_nan(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
