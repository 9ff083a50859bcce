"""Exports that somebody edited, and what else a person or a script can get wrong at these doors."""

import json
import os
import random
import sqlite3
from contextlib import closing

import pytest
from legacy_files import write_tree
from test_transfer import content, fill

from rhodb.check import check
from rhodb.errors import DatabaseError, InputError, RhodbError
from rhodb.ingest import ingest
from rhodb.location import locate
from rhodb.schema import Base
from rhodb.transfer import export_all, load_export
from rhodb.warehouse import Warehouse


@pytest.fixture(scope="module")
def export(tmp_path_factory) -> dict[str, str]:
    """Name -> text of the files of an export."""
    folder = tmp_path_factory.mktemp("export")
    fill(folder / "master.db", folder / "results")
    with Warehouse.open(folder / "master.db", read_only=True) as wh:
        done = export_all(wh, folder / "out")
    return {file.name: file.read_text() for file in done.path.iterdir()}


VALUES = (None, True, -1, 2**70, 1e308, "", "x" * 1000, "\0", "\ud800", [], {}, [[1]], {"a": 1}, "2026-01-01")


def tampered(files: dict[str, str], rng: random.Random) -> dict[str, str]:
    """One edit: a value, a column, a line, a table or the manifest."""
    files = dict(files)
    name = rng.choice(sorted(name for name, text in files.items() if text))
    if name == "rhodb-export.json":
        manifest = json.loads(files[name])
        manifest[rng.choice(sorted(manifest))] = rng.choice((*VALUES, "csv"))
        files[name] = rng.choice((json.dumps(manifest), "[" * 100_000, "null", "{"))
        return files
    lines = files[name].splitlines()
    at = rng.randrange(len(lines))
    row = json.loads(lines[at])
    column = rng.choice(sorted(row))
    edits = [
        json.dumps(row | {column: rng.choice(VALUES)}),
        json.dumps({key: value for key, value in row.items() if key != column}),
        rng.choice(("", "null", "[]", "3", '"a"', "{", "[" * 50_000)),
        lines[at] + "\n" + lines[at],
    ]
    lines[at] = rng.choice(edits)
    files[name] = "\n".join(lines) + "\n"
    return files


def test_of_edited_exports_each_is_taken_whole_or_refused_in_one_sentence(export, tmp_path):
    rng = random.Random(20261201)
    refused = 0
    for number in range(40):
        folder = tmp_path / str(number)
        folder.mkdir()
        for name, text in tampered(export, rng).items():
            (folder / name).write_text(text, encoding="utf-8", errors="surrogatepass")
        with Warehouse.open(tmp_path / "new.db") as wh:
            try:
                load_export(wh, folder)
            except RhodbError as error:
                refused += 1
                assert "\n" not in str(error) and str(folder) in str(error)
                assert wh.rows("SELECT count(*) AS n FROM runs") == [{"n": 0}]
        for file in tmp_path.glob("new.db*"):
            file.unlink()
    assert refused > 25


def test_no_file_of_an_export_is_waited_for(export, tmp_path):
    folder = tmp_path / "export"
    folder.mkdir()
    for name, text in export.items():
        (folder / name).write_text(text)
    for name in ("runs.jsonl", "rhodb-export.json"):
        (folder / name).unlink()
        os.mkfifo(folder / name)
        with Warehouse.open(tmp_path / "new.db") as wh, pytest.raises(InputError, match="is a FIFO"):
            load_export(wh, folder)


def test_a_run_that_is_its_own_baseline_is_neither_imported_nor_sound(export, tmp_path):
    folder = tmp_path / "export"
    folder.mkdir()
    rows = [json.loads(line) for line in export["runs.jsonl"].splitlines()]
    for row in rows:
        row["baseline_run_id"] = row["baseline_run_id"] and row["id"]
    for name, text in (export | {"runs.jsonl": "".join(json.dumps(row) + "\n" for row in rows)}).items():
        (folder / name).write_text(text)
    with Warehouse.open(tmp_path / "new.db") as wh, pytest.raises(InputError, match="is its own baseline"):
        load_export(wh, folder)
    fill(tmp_path / "master.db", tmp_path / "results")
    with closing(sqlite3.connect(tmp_path / "master.db")) as raw, raw:
        raw.execute("UPDATE runs SET baseline_run_id = id WHERE seed = 1 AND origin = 'rhodb'")
    with Warehouse.open(tmp_path / "master.db") as wh:
        (problem,) = [found for found in check(wh, recompute=False) if found.check == "baselines"]
        assert "is its own baseline" in problem.what and "baseline_run_id = NULL" in problem.fix


def test_after_keep_replace_still_replaces(tmp_path):
    """The kept file's contents are known, but its results were not taken."""
    folder = write_tree(tmp_path / "results")
    with Warehouse.open(tmp_path / "master.db") as wh:
        ingest(wh, [folder])
        old = content(tmp_path / "master.db")
        for file in sorted(folder.rglob("*.json")):
            file.write_text(file.read_text().replace("0.5", "0.75"))
        kept = ingest(wh, [folder], on_conflict="keep")
        assert sum(len(file.conflicts) for file in kept.files) > 0
        held = set(content(tmp_path / "master.db")["behavior_scores"])
        assert set(old["behavior_scores"]) <= held  # and the file's other runs are taken
        replaced = ingest(wh, [folder], on_conflict="replace")
        assert replaced.total("replaced") == sum(len(file.conflicts) for file in kept.files)
        again = ingest(wh, [folder], on_conflict="replace")
        assert again.total("replaced") == again.total("added") == 0
        assert not held <= set(content(tmp_path / "master.db")["behavior_scores"])


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:hunter2@host/db",
        "postgresql://host/db?user=me&password=hunter2",
        "postgresql://host/db?sslpassword=hunter2&x=1",
        "postgresql://me:hun/ter2@host:port/db",
        "postgresql://me:hunter2@host:notaport/db",
        "nosuch://me:hunter2@host/db",
        "sqlite://me:hunter2@host/",
        "mysql://me:hunter2@host/db",
        "postgresql://me:hunter2@@host/db?password=hunter2",
    ],
)
def test_no_password_is_shown(url):
    try:
        said = str(locate(url))
    except DatabaseError as error:
        said = str(error)
    assert "hunter2" not in said and "ter2" not in said


def test_every_table_is_exported(export):
    assert {f"{name}.jsonl" for name in Base.metadata.tables} | {"rhodb-export.json"} == set(export)
