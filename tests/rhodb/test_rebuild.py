"""A rebuild loses nothing: not what no file holds, not what is written meanwhile, not when it is killed."""

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from legacy_files import write_tree
from test_transfer import content
from warehouse_samples import BASELINE, MODEL, identity, outcome

from rhodb.check import check
from rhodb.errors import DatabaseBusyError, DatabaseError, InputError
from rhodb.ingest import ingest
from rhodb.rebuild import rebuild
from rhodb.spool import Spool
from rhodb.store import PlannedCell, insert_outcome, plan
from rhodb.transfer import merge
from rhodb.warehouse import Warehouse


def spooled(wh: Warehouse, seed: int) -> None:
    """A run as the executor leaves it: inserted, its outcome settled in the spool."""
    done = outcome(identity(seed), baseline=BASELINE)
    written = Spool.beside(wh).write(done)
    insert_outcome(wh, done, {})
    Spool.beside(wh).settle(written)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A warehouse with runs of every origin: spooled, ingested, merged without a source, planned, failed."""
    with Warehouse.open(tmp_path / "elsewhere" / "other.db") as other:
        for seed in (11, 12):
            insert_outcome(other, outcome(identity(seed), baseline=BASELINE), {})
    with Warehouse.open(tmp_path / "master.db") as wh, Warehouse.open(tmp_path / "elsewhere" / "other.db") as other:
        insert_outcome(wh, outcome(BASELINE), {})
        for seed in (1, 2):
            spooled(wh, seed)
        insert_outcome(wh, outcome(identity(3), baseline=BASELINE, error="out of memory"), {})
        plan(wh, MODEL, [PlannedCell(identity=identity(4), baseline=BASELINE)])
        merge(wh, other)
        ingest(wh, [write_tree(tmp_path / "results")])
    return tmp_path / "master.db"


def damage(path: Path, table: str) -> None:
    """Write nonsense over a leaf page of a table, as a failing disk does."""
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        page_size = raw.execute("PRAGMA page_size").fetchone()[0]
        root = raw.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", [table]).fetchone()[0]
    with path.open("r+b") as file:
        file.seek((root - 1) * page_size)
        file.write(b"\xff" * page_size)


def test_of_a_sound_warehouse_everything_is_carried_over(path):
    before = content(path)
    done = rebuild(path)
    assert done.replaced and not done.missing and content(path) == before
    assert done.copy is not None and content(done.copy) == before
    assert not list(path.parent.glob(".*rebuild*"))
    with Warehouse.open(path) as wh:
        assert check(wh, recompute=False) == []


def test_runs_whose_files_are_gone_stay(path, tmp_path):
    before = content(path)
    shutil.rmtree(tmp_path / "results")
    shutil.rmtree(tmp_path / "spool")
    done = rebuild(path)
    assert done.replaced and len(done.gone) == len(before["sources"]) and content(path) == before


def test_a_lost_warehouse_comes_back_from_spool_and_files(path, tmp_path):
    with Warehouse.open(path) as wh:
        sql = "SELECT uuid FROM runs WHERE state = 'done' AND (origin = 'legacy' OR seed IN (1, 2))"
        kept = {row["uuid"] for row in wh.rows(sql)}
    path.unlink()
    done = rebuild(path, [tmp_path / "results"])
    with Warehouse.open(path) as wh:
        assert kept <= {row["uuid"] for row in wh.rows("SELECT uuid FROM runs WHERE state = 'done'")}
    assert done.copy is None and len(done.recovered.inserted) == 2


def test_nothing_is_made_of_nothing(tmp_path):
    with pytest.raises(InputError, match="nothing at"):
        rebuild(tmp_path / "typing-error.db")
    assert not list(tmp_path.iterdir())


def test_an_outcome_that_waits_in_the_spool_is_in_the_new_warehouse_and_settled_only_then(path):
    with Warehouse.open(path) as wh:
        waiting = Spool.beside(wh).write(outcome(identity(5), baseline=BASELINE))
    rebuild(path)
    assert not waiting.exists() and (waiting.parent / "inserted" / waiting.name).exists()
    with Warehouse.open(path) as wh:
        assert wh.rows("SELECT state FROM runs WHERE seed = 5 AND kind = 'alignment'") == [{"state": "done"}]


@pytest.mark.parametrize("cut", [6000, 100_000, 300_000])
def test_a_warehouse_that_was_cut_off_is_replaced_only_if_the_loss_is_accepted(path, tmp_path, cut):
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    whole = path.read_bytes()
    path.write_bytes(whole[:cut])
    with pytest.raises(DatabaseError, match="damaged"):
        Warehouse.open(path)
    done = rebuild(path, [tmp_path / "results"])
    assert not done.replaced and done.missing and path.read_bytes() == whole[:cut]
    names = [loss.name for loss in done.missing]
    done = rebuild(path, [tmp_path / "results"], without=names)
    assert done.replaced and done.copy is not None
    with Warehouse.open(path) as wh:  # runs that lost scores or their baseline are said to have none
        assert {problem.check for problem in check(wh, recompute=False)} <= {"states"}
        assert len(wh.rows("SELECT 1 FROM runs WHERE seed IN (1, 2) AND origin = 'rhodb' AND state = 'done'")) == 2


def test_damaged_sources_cost_no_run(path):
    before = content(path)
    damage(path, "sources")
    done = rebuild(path)
    assert not done.replaced and {loss.name for loss in done.missing} >= {"sources"}
    done = rebuild(path, without=[loss.name for loss in done.missing])
    after = content(path)
    assert done.replaced and after["runs"] == before["runs"] and after["behavior_scores"] == before["behavior_scores"]


def test_a_run_that_cannot_be_read_comes_from_its_file_else_its_loss_is_named(path):
    """Scores are damaged: what a spool or a file holds is made anew, the merged runs are named."""
    with Warehouse.open(path) as wh:
        merged = {row["uuid"] for row in wh.rows("SELECT uuid FROM runs WHERE seed IN (11, 12) OR kind = 'baseline' "
                                                 "AND origin = 'rhodb'")}  # fmt: skip
    before = content(path)
    damage(path, "behavior_scores")
    done = rebuild(path)
    assert not done.replaced and {loss.name for loss in done.missing} >= merged
    done = rebuild(path, without=[loss.name[:8] for loss in done.missing])
    after = content(path)
    assert done.replaced and len(after["runs"]) == len(before["runs"])
    lost = {row for row in before["behavior_scores"] if row not in after["behavior_scores"]}
    assert {dict(row)["run_id"] for row in lost} == merged


def test_a_run_that_was_changed_is_made_from_its_file_when_it_is_named(path):
    before = content(path)
    with closing(sqlite3.connect(path)) as raw, raw:
        uuid = raw.execute("SELECT uuid FROM runs WHERE origin = 'legacy' AND kind = 'alignment'").fetchone()[0]
        this = "run_id = (SELECT id FROM runs WHERE uuid = ?)"
        raw.execute(f"UPDATE behavior_scores SET value = 0.123 WHERE {this}", [uuid])
    changed = content(path)
    assert rebuild(path).replaced and content(path) == changed  # the warehouse's own word counts
    assert rebuild(path, without=[uuid]).replaced
    assert content(path)["behavior_scores"] == before["behavior_scores"] != changed["behavior_scores"]


def test_without_an_own_source_a_run_is_given_up_only_by_name(path):
    with Warehouse.open(path) as wh:
        uuid = wh.rows("SELECT uuid FROM runs WHERE seed = 11")[0]["uuid"]
    before = content(path)
    assert rebuild(path, without=[uuid]).missing[0].name == uuid
    after = content(path)
    assert len(after["runs"]) == len(before["runs"]) - 1


def test_a_file_that_says_something_else_now_changes_nothing(path, tmp_path):
    before = content(path)
    for file in sorted((tmp_path / "results").rglob("*.json")):
        file.write_text(file.read_text().replace("0.5", "0.75"))
    rebuild(path)
    assert content(path)["behavior_scores"] == before["behavior_scores"]


INGEST = """
import sys, time
from pathlib import Path
from rhodb.ingest import driver, ingest
from rhodb.warehouse import Warehouse
driver.GROUP_S = 0.05
with Warehouse.open(sys.argv[1]) as wh:
    for _ in range(int(sys.argv[3])):
        report = ingest(wh, [Path(sys.argv[2])])
        assert report.written and not report.problems
print("done")
"""


def test_beside_a_running_ingest_neither_loses_a_run(path, tmp_path, python):
    results = tmp_path / "more"
    write_tree(results)
    process = python(INGEST, path, results, 1)
    for _ in range(3):
        rebuild(path)
    output, errors = process.communicate(timeout=120)
    assert (output, errors) == ("done\n", "")
    with Warehouse.open(path) as wh:
        assert check(wh, recompute=False) == []
        paths = {row["path"] for row in wh.rows("SELECT path FROM sources")}
        assert {str(file) for file in results.rglob("*.json")} <= paths
        assert len(wh.rows("SELECT 1 FROM runs WHERE seed IN (11, 12)")) == 2


WRITE = """
import sys
from warehouse_samples import BASELINE, identity, outcome
from rhodb.store import insert_outcome
from rhodb.warehouse import Warehouse
with Warehouse.open(sys.argv[1]) as wh:
    print("ready", flush=True)
    for seed in range(1000, 1000 + int(sys.argv[2])):
        assert insert_outcome(wh, outcome(identity(seed), baseline=BASELINE), {})
"""


def test_a_process_that_has_the_warehouse_open_goes_on_in_the_new_one(path, python):
    process = python(WRITE, path, 300)
    assert process.stdout.readline() == "ready\n"
    done = [rebuild(path) for _ in range(3)]
    _, errors = process.communicate(timeout=120)
    assert errors == "" and all(one.replaced for one in done)
    with Warehouse.open(path) as wh:
        assert wh.rows("SELECT count(*) AS n FROM runs WHERE seed >= 1000") == [{"n": 300}]
        assert check(wh, recompute=False) == []


def test_while_somebody_writes_it_waits_and_then_says_so(path, monkeypatch):
    monkeypatch.setattr("rhodb.rebuild.WAIT_S", 0.2)
    before = content(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseBusyError, match="nothing was changed"):
            rebuild(path)
    assert content(path) == before and not list(path.parent.glob("*before-rebuild*"))


SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/types.h>
#include <unistd.h>
static atomic_long left = -1;
static atomic_long seen = 0;
void arm(long n) { seen = 0; left = n; }
long count(void) { return seen; }
static void step(void) {
    seen++;
    if (left > 0 && --left == 0) kill(getpid(), SIGKILL);
}
#define REAL(result, name, ...) result (*real)(__VA_ARGS__) = (result (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name); step()
ssize_t write(int f, const void *b, size_t n)
    { REAL(ssize_t, "write", int, const void *, size_t); return real(f, b, n); }
ssize_t pwrite64(int f, const void *b, size_t n, off_t o)
    { REAL(ssize_t, "pwrite64", int, const void *, size_t, off_t); return real(f, b, n, o); }
ssize_t pwrite(int f, const void *b, size_t n, off_t o)
    { REAL(ssize_t, "pwrite", int, const void *, size_t, off_t); return real(f, b, n, o); }
int fsync(int f) { REAL(int, "fsync", int); return real(f); }
int fdatasync(int f) { REAL(int, "fdatasync", int); return real(f); }
int rename(const char *a, const char *b) { REAL(int, "rename", const char *, const char *); return real(a, b); }
int link(const char *a, const char *b) { REAL(int, "link", const char *, const char *); return real(a, b); }
int unlink(const char *a) { REAL(int, "unlink", const char *); return real(a); }
int unlinkat(int d, const char *a, int f) { REAL(int, "unlinkat", int, const char *, int); return real(d, a, f); }
int rmdir(const char *a) { REAL(int, "rmdir", const char *); return real(a); }
int mkdir(const char *a, mode_t m) { REAL(int, "mkdir", const char *, mode_t); return real(a, m); }
int ftruncate64(int f, off_t n) { REAL(int, "ftruncate64", int, off_t); return real(f, n); }
int ftruncate(int f, off_t n) { REAL(int, "ftruncate", int, off_t); return real(f, n); }
"""
KILLS = """
import ctypes, os, shutil, sys
from pathlib import Path
from test_transfer import content
from rhodb.check import check
from rhodb.rebuild import rebuild
from rhodb.warehouse import Warehouse

shim, home, work, tries = ctypes.CDLL(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])

def rebuilt(n):
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(home, work)
    child = os.fork()
    if child == 0:
        shim.arm(ctypes.c_long(n))
        rebuild(work / "master.db")
        shim.arm(ctypes.c_long(-1)) if n > 0 else (work / "count").write_text(str(shim.count()))
        os._exit(0)
    return os.waitpid(child, 0)[1]

before = content(home / "master.db")
rebuild(home / "master.db")  # everything is imported
for copy in home.glob("*before-rebuild*"):
    copy.unlink()
assert rebuilt(-1) == 0
calls = int((work / "count").read_text())
killed = 0
half, end = tries // 2, calls // 5  # half of the kills fall into the last fifth, where the exchange is
for n in sorted({1 + i * calls // half for i in range(half)} | {calls - i * end // half for i in range(half)}):
    killed += rebuilt(n) == 9
    assert content(work / "master.db") == before, n
    rebuild(work / "master.db")
    assert content(work / "master.db") == before, n
    assert not list(work.glob(".*rebuild*")), n
    with Warehouse.open(work / "master.db") as wh:
        assert check(wh, recompute=False) == [], n
print(calls, killed)
"""


def kill_drill(folder: Path, home: Path, python, tries: int) -> tuple[int, int]:
    """Rebuild a warehouse, killed at `tries` of its calls that write, sync, rename or delete: (calls, kills)."""
    (folder / "shim.c").write_text(SHIM)
    shim = folder / "shim.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", shim, folder / "shim.c", "-ldl"], check=True)
    os.environ["LD_PRELOAD"] = str(shim)
    try:
        process = python(KILLS, shim, home, folder / "work", tries)
    finally:
        del os.environ["LD_PRELOAD"]
    output, errors = process.communicate(timeout=500)
    assert process.returncode == 0, errors
    calls, killed = output.split()
    return int(calls), int(killed)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or shutil.which("cc") is None, reason="needs LD_PRELOAD and a C compiler")
def test_killed_at_any_call_that_writes_syncs_or_renames_it_leaves_the_old_or_the_new(path, tmp_path, python):
    home = path.parent / "home"
    home.mkdir()
    for part in ("master.db", "spool", "results"):
        shutil.move(path.parent / part, home / part)
    calls, killed = kill_drill(tmp_path, home, python, tries=16)
    assert calls > 200 and killed >= 14
