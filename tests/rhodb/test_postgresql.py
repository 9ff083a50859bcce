"""A warehouse on a PostgreSQL server: shared by many processes, queried, merged, exported, checked."""

import json
import os

import numpy as np
import pytest
from legacy_files import write_tree
from postgres_server import databases  # noqa: F401
from test_family_rows import SAMPLES, made
from warehouse_samples import BASELINE, address, identity, outcome, probe_scores, probe_set

from rhodb import migrate
from rhodb.adhoc import ask
from rhodb.check import check
from rhodb.errors import DatabaseError, InputError
from rhodb.ingest import ingest
from rhodb.location import locate
from rhodb.queries import saved, saved_queries
from rhodb.query import diff_runs, list_runs, show_run
from rhodb.revision import HEAD
from rhodb.store import insert_outcome, run_uuid
from rhodb.transfer import export_all, load_export, merge
from rhodb.vectors import WarehouseVectors
from rhodb.warehouse import Warehouse

metrics = pytest.importorskip("runners.metrics")


@pytest.fixture
def wh(databases):  # noqa: F811
    with Warehouse.open(databases.warehouse()) as opened:
        yield opened


def test_models_and_migrations_agree_and_go_down_and_up(databases):  # noqa: F811
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    from rhodb.schema import Base

    url = databases.empty()
    assert migrate.upgrade(locate(url)) == (None, HEAD)
    with Warehouse.open(url) as opened:
        with opened.read() as connection:
            options = {"compare_type": True, "include_object": lambda o, name, *_: not str(name).startswith("v_")}
            assert compare_metadata(MigrationContext.configure(connection, opts=options), Base.metadata) == []
        insert_outcome(opened, outcome(identity(1)), {})
        held = opened.rows("SELECT * FROM behavior_scores")
    migrate.downgrade(locate(url), "0001")
    migrate.upgrade(locate(url))
    with Warehouse.open(url) as opened:
        assert opened.rows("SELECT * FROM behavior_scores") == held
    migrate.downgrade(locate(url), "base")
    with Warehouse.open(url) as opened:
        assert opened.rows("SELECT * FROM runs") == []


MANY = """
import sys
from warehouse_samples import BASELINE, MODEL, identity, outcome
from rhodb.store import PlannedCell, claim, insert_outcome, plan, this_process
from rhodb.warehouse import Warehouse
cells = [PlannedCell(identity=identity(seed), baseline=BASELINE) for seed in range(12)]
with Warehouse.open(sys.argv[1]) as wh:
    for status, cell in zip(plan(wh, MODEL, cells), cells):
        if claim(wh, status.uuid, this_process()) is not None:
            assert insert_outcome(wh, outcome(cell.identity, baseline=BASELINE), {})
            print(cell.identity.seed)
"""


def test_eight_processes_make_one_warehouse_and_do_every_run_once(databases, python):  # noqa: F811
    url = databases.empty()
    processes = [python(MANY, url) for _ in range(8)]
    results = [process.communicate(timeout=180) for process in processes]
    assert all(process.returncode == 0 for process in processes), [error for _, error in results]
    assert sorted(int(seed) for output, _ in results for seed in output.split()) == list(range(12))


INGEST = """
import sys
from pathlib import Path
from rhodb.ingest import ingest
from rhodb.warehouse import Warehouse
with Warehouse.open(sys.argv[1]) as wh:
    print(ingest(wh, [Path(sys.argv[2])]).total("added"))
"""


def test_four_processes_that_ingest_one_tree_add_it_once(wh, tmp_path, python):
    tree = write_tree(tmp_path / "results")
    processes = [python(INGEST, address(wh), tree) for _ in range(4)]
    results = [process.communicate(timeout=180) for process in processes]
    assert all(process.returncode == 0 for process in processes), [error[-600:] for _, error in results]
    assert wh.rows("SELECT count(*) AS n FROM sources")[0]["n"] == 10
    assert wh.rows("SELECT count(*) AS n FROM alignment_runs")[0]["n"] == 9
    assert check(wh) == []


@pytest.mark.parametrize("kind", SAMPLES)
def test_rows_of_every_family_and_their_views(wh, kind):
    assert insert_outcome(wh, made(kind), {})
    assert wh.rows(f"SELECT run FROM {SAMPLES[kind][0]}") == [{"run": made(kind).uuid}]
    assert show_run(wh, made(kind).uuid).family


def test_recomputed_metrics_questions_and_checks(wh):
    record = probe_set(pairs=12)
    for i, (of, base) in enumerate([(BASELINE, None), (identity(1), BASELINE)]):
        rows = probe_scores(record, np.random.default_rng(i), answers=True)
        done = outcome(of, baseline=base, probe_rows=rows, scores=metrics.behavior_scores("toxicity", rows))
        assert insert_outcome(wh, done, {record.fingerprint: record})
    assert check(wh) == []
    with wh.write() as connection:
        connection.exec_driver_sql("UPDATE behavior_scores SET value = value + 1e-6 WHERE metric = 'gap'")
    problems = check(wh)
    assert problems and all("psql" in problem.fix for problem in problems)
    assert [row["seed"] for row in list_runs(wh.location)] == [1, 0]
    assert diff_runs(wh, run_uuid(identity(1)), run_uuid(BASELINE)).scores
    stored = wh.rows("SELECT count(*) AS n FROM behavior_scores WHERE run_id <> 1")[0]["n"]
    assert len(wh.scores(kind="alignment")) == stored > 10 and len(wh.runs(kind="alignment")) == 1


def test_ad_hoc_sql_reads_only_and_explains(wh):
    place = wh.location
    assert ask(place, "SELECT :a AS a", {"a": "x'; DROP TABLE runs; --"}).rows == [("x'; DROP TABLE runs; --",)]
    answer = ask(place, "SELECT generate_series(1, 10) AS i", limit=3)
    assert [row[0] for row in answer.rows] == [1, 2, 3] and answer.more
    for sql, words in (
        ("DELETE FROM runs", "only read"),
        ("CREATE TABLE t (x int)", "only read"),
        ("SELECT * FROM alignmnt_runs", "did you mean alignment_runs"),
        ("SELECT condtion FROM alignment_runs", "did you mean condition"),
        ("SELEC 1", "syntax error"),
        ("SELECT :missing", "-p NAME=VALUE"),
    ):
        with pytest.raises(InputError, match=words):
            ask(place, sql)
    with pytest.raises(InputError, match=r"more than 0\.2 s"):
        ask(place, "SELECT pg_sleep(5)", timeout_s=0.2)


def test_every_saved_query_runs_on_the_server_too(wh, tmp_path):
    ingest(wh, [write_tree(tmp_path / "results")])
    for query in saved_queries():
        numbers = {name: int(value) if value.isdigit() else value for name, value in query.defaults.items()}
        answer = ask(wh.location, query.sql, {"run": "x"} | numbers)
        assert answer.columns, query.name
    assert ask(wh.location, saved("condition-means").sql, saved("condition-means").defaults).rows


def test_merge_and_export_between_file_and_server(wh, tmp_path, databases):  # noqa: F811
    with Warehouse.open(tmp_path / "file.db") as file:
        insert_outcome(file, outcome(identity(1), baseline=BASELINE), {})
        insert_outcome(file, outcome(BASELINE), {})
        ingest(file, [write_tree(tmp_path / "results")])
        scores = sorted(map(tuple, file.scores()[["run", "behavior", "metric", "value"]].itertuples(index=False)))
    with Warehouse.open(tmp_path / "file.db", read_only=True) as file:
        assert merge(wh, file).written
        again = merge(wh, file)
        assert not any(again.added.values()) and again.conflicts == []
    assert sorted(map(tuple, wh.scores()[["run", "behavior", "metric", "value"]].itertuples(index=False))) == scores
    export_all(wh, tmp_path / "out", format="parquet")
    with Warehouse.open(databases.warehouse()) as third:
        load_export(third, tmp_path / "out")
        assert (
            sorted(map(tuple, third.scores()[["run", "behavior", "metric", "value"]].itertuples(index=False))) == scores
        )
        assert check(third, recompute=False) == []


def test_vectors_are_bytes(wh):
    from warehouse_samples import MODEL

    store = WarehouseVectors(address(wh))
    store.write(MODEL, {"a" * 64: b"\x00\xff"})
    assert dict(store.read(MODEL, ["a" * 64])) == {"a" * 64: b"\x00\xff"}


def test_commands(wh, tmp_path, rhodb):
    url = address(wh)
    paths = {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    write_tree(tmp_path / "results")
    assert "10 files added" in rhodb("ingest", "results", RHODB_DB=url, **paths).stdout
    assert json.loads(rhodb("--db", url, "sql", "SELECT count(*) AS n FROM sources", "--json", **paths).stdout) == [
        {"n": 10}
    ]
    assert rhodb("--db", url, "db", "check", **paths).returncode == 0
    assert "***" in rhodb("--db", url.replace("rhodb@", "rhodb:secret@"), "db", "path", **paths).stdout
    for command in ("backup", "vacuum"):
        assert rhodb("--db", url, "db", command, **paths).returncode == 2


def test_a_server_that_is_not_there_is_said():
    with pytest.raises(DatabaseError, match="does not answer"):
        Warehouse.open("postgresql://rhodb@127.0.0.1:1/none")
