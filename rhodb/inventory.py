"""What a warehouse holds, run by run, whatever its row numbers: to see that nothing was lost on the way."""

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterator
from typing import Any

from sqlalchemy import Connection, Table, select

from rhodb.schema import Base
from rhodb.transfer.merge import KEYS

NOT_COMPARED = {
    "runs": {"baseline_run_id"},
    "sources": {"ingested_at", "runs_read", "runs_added", "extra", "format"},
}
"""Columns that may come out differently although nothing is lost: a source that is read again counts anew."""


def totals(connection: Connection) -> dict[str, dict[str, tuple[int, int]]]:
    """Run (uuid), or table of rows that belong to none -> table -> number of rows and sum of their digests."""
    found: dict[str, dict[str, tuple[int, int]]] = defaultdict(dict)
    for owner, table, digest in _digests(connection):
        n, total = found[owner].get(table, (0, 0))
        found[owner][table] = n + 1, total + digest
    return dict(found)


def details(connection: Connection, owners: Collection[str]) -> dict[tuple[str, str], set[int]]:
    """(owner, table) -> digests of the rows, for some owners."""
    found: dict[tuple[str, str], set[int]] = defaultdict(set)
    for owner, table, digest in _digests(connection):
        if owner in owners:
            found[owner, table].add(digest)
    return found


def _digests(connection: Connection) -> Iterator[tuple[str, str, int]]:
    """Every row of a warehouse: whose it is, its table, a digest of what it says."""
    names: dict[str, dict[int, str]] = {}
    for table in Base.metadata.sorted_tables:
        names[table.name] = {}
        for number, row in _rows(connection, table, names):
            owner = row["uuid"] if table.name == "runs" else row.get("run_id") or table.name
            left_out = NOT_COMPARED.get(table.name, ())
            said = repr([(column, value) for column, value in sorted(row.items()) if column not in left_out])
            yield owner, table.name, int.from_bytes(hashlib.blake2b(said.encode(), digest_size=12).digest())
            if number is not None:
                names[table.name][number] = row["uuid"] if table.name == "runs" else _key(table, row)


def _rows(
    connection: Connection, table: Table, names: dict[str, dict[int, str]]
) -> Iterator[tuple[int | None, dict[str, Any]]]:
    """A table's rows: number, and the columns with what they refer to in its place."""
    references = {
        column.name: key.column.table.name
        for column in table.columns
        for key in column.foreign_keys
        if key.column.name == "id"
    }
    if "run_id" in table.columns:
        references["run_id"] = "runs"
    for found in connection.execution_options(stream_results=True).execute(select(table)).mappings():
        row = dict(found)
        number = row.pop("id", None)
        for column, parent in references.items():
            if parent in names and row[column] is not None:
                row[column] = names[parent].get(row[column])
        yield number, row


def _key(table: Table, row: dict[str, Any]) -> str:
    return repr(tuple(row[column] for column in KEYS[table.name]))
