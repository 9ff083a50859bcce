"""Export and import give the same warehouse; merging two gives what one would have been; conflicts change nothing."""

import json
import shutil
import signal
import sqlite3
import subprocess
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from legacy_files import sample, write_file, write_tree
from warehouse_samples import BASELINE, MODEL, dump, identity, outcome, probe_scores, probe_set

from rhodb.check import check
from rhodb.errors import DatabaseBusyError, InputError
from rhodb.ingest import ingest
from rhodb.liveness import this_process
from rhodb.published import PublishedValue, insert_values
from rhodb.schema import Base
from rhodb.store import PlannedCell, claim, insert_outcome, plan, run_uuid
from rhodb.transfer import export_all, export_query, load_export, merge
from rhodb.vectors import WarehouseVectors
from rhodb.warehouse import Warehouse

FIGURE = PublishedValue(
    source="notes", section='S "1", ä', key="k", claim="line\nbreak", value=0.1, precision=None, unit="", n=None
)


def fill(path: Path, folder: Path, seeds=(1, 2)) -> None:
    """A warehouse with rows in almost every table, hostile texts and missing values among them."""
    record = probe_set(pairs=4)
    record = replace(
        record, probes=(replace(record.probes[0], positive='say "no",\r\nλ\t', category=""), *record.probes[1:])
    )
    with Warehouse.open(path) as wh:
        for seed in seeds:
            rows = probe_scores(record, np.random.default_rng(seed), answers=True)
            insert_outcome(
                wh, outcome(identity(seed), baseline=BASELINE, probe_rows=rows), {record.fingerprint: record}
            )
        insert_outcome(wh, outcome(BASELINE), {})
        insert_outcome(wh, outcome(identity(9), baseline=BASELINE, error="it\nbroke"), {})
        ingest(wh, [write_tree(folder)])
        insert_values(wh, [FIGURE])
    WarehouseVectors(path).write(MODEL, {"a" * 64: b"\x00\x01\xff\n", "b" * 64: b"\x7f" * 8})


@pytest.fixture(scope="module")
def filled(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("filled 'ü'")
    fill(folder / "master.db", folder / "results")
    return folder / "master.db"


def content(path: Path) -> dict[str, list[tuple]]:
    """Every row without row numbers: references are replaced by what they refer to."""
    names = {
        "runs": "SELECT id, uuid FROM runs", "models": "SELECT id, key || fingerprint FROM models",
        "probe_sets": "SELECT id, fingerprint FROM probe_sets", "sources": "SELECT id, path || sha256 FROM sources",
        "probes": "SELECT probes.id, fingerprint || probes.key FROM probes JOIN probe_sets ON probe_sets.id = set_id",
        "external_evaluations": "SELECT id, identity FROM external_evaluations",
    }  # fmt: skip
    with closing(sqlite3.connect(path)) as raw:
        raw.row_factory = sqlite3.Row
        maps = {table: dict(map(tuple, raw.execute(sql))) for table, sql in names.items()}
        found = {}
        for table in Base.metadata.sorted_tables:
            rows = []
            for row in raw.execute(f"SELECT * FROM {table.name}"):
                values = dict(row)
                values.pop("id", None)
                for column in table.columns:
                    for key in column.foreign_keys:
                        target = key.column.table.name if key.column.name == "id" else "runs"
                        if column.name in values and target in maps and column.name != "cluster":
                            values[column.name] = maps[target].get(values[column.name])
                values.pop("planned_at", None), values.pop("ingested_at", None)
                rows.append(tuple(values.items()))
            found[table.name] = sorted(rows, key=repr)
        return found


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_an_export_imported_into_a_new_warehouse_is_the_same_warehouse(filled, tmp_path, form):
    with Warehouse.open(filled, read_only=True) as wh:
        done = export_all(wh, tmp_path / "out put", format=form)
    assert done.rows["behavior_scores"] > 10 and done.rows["embeddings"] == 2
    with Warehouse.open(tmp_path / "new.db") as wh:
        report = load_export(wh, tmp_path / "out put")
        assert report.written and report.conflicts == []
        assert check(wh, recompute=False) == []
        again = load_export(wh, tmp_path / "out put")
        assert not any(again.added.values()) and again.already > 10
    assert content(tmp_path / "new.db") == content(filled)


def test_a_damaged_export_is_refused_and_nothing_written(filled, tmp_path):
    with Warehouse.open(filled, read_only=True) as wh, Warehouse.open(tmp_path / "new.db") as new:
        folder = export_all(wh, tmp_path / "out").path
        with pytest.raises(InputError, match="exists already"):
            export_all(wh, folder)
        scores = folder / "behavior_scores.jsonl"
        whole = scores.read_text()
        for broken, words in (
            (whole[: len(whole) // 2], "cannot be imported"),
            ("".join(whole.splitlines(keepends=True)[:-1]), "not complete"),
            (whole.replace('"metric": "gap"', '"metric": "gep"', 1), "cannot be imported"),
        ):
            scores.write_text(broken)
            with pytest.raises(InputError, match=words):
                load_export(new, folder)
        (folder / "rhodb-export.json").write_text(json.dumps({"format": "jsonl", "schema": "9999"}))
        with pytest.raises(InputError, match="schema 9999"):
            load_export(new, folder)
        with pytest.raises(InputError, match="no export"):
            load_export(new, tmp_path)
        assert new.rows("SELECT count(*) AS n FROM runs") == [{"n": 0}]


def test_tables_views_and_queries_into_one_file(filled, tmp_path):
    with Warehouse.open(filled, read_only=True) as wh:
        n = export_query(wh, tmp_path / "scores.parquet", table="v_scores").rows["v_scores"]
        table = pq.read_table(tmp_path / "scores.parquet")
        assert table.num_rows == n == wh.rows("SELECT count(*) AS n FROM v_scores")[0]["n"]
        assert str(table.schema.field("value").type) == "double" and str(table.schema.field("seed").type) == "int64"
        export_query(wh, tmp_path / "q.csv", sql="SELECT 1 AS a, NULL AS b, '' AS c, 'x\"y' AS d")
        assert (tmp_path / "q.csv").read_text() == '"a","b","c","d"\n1,,"","x""y"\n'
        export_query(wh, tmp_path / "m.jsonl", table="models")
        assert json.loads((tmp_path / "m.jsonl").read_text().splitlines()[0])["key"] == "tiny"
        for wrong in ({"table": "nosuch"}, {"sql": "DELETE FROM runs"}, {}, {"table": "runs", "sql": "SELECT 1"}):
            with pytest.raises(InputError):
                export_query(wh, tmp_path / "w.csv", **wrong)
        with pytest.raises(InputError, match="choose from csv"):
            export_query(wh, tmp_path / "w.xlsx", table="runs")
        assert not (tmp_path / "w.csv").exists()


def test_two_labs_merged_in_either_order_hold_what_one_would_have_held(tmp_path):
    fill(tmp_path / "a.db", tmp_path / "results", seeds=(1, 2))
    fill(tmp_path / "b.db", tmp_path / "results", seeds=(2, 3, 4))
    fill(tmp_path / "both.db", tmp_path / "results", seeds=(1, 2, 3, 4))
    for first, second in (("a", "b"), ("b", "a")):
        path = tmp_path / f"{first}{second}.db"
        shutil.copy(tmp_path / f"{first}.db", path)
        with Warehouse.open(path) as wh, Warehouse.open(tmp_path / f"{second}.db", read_only=True) as other:
            report = merge(wh, other)
            assert report.conflicts == [] and report.added["runs"] in (1, 2)
            assert check(wh, recompute=False) == []
        assert content(path) == content(tmp_path / "both.db")


def test_different_outcomes_of_one_run_are_a_conflict(tmp_path):
    for name, value in (("a", 0.25), ("b", 0.75)):
        with Warehouse.open(tmp_path / f"{name}.db") as wh:
            insert_outcome(wh, outcome(BASELINE), {})
            insert_outcome(wh, outcome(identity(1), baseline=BASELINE, value=value), {})
            if name == "b":
                insert_outcome(wh, outcome(identity(2), baseline=BASELINE), {})
    before = dump(tmp_path / "a.db")
    with Warehouse.open(tmp_path / "a.db") as wh, Warehouse.open(tmp_path / "b.db", read_only=True) as other:
        report = merge(wh, other)
        (conflict,) = report.conflicts
        assert conflict.run == run_uuid(identity(1)) and ("behavior_scores toxicity gap eval value", 0.25, 0.75) in (
            conflict.differences
        )
        assert not report.written and dump(tmp_path / "a.db") == before
        kept = merge(wh, other, on_conflict="keep")
        assert kept.written and kept.added["runs"] == 1
        sql = "SELECT value FROM v_scores WHERE seed = 1 AND kind = 'alignment'"
        assert wh.rows(sql) == [{"value": 0.25}]
        assert merge(wh, other, on_conflict="replace").replaced == 1
        assert wh.rows(sql) == [{"value": 0.75}] and check(wh, recompute=False) == []


def test_a_done_run_replaces_one_that_is_not_and_unfinished_ones_stay_away(tmp_path):
    cell = PlannedCell(identity=identity(1), baseline=BASELINE)
    with Warehouse.open(tmp_path / "a.db") as wh:
        plan(wh, MODEL, [cell])
    with Warehouse.open(tmp_path / "b.db") as other:
        insert_outcome(other, outcome(BASELINE), {})
        insert_outcome(other, outcome(identity(1), baseline=BASELINE), {})
        plan(other, MODEL, [PlannedCell(identity=identity(7), baseline=BASELINE)])
        claim(other, run_uuid(identity(7)), this_process())
    with Warehouse.open(tmp_path / "a.db") as wh, Warehouse.open(tmp_path / "b.db", read_only=True) as other:
        report = merge(wh, other)
        assert (report.finished, report.skipped, report.written) == (2, 1, True)
        states = wh.rows("SELECT seed, state FROM runs ORDER BY seed")
        assert states == [{"seed": 0, "state": "done"}, {"seed": 1, "state": "done"}]
        assert (
            wh.rows("SELECT delta FROM v_scores WHERE seed = 1")[0]["delta"] == 0.0 and check(wh, recompute=False) == []
        )


MERGE = """
import sys
from rhodb.transfer import merge
from rhodb.warehouse import Warehouse
with Warehouse.open(sys.argv[1]) as wh, Warehouse.open(sys.argv[2], read_only=True) as other:
    print("open", flush=True)
    merge(wh, other)
"""


def test_killed_while_merging_nothing_is_merged(tmp_path, python):
    tree = tmp_path / "steering"
    value = sample("steering/heatmap_m.json")
    value["sweep"] = [{**value["sweep"][0], "layer": layer} for layer in range(4000)]
    with Warehouse.open(tmp_path / "b.db") as other:
        ingest(other, [write_file(tree, "heatmap_m.json", value)])
    with Warehouse.open(tmp_path / "a.db"):
        pass
    for delay in (0.01, 0.1, 0.25):
        process = python(MERGE, tmp_path / "a.db", tmp_path / "b.db")
        process.stdout.readline()
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        with Warehouse.open(tmp_path / "a.db") as wh:
            assert wh.rows("SELECT count(*) AS n FROM runs")[0]["n"] in (0, 4001) and check(wh, recompute=False) == []
    assert python(MERGE, tmp_path / "a.db", tmp_path / "b.db").wait(timeout=120) == 0
    assert content(tmp_path / "a.db")["steering_heatmap"] == content(tmp_path / "b.db")["steering_heatmap"]


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of three megabytes."""
    place = tmp_path / "tiny disk"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3M", "tmpfs", str(place)], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("mounting needs rights that this user lacks")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)  # another process may be looking at it


def test_a_full_disk_leaves_no_half_export(filled, tiny_disk):
    (tiny_disk / "filler").write_bytes(b"x" * 3_100_000)
    with Warehouse.open(filled, read_only=True) as wh:
        with pytest.raises(DatabaseBusyError, match="full"):
            export_all(wh, tiny_disk / "out")
        with pytest.raises(DatabaseBusyError, match="full"):
            export_query(wh, tiny_disk / "scores.csv", sql="SELECT a.* FROM v_scores AS a, runs")
    assert [path.name for path in tiny_disk.iterdir()] == ["filler"]


def test_a_folder_that_cannot_be_written_is_said(filled, tmp_path):
    (tmp_path / "file").write_text("x")
    with Warehouse.open(filled, read_only=True) as wh, pytest.raises(InputError, match="which is no folder"):
        export_all(wh, tmp_path / "file" / "out")


def test_commands(filled, tmp_path, rhodb):
    assert rhodb("--db", filled, "export", "out", "--format", "parquet").returncode == 0
    assert rhodb("--db", filled, "export", "runs.csv", "--table", "runs").returncode == 0
    done = rhodb("--db", "new.db", "import", "out")
    assert done.returncode == 0 and "added:" in done.stdout, done.stderr
    again = rhodb("--db", "new.db", "merge", filled, "--json")
    assert again.returncode == 0 and not any(json.loads(again.stdout)["added"].values())
    assert rhodb("--db", filled, "merge", filled).returncode == 2
    assert rhodb("--db", "new.db", "merge", "nowhere.db").returncode == 2
    assert rhodb("--db", "new.db", "import", "nowhere").returncode == 2
    assert not (tmp_path / "nowhere.db").exists()
