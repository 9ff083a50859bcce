"""What ingest asks of a warehouse it finds by an index: reading a whole table makes large trees quadratic."""

import json
import re

from legacy_files import sample, write_file, write_tree
from sqlalchemy import event

from rhodb.ingest import ingest

SWEEP = "alignment/sweep.json"
WHOLE_TABLE = re.compile(r"^SCAN (?!wanted\b|\d+ CONSTANT ROWS?\b|CONSTANT ROW\b)")
"""A look-up's own list of values is the only thing that may be read from end to end."""


def plans(wh, statements):
    """Statement -> the steps of SQLite's plan for it."""
    with wh.read() as connection:
        return {
            sql: [str(row[3]) for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", values)]
            for sql, values in statements.items()
        }


def test_no_query_of_ingest_reads_a_whole_table(wh, tmp_path):
    asked = {}

    def note(_connection, _cursor, sql, values, _context, _many):
        if re.match(r"\s*(SELECT|WITH|UPDATE|DELETE)", sql):
            asked[sql] = values

    event.listen(wh.engine, "before_cursor_execute", note)
    ingest(wh, [write_tree(tmp_path / "results")])
    value = sample(SWEEP)
    value["runs"][0]["quick_scores"]["factual"] = 0.7
    ingest(wh, [write_file(tmp_path / "changed", SWEEP, value)], on_conflict="replace")
    ingest(wh, [write_file(tmp_path / "merged", "alignment/other.json", value | {"lab": "3rd floor"})])
    event.remove(wh.engine, "before_cursor_execute", note)

    found = plans(wh, asked)
    assert any("FROM wanted CROSS JOIN runs" in sql for sql in found), json.dumps(list(asked), indent=1)
    whole = {sql: plan for sql, plan in found.items() if any(WHOLE_TABLE.match(step) for step in plan)}
    assert whole == {}
