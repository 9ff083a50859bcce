"""`rhodb sql`: reads whatever is asked, writes nothing whatever is tried, and says what is wrong and where."""

import csv
import io
import json
import math
import sqlite3
import statistics
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from legacy_files import write_tree

from rhodb.adhoc import Answer, ask
from rhodb.aggregates import AGGREGATES, cohens_d, corr, quantile, ranks, register, spearman, stddev
from rhodb.errors import InputError, UnknownNameError
from rhodb.ingest import ingest
from rhodb.location import locate
from rhodb.queries import saved, saved_queries
from rhodb.warehouse import Warehouse


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sql")
    with Warehouse.open(folder / "master.db") as wh:
        ingest(wh, [write_tree(folder / "results")])
    return locate(folder / "master.db")


def refused(place, sql: str, **options) -> str:
    with pytest.raises(InputError) as caught:
        ask(place, sql, **options)
    return str(caught.value)


def test_rows_limit_and_parameters(place):
    assert ask(place, "SELECT :a AS a, :b AS b", {"a": 1, "b": "x'; DROP TABLE runs; --"}) == Answer(
        columns=["a", "b"], rows=[(1, "x'; DROP TABLE runs; --")], more=False
    )
    some = ask(place, "SELECT id FROM runs ORDER BY id", limit=2)
    assert len(some.rows) == 2 and some.more
    assert not ask(place, "SELECT id FROM runs", limit=None).more
    assert ask(place, "SELECT 1 AS a, 2 AS a, 3 AS a").columns == ["a", "a_2", "a_3"]


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM runs", "INSERT INTO models VALUES (1)", "UPDATE runs SET seed = 1", "DROP TABLE runs",
        "CREATE TABLE t (x)", "CREATE TEMP TABLE t (x)", "CREATE VIEW v AS SELECT 1", "ALTER TABLE runs ADD x",
        "ATTACH DATABASE '{folder}/new.db' AS other", "DETACH main", "VACUUM", "VACUUM INTO '{folder}/copy.db'",
        "PRAGMA journal_mode = DELETE", "PRAGMA query_only = OFF", "PRAGMA writable_schema = ON",
        "PRAGMA user_version = 5",
        "BEGIN", "SAVEPOINT x", "REINDEX", "ANALYZE", "SELECT load_extension('x')",
        "WITH gone AS (SELECT 1) DELETE FROM runs", "EXPLAIN DELETE FROM runs", "REPLACE INTO models (id) VALUES (1)",
        "SELECT 1; DELETE FROM runs",
    ],
)  # fmt: skip
def test_nothing_can_be_written(place, sql):
    path = place.path
    before = path.read_bytes(), sorted(p.name for p in path.parent.iterdir() if "-" not in p.name)
    refused(place, sql.format(folder=path.parent))
    assert (path.read_bytes(), sorted(p.name for p in path.parent.iterdir() if "-" not in p.name)) == before


def test_describing_is_allowed(place):
    assert ask(place, "PRAGMA table_info(runs)").rows
    assert ask(place, "EXPLAIN QUERY PLAN SELECT * FROM runs").rows


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("SELECT *\nFROM alignmnt_runs", ["no such table", "alignment_runs", "line 2, column 6", "^"]),
        ("SELECT condtion FROM v_alignment", ["did you mean condition", "line 1, column 8"]),
        ("SELECT r.sed FROM runs AS r", ["did you mean seed", "column 10"]),
        ("SELECT stdev(seed) FROM runs", ["did you mean stddev"]),
        ("SELECT 'from,,' , seed,, kind FROM runs", ["syntax error", "column 24"]),
        ("SELECT seed FROM", ["incomplete", "column 17"]),
        ("SELECT id FROM runs, models", ["ambiguous", "column 8"]),
        ("SELECT :seed", ["-p NAME=VALUE"]),
        ("SELECT stddev(kind) FROM runs", ["stddev() needs numbers, got"]),
        ("SELECT quantile(seed, 1.5) FROM runs", ["between 0 and 1"]),
        ("", ["returns no rows"]),
        ("SELECT '\0'", ["NUL"]),
    ],
)
def test_a_wrong_query_is_explained(place, sql, words):
    message = refused(place, sql)
    for word in words:
        assert word in message, message


def test_a_query_without_end_is_stopped(place):
    endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT sum(x) FROM c"
    assert "more than 0.2 s" in refused(place, endless, timeout_s=0.2)
    for endless_limit in (0, float("inf"), float("nan"), 1e12):
        assert "must be > 0" in refused(place, "SELECT 1", timeout_s=endless_limit)


def test_every_saved_query_runs_and_says_what_it_shows(place):
    for query in saved_queries():
        answer = ask(place, query.sql, {"run": "x"} | query.defaults)
        assert answer.columns and query.summary.endswith(".") and query.summary[0].isupper(), query.name
    with pytest.raises(UnknownNameError, match="condition-means"):
        saved("nosuch")


NUMBERS = st.lists(st.floats(-1e6, 1e6, allow_subnormal=False), max_size=30)


def sql_aggregate(expression: str, rows: list[tuple]) -> float | None:
    connection = sqlite3.connect(":memory:")
    register(connection, [])
    connection.execute("CREATE TABLE t (x, y)")
    connection.executemany("INSERT INTO t VALUES (?, ?)", rows)
    return connection.execute(f"SELECT {expression} FROM t").fetchone()[0]


@settings(deadline=None)
@given(NUMBERS)
def test_aggregates_of_one_column_agree_with_pythons_statistics(values):
    rows = [(value, None) for value in values] + [(None, None)]
    found = sql_aggregate("stddev(x)", rows)
    if len(values) < 2:
        assert found is None
    else:
        assert found == pytest.approx(statistics.stdev(values), rel=1e-9, abs=1e-9)
    median = sql_aggregate("median(x)", rows)
    assert median == (pytest.approx(statistics.median(values)) if values else None)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=2, max_size=20))
def test_correlations_agree_with_scipy(pairs):
    from scipy import stats

    xs, ys = [float(x) for x, _ in pairs], [float(y) for _, y in pairs]
    assert ranks(xs) == list(stats.rankdata(xs))
    if len(set(xs)) == 1 or len(set(ys)) == 1:
        assert corr(xs, ys) is None and spearman(xs, ys) is None
    else:
        assert corr(xs, ys) == pytest.approx(stats.pearsonr(xs, ys).statistic, abs=1e-9)
        assert sql_aggregate("spearman(x, y)", pairs) == pytest.approx(stats.spearmanr(xs, ys).statistic, abs=1e-9)


def test_worked_cases():
    assert quantile([1, 2, 3, 4], 0.25) == 1.75 and stddev([2.0]) is None
    # Two groups of SD 1 whose means are 2 apart.
    assert cohens_d([1, 2, 3, 3, 4, 5], [0, 0, 0, 1, 1, 1]) == pytest.approx(2.0)
    assert sql_aggregate("cohens_d(x, y)", [(1, 0), (1, 1)]) is None
    assert all(meaning for _, _, meaning in AGGREGATES.values())


def test_command(tmp_path, rhodb, place):
    db = ("--db", place.path)
    query = "SELECT kind, seed, 1e999 AS big, x'00ff' AS raw FROM runs WHERE seed = :s LIMIT 1"
    done = rhodb(*db, "sql", query, "-p", "s=42", "--json")
    assert json.loads(done.stdout)[0].items() >= {"seed": 42, "big": "inf", "raw": "x'00ff'"}.items()
    (tmp_path / "q.sql").write_text("SELECT place FROM run_sources WHERE place LIKE '%[%' ORDER BY place")
    shown = rhodb(*db, "sql", "--file", "q.sql", "--limit", "3")
    assert "$.conditions" in shown.stdout or "[0]" in shown.stdout
    assert "only the first 3 rows" in shown.stderr
    rows = list(csv.reader(io.StringIO(rhodb(*db, "sql", "--file", "q.sql", "--csv", "--limit", "0").stdout)))
    assert rows[0] == ["place"] and len(rows) > 4
    assert "condition-means" in rhodb("sql", "--saved").stdout
    assert rhodb(*db, "sql", "--saved", "run-counts", "--markdown").stdout.startswith("| kind |")
    for wrong in (["sql", "DELETE FROM runs"], ["sql", "--saved", "nosuch"], ["sql", "SELECT 1", "-p", "1=2"],
                  ["sql", "--file", "nowhere.sql"], ["sql", "SELECT 1", "--csv", "--json"]):  # fmt: skip
        failed = rhodb(*db, *wrong)
        assert failed.returncode == 2 and "Traceback" not in failed.stderr, (wrong, failed.stderr)
    assert rhodb("--db", "nowhere.db", "sql", "SELECT 1").returncode == 2
    assert not (tmp_path / "nowhere.db").exists()


def test_it_loads_no_sqlalchemy_and_works_on_a_read_only_copy(python, place):
    code = (
        "import sys; from rhodb.adhoc import ask; from rhodb.location import locate; "
        "print(ask(locate(sys.argv[1]), 'SELECT count(*) FROM runs').rows[0][0] > 0, 'sqlalchemy' in sys.modules)"
    )
    output, error = python(code, place.path).communicate(timeout=60)
    assert output == "True False\n", error


def test_numbers_survive_json(place):
    answer = ask(place, "SELECT value FROM behavior_scores")
    assert all(math.isfinite(value) for (value,) in answer.rows) and Path(place.path).exists()
