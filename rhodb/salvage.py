"""Every row that can still be read of a warehouse, damaged or not, in a new and sound database beside it."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from rhodb.migrate import create_at
from rhodb.revision import HEAD
from rhodb.schema import Base

BATCH = 2_000
OWNERS = {"run_id": "runs", "evaluation_id": "external_evaluations", "model_id": "models"}
"""Columns by which the rows of a damaged table are read, owner by owner: only those on a damaged page are lost."""
ROWS_A_PAGE = 100
"""Bound for numbering rows where the last one cannot be read."""


@dataclass(frozen=True, kw_only=True)
class Loss:
    """Something of the old warehouse that could not be read or kept."""

    name: str
    """The run's uuid, or the table."""
    what: str

    def __str__(self) -> str:
        return f"{self.name}: {self.what}"


def salvage(old: Path, new: Path) -> list[Loss]:
    """Read all rows of `old` that can be read, and that its schema admits, into the new warehouse `new` of that schema.

    `old` must be a copy that nobody else uses. Returns what is missing: empty for a sound warehouse.
    """
    with closing(sqlite3.connect(old)) as source:
        source.execute("PRAGMA writable_schema = ON")  # SQLite then reads a file that is shorter than it says
        create_at(new, _revision(source))
        with closing(sqlite3.connect(new, isolation_level=None)) as target:
            target.execute("PRAGMA foreign_keys = OFF")
            target.execute("BEGIN")
            reading = _Reading(source, target)
            for table in _tables(target):
                reading.table(table)
            reading.drop_what_hangs_on_nothing()
            target.execute("COMMIT")
    return reading.losses


def _revision(source: sqlite3.Connection) -> str:
    """The schema, from its table or from the header."""
    try:
        return str(source.execute("SELECT version_num FROM alembic_version").fetchone()[0])
    except (sqlite3.Error, TypeError):
        found = source.execute("PRAGMA user_version").fetchone()[0]
        return f"{found:04}" if found else HEAD


def _tables(target: sqlite3.Connection) -> list[str]:
    """Tables in the order of their references: runs before what hangs on them."""
    present = {name for (name,) in target.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    return [table.name for table in Base.metadata.sorted_tables if table.name in present]


class _Reading:
    """One salvage: from a connection to another, and what was lost."""

    def __init__(self, source: sqlite3.Connection, target: sqlite3.Connection) -> None:
        self.source, self.target = source, target
        self.losses: list[Loss] = []
        try:
            found = source.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            self.present: set[str] | None = {name for (name,) in found}
        except sqlite3.Error:
            self.present = None

    def lose(self, name: str, what: str) -> None:
        self.losses.append(Loss(name=name, what=what))

    def table(self, table: str) -> None:
        """Copy a table: in one go where it is sound, else piece by piece."""
        if self.present is not None and table not in self.present:
            return  # an empty database
        columns = [row[1] for row in self.target.execute(f"PRAGMA table_info({table})")]
        select = f"SELECT {', '.join(columns)} FROM {table}"
        try:
            for rows in _batches(self.source.execute(select)):
                self._insert(table, columns, rows)
        except sqlite3.Error as error:
            self.target.execute(f"DELETE FROM {table}")
            self._pieces(table, columns, select, str(error))

    def _pieces(self, table: str, columns: Sequence[str], select: str, reason: str) -> None:
        owner = next((column for column in OWNERS if column in columns and table != "runs"), None)
        if owner is not None and "id" not in columns:
            self._by_owner(table, columns, select, owner)
        else:
            self._by_number(table, columns, select, reason)

    def _by_owner(self, table: str, columns: Sequence[str], select: str, owner: str) -> None:
        named = "uuid" if OWNERS[owner] == "runs" else "id"
        for number, name in self.target.execute(f"SELECT id, {named} FROM {OWNERS[owner]}").fetchall():
            try:
                rows = self.source.execute(f"{select} WHERE {owner} = ?", [number]).fetchall()
            except sqlite3.Error as error:
                self.lose(str(name) if named == "uuid" else table, f"rows of {table} cannot be read ({error})")
            else:
                self._insert(table, columns, rows)

    def _by_number(self, table: str, columns: Sequence[str], select: str, reason: str) -> None:
        key = "id" if "id" in columns else "rowid"
        lost = 0
        for number in range(1, self._last(table, key) + 1):
            try:
                rows = self.source.execute(f"{select} WHERE {key} = ?", [number]).fetchall()
            except sqlite3.Error:
                lost += 1
            else:
                self._insert(table, columns, rows)
        missing = self._missing_runs() if table == "runs" else None
        for uuid in missing or ():
            self.lose(uuid, "its row in runs cannot be read")
        if missing is None and lost:
            self.lose(table, f"rows cannot be read ({reason})")

    def _last(self, table: str, key: str) -> int:
        try:
            return int(self.source.execute(f"SELECT {key} FROM {table} ORDER BY {key} DESC LIMIT 1").fetchone()[0])
        except (sqlite3.Error, TypeError):
            try:
                return ROWS_A_PAGE * int(self.source.execute("PRAGMA page_count").fetchone()[0])
            except sqlite3.Error:
                return 0

    def _missing_runs(self) -> list[str] | None:
        """Runs that an index still names, though their rows are gone; None if it cannot be read."""
        try:
            named = {uuid for (uuid,) in self.source.execute("SELECT uuid FROM runs ORDER BY uuid")}
        except sqlite3.Error:
            return None
        return sorted(named - {uuid for (uuid,) in self.target.execute("SELECT uuid FROM runs")})

    def _insert(self, table: str, columns: Sequence[str], rows: Sequence[tuple[object, ...]]) -> None:
        sql = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
        self.target.execute("SAVEPOINT batch")
        try:
            self.target.executemany(sql, rows)
        except sqlite3.Error:
            self.target.execute("ROLLBACK TO batch")
            for row in rows:
                try:
                    self.target.execute(sql, row)
                except sqlite3.Error as error:
                    self.lose(self._owner(table, dict(zip(columns, row, strict=True))), f"a row of {table}: {error}")
        self.target.execute("RELEASE batch")

    def _owner(self, table: str, row: dict[str, object]) -> str:
        """The uuid of the run that a row belongs to, else the table's name."""
        if table == "runs":
            return str(row["uuid"])
        found = self.target.execute("SELECT uuid FROM runs WHERE id = ?", [row.get("run_id")]).fetchone()
        return str(found[0]) if found else table

    def drop_what_hangs_on_nothing(self) -> None:
        """Rows that point to rows which are not there: none of them can be kept, but a run without its baseline."""
        dropped = True
        while dropped:
            dropped = False
            for table in _tables(self.target):
                for columns, parent, keys in self._references(table):
                    dropped |= self._drop_orphans(table, columns, parent, keys)

    def _references(self, table: str) -> Iterator[tuple[str, str, str]]:
        found: dict[int, list[tuple[str, str, str]]] = {}
        for number, _, parent, column, key, *_ in self.target.execute(f"PRAGMA foreign_key_list({table})").fetchall():
            found.setdefault(number, []).append((parent, column, key))
        for parts in found.values():
            yield ", ".join(part[1] for part in parts), parts[0][0], ", ".join(part[2] for part in parts)

    def _drop_orphans(self, table: str, columns: str, parent: str, keys: str) -> bool:
        where = f"({columns}) NOT IN (SELECT {keys} FROM {parent})"
        names = [row[1] for row in self.target.execute(f"PRAGMA table_info({table})")]
        for row in self.target.execute(f"SELECT * FROM {table} WHERE {where}").fetchall():
            owner = self._owner(table, dict(zip(names, row, strict=True)))
            self.lose(owner, f"a row of {table} points to a row of {parent} that is not there")
        if columns == "baseline_run_id":
            changed = self.target.execute(f"UPDATE {table} SET baseline_run_id = NULL WHERE {where}")
        else:
            changed = self.target.execute(f"DELETE FROM {table} WHERE {where}")
        return changed.rowcount > 0


def _batches(cursor: sqlite3.Cursor) -> Iterator[list[tuple[object, ...]]]:
    while rows := cursor.fetchmany(BATCH):
        yield rows
