"""What the landscape studies answer: named tables with the way back to their rows, and sentences computed from them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from analysis.query import Query
from rhodb.errors import InputError, UnknownNameError

Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows under one heading."""

    name: str
    title: str
    columns: Mapping[str, str]
    """Key of a row -> heading, in order. Rows may hold more than is printed."""
    rows: tuple[Row, ...]
    note: str
    """How to read it: definitions and units."""
    method: str
    queries: tuple[Query, ...]
    runs: tuple[str, ...]
    """UUIDs of the runs whose rows the queries return."""


@dataclass(frozen=True, kw_only=True)
class Tables:
    """Everything one call of a study found."""

    study: str
    options: Mapping[str, Any]
    tables: tuple[Table, ...]
    conclusions: tuple[str, ...]
    messages: tuple[str, ...]
    """What was left out, and why."""
    drawing: Any = field(default=None, repr=False)
    """What the study's figures are drawn from; not part of the JSON."""

    def table(self, name: str | None) -> Table:
        """The table called `name`, or the first. Raises UnknownNameError."""
        for table in self.tables:
            if name in (None, table.name):
                return table
        raise UnknownNameError("table", str(name), tuple(table.name for table in self.tables))

    def to_json(self) -> dict[str, Any]:
        """Plain dicts and lists at full precision."""
        return {
            "study": self.study,
            "options": dict(self.options),
            "tables": {
                table.name: {
                    "title": table.title,
                    "rows": [dict(row) for row in table.rows],
                    "note": table.note,
                    "method": table.method,
                    "sql": [query.inlined() for query in table.queries],
                    "runs": list(table.runs),
                }
                for table in self.tables
            },
            "conclusions": list(self.conclusions),
            "messages": list(self.messages),
        }


def evidence(result: Tables, number: int) -> str:
    """The way back from table `number` (from 1) to its rows. 0 prints all queries."""
    if number == 0:
        return "\n\n".join(f"-- Table {table.name}\n{_sql(table)}" for table in result.tables)
    if not 0 < number <= len(result.tables):
        raise InputError(f"--explain {number}: there is no such table; there are 1 to {len(result.tables)}")
    table = result.tables[number - 1]
    lines = [
        f"Table {number}. {table.title}",
        f"Method: {table.method}",
        "Runs:",
        *(f"  {run}" for run in table.runs),
        "SQL (returns exactly the rows that the table is made of):",
        _sql(table),
    ]
    return "\n".join(lines)


def _sql(table: Table) -> str:
    return "\n".join(f"{query.inlined()};" for query in table.queries)


def listed(names: Sequence[str]) -> str:
    """`a, b and c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
