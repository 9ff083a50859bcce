"""SQL that somebody typed ends in its time, within its memory, and uses what is on the allow list: nothing else."""

import os
import re
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from legacy_files import write_tree

from rhodb.adhoc import ask, read
from rhodb.adhoc_allowed import FUNCTIONS, TABLE_FUNCTIONS
from rhodb.adhoc_process import Limits, Reader
from rhodb.aggregates import AGGREGATES, register
from rhodb.errors import InputError
from rhodb.ingest import ingest
from rhodb.location import Location, locate
from rhodb.warehouse import Warehouse

NUMBERS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c)"
ENDLESS = f"{NUMBERS} SELECT sum(x) FROM c"


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Location:
    folder = tmp_path_factory.mktemp("limits")
    with Warehouse.open(folder / "master.db") as wh:
        ingest(wh, [write_tree(folder / "results")])
    return locate(folder / "master.db")


def refused(place: Location, sql: str, **options) -> str:
    with pytest.raises(InputError) as caught:
        ask(place, sql, **options)
    return str(caught.value)


LONG = [
    ENDLESS,
    "SELECT count(*) FROM behavior_scores, runs, runs, runs, runs, runs, runs, runs, runs, runs, runs, runs",
    # One call of a function, in which SQLite looks at no clock.
    "SELECT instr(hex(zeroblob(20000000)), hex(zeroblob(9000000)) || '1')",
    f"SELECT median(x) FROM ({NUMBERS} SELECT x FROM c LIMIT 100000000)",  # Python's time, not SQLite's
    f"{NUMBERS} SELECT x FROM c",  # rows without end
]


@pytest.mark.parametrize("sql", LONG)
def test_a_statement_ends_when_its_time_is_over(place, sql):
    started = time.monotonic()
    assert "more than 1 s" in refused(place, sql, timeout_s=1, limit=None, memory_mib=8192)
    assert time.monotonic() - started < 4  # a second, the start of a process, and neighbours on this machine


LARGE = [
    f"SELECT group_concat(x) FROM ({NUMBERS} SELECT hex(randomblob(1000000)) AS x FROM c LIMIT 100)",
    f"SELECT median(x) FROM ({NUMBERS} SELECT x FROM c)",
    f"SELECT length(json_group_array(x)) FROM ({NUMBERS} SELECT hex(randomblob(100000)) AS x FROM c)",
    f"{NUMBERS} SELECT zeroblob(1000000) FROM c",  # more rows than memory
    f"SELECT x FROM ({NUMBERS} SELECT randomblob(100000) AS x FROM c) ORDER BY x",  # sorted in a file
    f"SELECT count(DISTINCT x) FROM ({NUMBERS} SELECT randomblob(100000) AS x FROM c LIMIT 9999)",
]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
@pytest.mark.parametrize("sql", LARGE)
def test_a_statement_stays_within_its_memory(place, sql, python):
    code = (
        "import re, resource, sys; from rhodb.adhoc import ask; from rhodb.location import locate\n"
        "from rhodb.errors import InputError\n"
        "try: ask(locate(sys.argv[1]), sys.argv[2], limit=None, memory_mib=48)\n"
        "except InputError as error: print(error)\n"
        "print(re.search(r'VmHWM:\\s*(\\d+)', open('/proc/self/status').read())[1])\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    output, error = python(code, place.path, sql).communicate(timeout=60)
    sentence, own, worker = output.splitlines()
    assert re.search(r"more than 48 MiB of memory|larger than 64 MiB", sentence), sentence + error
    # Python itself, and what surrounds rows.
    assert int(worker) < (48 + 64) * 1024 and int(own) < (3 * 48 + 64) * 1024, output
    assert error == ""


def test_large_values_are_refused_and_large_answers_can_be_asked_for(place):
    assert "larger than 64 MiB" in refused(place, "SELECT zeroblob(100000000)")
    assert "more than 1 MiB" in refused(place, f"{NUMBERS} SELECT zeroblob(900000) FROM c LIMIT 9", memory_mib=1)
    assert "must be >= 1 MiB" in refused(place, "SELECT 1", memory_mib=0)
    some = ask(place, f"{NUMBERS} SELECT x, zeroblob(900000) FROM c LIMIT 90", limit=None)
    assert len(some.rows) == 90 and all(len(blob) == 900_000 for _, blob in some.rows)


def offered(what: str) -> set[str]:
    """What the linked SQLite has, by its own account."""
    connection = sqlite3.connect(":memory:")
    register(connection, [])
    found = {name for (name,) in connection.execute(f"SELECT name FROM pragma_{what}_list")}
    connection.close()
    return found


INTERNAL = re.compile(r"fts\d|rtree|geopoly|sqlite_(?!compileoption|source_id|version)|load_extension")
OF_FULL_TEXT = {"bm25", "highlight", "matchinfo", "offsets", "optimize", "snippet"}
CALLS = [f"({', '.join(['1'] * n)})" for n in range(6)]


def test_functions_of_the_list_can_be_called_and_no_others(place):
    functions = offered("function")
    assert set(AGGREGATES) <= functions & FUNCTIONS
    others = functions - FUNCTIONS
    assert {"load_extension"} <= others and all(INTERNAL.search(name) or name in OF_FULL_TEXT for name in others)
    reader = Reader(place, Limits())
    for name in sorted(functions):
        said = []
        for call in CALLS:
            try:
                reader.ask(f'SELECT "{name}"{call} FROM runs', {}, limit=1)
            except InputError as error:
                said.append(str(error))
        not_allowed = [text for text in said if "not authorized" in text or "may only read" in text]
        if name in others:  # refused, or there is no such number of arguments
            assert len(said) == len(CALLS) and not_allowed, (name, said)
        else:
            assert not not_allowed, (name, said)
    reader.close()


def test_table_valued_functions_of_the_list_can_be_read_and_no_others(place):
    modules = offered("module") | {f"pragma_{name}" for name in offered("pragma")}
    assert {"json_each", "json_tree", "pragma_table_info", "pragma_function_list"} <= modules & TABLE_FUNCTIONS
    reader = Reader(place, Limits())
    reading, refusals = [], {}
    for name in sorted(modules):
        for sql in (f"SELECT * FROM {name}", f"SELECT count(*) FROM {name}", f"SELECT 1 FROM {name}('runs')"):
            try:
                reader.ask(sql, {}, limit=1)
                reading.append(name)
            except InputError as error:
                refusals.setdefault(name, []).append(str(error))
    reader.close()
    assert set(reading) <= TABLE_FUNCTIONS
    assert {name for name in modules & TABLE_FUNCTIONS if name not in reading} == set()
    for name in modules - TABLE_FUNCTIONS:
        assert len(refusals[name]) == 3, name
    assert ask(place, "SELECT value FROM json_each('[3, 4]')").rows == [(3,), (4,)]
    assert ("seed",) in ask(place, "SELECT name FROM pragma_table_info('runs')").rows
    for name in ("dbstat", "fts5vocab", "sqlite_stmt", "fts3tokenize"):
        if name in modules:
            said = refused(place, f"SELECT * FROM {name}")
            assert "may only read" in said or "no such table" in said, name  # the latter: not without arguments
    # A name of its own is nobody else's.
    assert ask(place, "WITH c AS (SELECT 1) SELECT count(*) FROM c").rows == [(1,)]


def test_pragmas_that_set_something_are_refused(place):
    reader = Reader(place, Limits())
    for name in offered("pragma"):
        for sql in (f"PRAGMA {name} = 1", f"PRAGMA {name}", f"PRAGMA {name}; x", f"EXPLAIN PRAGMA {name} = 1"):
            try:
                reader.ask(sql, {})
            except InputError:
                continue
            assert f"pragma_{name}" in TABLE_FUNCTIONS, sql
    for name in ("table_list", "user_version", "journal_mode", "compile_options", "table_info(runs)"):
        assert reader.ask(f"PRAGMA {name}", {})[1]
    reader.close()


def test_a_virtual_table_of_the_file_is_not_read(place, tmp_path):
    """A file from elsewhere may hold a view or a virtual table of its sender's."""
    path = tmp_path / "sent.db"
    path.write_bytes(place.path.read_bytes())
    connection = sqlite3.connect(path)
    try:
        connection.execute("CREATE VIRTUAL TABLE sent USING fts4(x)")
    except sqlite3.OperationalError:
        pytest.skip("this SQLite has no full-text search")
    connection.execute("CREATE VIEW v_sent AS SELECT load_extension('x') AS x")
    connection.commit()
    connection.close()
    for sql in ("SELECT * FROM sent", "SELECT count(*) FROM sent", "SELECT x FROM v_sent"):
        said = refused(locate(path), sql)
        assert "may only read" in said or "unsafe use of load_extension" in said, sql


def test_a_reader_goes_on_after_errors_and_sees_what_is_new(place, tmp_path):
    path = tmp_path / "live.db"
    path.write_bytes(place.path.read_bytes())
    reader = Reader(locate(path), Limits(memory_mib=64))
    writer = sqlite3.connect(path)
    for n in range(3):
        assert len(reader.ask("SELECT id FROM probes", {}, limit=1)[1]) <= 2  # not read to its end
        writer.execute("INSERT INTO models (key, source, fingerprint) VALUES (?, 'x', ?)", (f"new{n}", f"f{n}"))
        writer.commit()
        assert reader.ask("SELECT count(*) FROM models WHERE key LIKE 'new%'", {})[1] == [(n + 1,)]
        for wrong in ("SELECT nosuch", f"{NUMBERS} SELECT zeroblob(900000) FROM c", "DELETE FROM runs"):
            with pytest.raises(InputError):
                reader.ask(wrong, {})
        with pytest.raises(InputError, match=r"more than 0\.3 s"):
            reader.ask(ENDLESS, {}, timeout_s=0.3)
    writer.close()
    reader.close()


def test_parameters_arrive_as_they_are(place):
    given = {"a": np.float64(0.1), "b": np.str_("ü"), "c": True, "d": None, "e": b"\0x", "f": 2**62, "g": float("inf")}
    sql = "SELECT " + ", ".join(f":{name}" for name in given)
    assert ask(place, sql, given).rows == [(0.1, "ü", 1, None, b"\0x", 2**62, float("inf"))]
    for wrong in (2**70, "\ud800", [1], np.int64(1)):
        with pytest.raises(InputError, match="parameter cannot be used"):
            ask(place, "SELECT :x", {"x": wrong})


QUERIES = [
    "SELECT * FROM v_scores",
    "SELECT * FROM probes",
    "SELECT seed, NULL AS no FROM runs",
    "SELECT 1 AS a WHERE 0",
]


@pytest.mark.parametrize("sql", QUERIES)
def test_a_limited_warehouse_gives_the_same_rows(place, sql):
    with Warehouse.open(place.path, create=False, read_only=True) as wh:
        limited = wh.limited()
        assert limited.limited() is limited
        pd.testing.assert_frame_equal(limited.query(sql), wh.query(sql))
        assert limited.rows(sql) == wh.rows(sql)
        columns = ask(place, sql, limit=None)
        assert columns == read(place, sql)


def test_a_condition_has_limits(place, rhodb):
    from analysis.effects import Effects
    from analysis.study import StudyOptions

    endless = StudyOptions(split="none", where=f"seed < ({ENDLESS})")
    with Warehouse.open(place.path, create=False, read_only=True) as wh:
        started = time.monotonic()
        with pytest.raises(InputError, match="more than 1 s"):
            Effects().load(wh.limited(Limits(timeout_s=1)), endless)
        assert time.monotonic() - started < 4
        plain, all_of_them = StudyOptions(split="none"), StudyOptions(split="none", where="1 = 1")
        pd.testing.assert_frame_equal(Effects().load(wh, plain), Effects().load(wh, all_of_them))
    other = "runs.id IN (SELECT pgsize FROM dbstat)"  # not on the list; without it the file's pages could be read
    for command in (["analyze", "effects"], ["analyze", "anomalies"], ["report"]):
        done = rhodb("--db", place.path, *command, "--where", other)
        assert done.returncode == 2 and "Traceback" not in done.stderr, (command, done.stderr)
        assert "may only read" in done.stderr or "no such table: dbstat" in done.stderr, (command, done.stderr)


def test_the_command_says_what_ran_out(rhodb, place):
    started = time.monotonic()
    done = rhodb("--db", place.path, "sql", ENDLESS, "--timeout", "2")
    assert done.returncode == 2 and "more than 2 s: give it more with --timeout" in done.stderr
    assert time.monotonic() - started < 8
    done = rhodb("--db", place.path, "sql", LARGE[3], "--limit", "0", "--memory", "64")
    assert done.returncode == 2 and done.stderr.startswith("rhodb: the query needs more than 64 MiB of memory: ask for")
    assert rhodb("--db", place.path, "sql", "SELECT 1", "--memory", "0").returncode == 2


def workers() -> set[int]:
    """Processes that run SQL now."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if "adhoc_worker.py" in (folder / "cmdline").read_text():
                found.add(int(folder.name))
        except OSError:
            continue
    return found


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL])
def test_no_process_is_left_behind(place, ending):
    before = workers()
    command = [sys.executable, "-m", "rhodb", "--db", str(place.path), "sql", ENDLESS, "--timeout", "4"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=os.environ)
    deadline = time.monotonic() + 30
    while not (own := {pid for pid in workers() - before if parent(pid) == process.pid}):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.2)
    process.send_signal(ending)
    _, said = process.communicate(timeout=30)
    assert "Traceback" not in said
    while own & workers():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def test_limits_hold_for_this_process_too():
    """The limits of the worker are its own."""
    assert resource.getrlimit(resource.RLIMIT_AS)[0] == resource.getrlimit(resource.RLIMIT_AS)[1]
