"""Two warehouses into one: rows matched by their natural keys, runs by identity; all of it or nothing."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy import Connection, Table, select, text, tuple_
from sqlalchemy.exc import IntegrityError

from rhodb.engine import lock_bulk_writers
from rhodb.errors import DatabaseError
from rhodb.rows import bulk_insert
from rhodb.schema import Base
from rhodb.warehouse import Warehouse

Policy = Literal["report", "keep", "replace"]
Row = dict[str, Any]

KEYS: dict[str, tuple[str, ...]] = {
    "models": ("key", "fingerprint"),
    "probe_sets": ("fingerprint",),
    "probes": ("set_id", "key"),
    "sources": ("path", "sha256"),
    "runs": ("kind", "model_id", "seed", "config_hash", "repeat"),
    "external_evaluations": ("tool", "identity"),
    "embeddings": ("model_id", "text_hash"),
    "hypotheses": ("hash",),
    "published_values": ("source", "key"),
    "analysis_results": ("study", "parameters", "input_fingerprint"),
}
"""What makes a row the same row in another database; the other tables hang on one of these."""
FINISHED = ("done", "failed")
STATES = ("planned", "running", *FINISHED)
BATCH = 2000
LOCAL = ("adapter_path", "training_run")
"""Columns that differ between machines although the results are the same."""


@dataclass(frozen=True, kw_only=True)
class RunConflict:
    """A finished run that both warehouses hold, with different results."""

    run: str
    differences: tuple[tuple[str, Any, Any], ...]
    """(what, ours, theirs)."""

    def __str__(self) -> str:
        shown = ", ".join(f"{what} {ours} -> {theirs}" for what, ours, theirs in self.differences[:4])
        more = len(self.differences) - 4
        return f"run {self.run}: {shown}" + (f" and {more} more" if more > 0 else "")


@dataclass(kw_only=True)
class MergeReport:
    """What a merge did, or would have done."""

    added: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """Table -> rows added."""
    already: int = 0
    """Runs that both hold, alike."""
    finished: int = 0
    """Runs of ours that were not done and are now."""
    replaced: int = 0
    skipped: int = 0
    """Runs of theirs that are not finished."""
    conflicts: list[RunConflict] = field(default_factory=list)
    written: bool = True


class _Refused(Exception):  # noqa: N818  not an error: ends a transaction that must not be committed
    """Leave the transaction without committing."""


def merge(
    wh: Warehouse,
    other: Warehouse,
    *,
    on_conflict: Policy = "report",
    unfinished: bool = False,
    without_runs: Collection[str] = (),
    without_sources: Collection[str] = (),
) -> MergeReport:
    """Bring everything of `other` into `wh`, in one transaction, but for some runs (uuids) and sources (paths).

    Runs that are planned or running there are left out, unless `unfinished`. A run that both hold as done, with
    different results, is a conflict: with `report` nothing at all is written, `keep` keeps ours, `replace` takes
    theirs.
    """
    report = MergeReport()
    try:
        with other.read() as theirs, wh.write() as ours:
            lock_bulk_writers(ours)
            merging = _Merge(ours, theirs, on_conflict, report)
            merging.states = STATES if unfinished else FINISHED
            merging.without_runs, merging.without_sources = frozenset(without_runs), frozenset(without_sources)
            merging.run()
            if report.conflicts and on_conflict == "report":
                raise _Refused
    except _Refused:
        report.written = False
        report.added = defaultdict(int)
    except IntegrityError as error:
        raise DatabaseError(
            f"{other.location} cannot be merged, a row breaks a rule: {str(error.orig).splitlines()[0]}"
        ) from error
    return report


class _Merge:
    """One merge. `ids` maps their row numbers to ours, table by table."""

    def __init__(self, ours: Connection, theirs: Connection, policy: Policy, report: MergeReport) -> None:
        self.ours, self.theirs, self.policy, self.report = ours, theirs, policy, report
        self.states: tuple[str, ...] = FINISHED
        self.without_runs: frozenset[str] = frozenset()
        self.without_sources: frozenset[str] = frozenset()
        self.ids: dict[str, dict[int, int]] = {}
        self.new: dict[str, set[int]] = {}

    def run(self) -> None:
        for table in Base.metadata.sorted_tables:
            if table.name == "runs":
                self._runs(table)
            elif table.name in KEYS:
                self._keyed(table)
            else:
                self._hanging(table)

    def _keyed(self, table: Table) -> None:
        """Rows that are told by a natural key: those that are missing are added."""
        ids: dict[int, int] = {}
        new: set[int] = set()
        for part in self._read(table):
            if table.name == "sources":
                part = [row for row in part if row["path"] not in self.without_sources]  # noqa: PLW2901
            present = self._present(table, part)
            missing = [row for row in part if self._key(table, row) not in present]
            self._insert(table, missing)
            if "id" in table.columns:
                present = self._present(table, part)
                ids |= {row[" id"]: present[self._key(table, row)] for row in part}
                new |= {row[" id"] for row in missing}
        self.ids[table.name], self.new[table.name] = ids, new

    def _runs(self, table: Table) -> None:
        ids: dict[int, int] = {}
        take: set[int] = set()
        baselines: list[tuple[int, int]] = []
        for part in self._read(table, mapped=("model_id",)):
            self.report.skipped += sum(row["state"] not in self.states for row in part)
            rows = [row for row in part if row["state"] in self.states and row["uuid"] not in self.without_runs]
            present = self._present(table, rows)
            missing = [row for row in rows if self._key(table, row) not in present]
            baselines += [(row[" id"], row["baseline_run_id"]) for row in rows if row["baseline_run_id"] is not None]
            self._insert(table, [row | {"baseline_run_id": None} for row in missing])
            for row in rows:
                ours = present.get(self._key(table, row))
                if ours is not None and self._takes(row, ours):
                    self._empty(table, row, ours)
                    take.add(row[" id"])
            present = self._present(table, rows)
            ids |= {row[" id"]: present[self._key(table, row)] for row in rows}
            take |= {row[" id"] for row in missing}
        for run, baseline in baselines:
            if baseline in ids:
                given = "" if run in take else " AND baseline_run_id IS NULL"
                self.ours.execute(
                    text(f"UPDATE runs SET baseline_run_id = :baseline WHERE id = :run{given}"),
                    {"baseline": ids[baseline], "run": ids[run]},
                )
        self.ids["runs"], self.new["runs"] = ids, take

    def _takes(self, row: Row, ours: int) -> bool:
        """Whether their outcome of a run takes the place of ours."""
        state = self.ours.execute(text("SELECT state FROM runs WHERE id = :id"), {"id": ours}).scalar_one()
        if row["state"] != "done" or state != "done":
            better = row["state"] == "done" or state == "planned"
            self.report.finished += better
            self.report.already += not better
            return bool(better)
        differences = _differences(self._results(self.ours, ours), self._results(self.theirs, row[" id"]))
        if not differences:
            self.report.already += 1
            return False
        self.report.conflicts.append(RunConflict(run=row["uuid"], differences=tuple(differences)))
        self.report.replaced += self.policy == "replace"
        return self.policy == "replace"

    def _empty(self, runs: Table, row: Row, ours: int) -> None:
        """Prepare our row for their outcome: take its columns, drop what hangs on it."""
        for table in reversed(Base.metadata.sorted_tables):
            if "run_id" in table.columns:
                self.ours.execute(text(f"DELETE FROM {table.name} WHERE run_id = :id"), {"id": ours})
        kept = {"id", "uuid", "baseline_run_id", *KEYS["runs"]}
        values = {column.name: row[column.name] for column in runs.columns if column.name not in kept}
        sets = ", ".join(f"{name} = :{name}" for name in values)
        self.ours.execute(text(f"UPDATE runs SET {sets} WHERE id = :this_id"), values | {"this_id": ours})

    def _results(self, connection: Connection, run_id: int) -> dict[str, Any]:
        """Scores and family rows of a run, by name."""
        found: dict[str, Any] = {}
        for table in Base.metadata.sorted_tables:
            if "run_id" not in table.columns or table.name in ("run_sources", "train_steps", "run_probe_sets"):
                continue
            if table.name in ("probe_scores", "probe_cluster_members", "stress_responses"):
                continue  # the raw material of what is compared
            for row in connection.execute(select(table).where(table.c.run_id == run_id)).mappings():
                key = " ".join(str(row[c.name]) for c in table.primary_key.columns if c.name != "run_id")
                values = {n: v for n, v in row.items() if n not in ("run_id", *LOCAL) and v is not None}
                found |= {f"{table.name} {key} {name}".replace("  ", " "): value for name, value in values.items()}
        return found

    def _hanging(self, table: Table) -> None:
        """Rows that belong to a run or an evaluation: copied with it."""
        owner = "run_id" if "run_id" in table.columns else "evaluation_id"
        parent = "runs" if owner == "run_id" else "external_evaluations"
        addresses = table.name == "run_sources"  # a run may stand in further files, even if its rows are known
        take = sorted(self.ids[parent] if addresses else self.new[parent])
        for start in range(0, len(take), BATCH):
            query = select(table).where(table.c[owner].in_(take[start : start + BATCH]))
            rows = [self._translate(table, dict(row)) for row in self.theirs.execute(query).mappings()]
            if addresses:
                query = select(table).where(table.c.run_id.in_({row["run_id"] for row in rows}))
                held = {tuple(row) for row in self.ours.execute(query)}
                rows = [row for row in rows if tuple(row[column.name] for column in table.columns) not in held]
                rows = [row for row in rows if row["source_id"] is not None]  # its source is left out
            self._insert(table, rows)

    def _read(self, table: Table, mapped: Sequence[str] | None = None) -> Iterator[list[Row]]:
        result = self.theirs.execution_options(stream_results=True).execute(select(table).order_by(*table.primary_key))
        for part in result.mappings().partitions(BATCH):
            yield [self._translate(table, dict(row), mapped) for row in part]

    def _translate(self, table: Table, row: Row, mapped: Sequence[str] | None = None) -> Row:
        """Their row with our row numbers; their own number under ` id`."""
        if "id" in row:
            row[" id"] = row.pop("id")
        for column in table.columns:
            if mapped is not None and column.name not in mapped:
                continue
            for key in column.foreign_keys:
                if key.column.name == "id" and row[column.name] is not None:
                    row[column.name] = self.ids[key.column.table.name].get(row[column.name])
        if "run_id" in row and not any(key.column.table.name == "runs" for key in table.c.run_id.foreign_keys):
            row["run_id"] = self.ids["runs"].get(row["run_id"])
        return row

    def _key(self, table: Table, row: Row) -> tuple[Any, ...]:
        return tuple(row[name] for name in KEYS[table.name])

    def _present(self, table: Table, rows: list[Row]) -> dict[tuple[Any, ...], Any]:
        """Natural keys that we hold -> row number (or True where the table has none)."""
        columns = [table.c[name] for name in KEYS[table.name]]
        number = table.c.id if "id" in table.columns else columns[0]
        found: dict[tuple[Any, ...], Any] = {}
        wanted = [self._key(table, row) for row in rows]
        for start in range(0, len(wanted), 150):  # SQLite takes 999 parameters on old builds
            query = select(number, *columns).where(tuple_(*columns).in_(wanted[start : start + 150]))
            found |= {tuple(key): row_id for row_id, *key in self.ours.execute(query)}
        return found

    def _insert(self, table: Table, rows: list[Row]) -> None:
        names = [column.name for column in table.columns if column.name != "id"]
        bulk_insert(self.ours, table.name, names, [tuple(row[name] for name in names) for row in rows])
        self.report.added[table.name] += len(rows)


def _differences(ours: dict[str, Any], theirs: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    return [
        (name, ours.get(name), theirs.get(name))
        for name in dict.fromkeys([*ours, *theirs])
        if ours.get(name) != theirs.get(name)
    ]
