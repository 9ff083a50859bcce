"""Backups are whole, checked and never overwrite; a rebuilt warehouse holds what the lost one held."""

import sqlite3
import subprocess
import threading
from contextlib import closing

import pytest
from legacy_files import write_tree
from test_transfer import content, tiny_disk  # noqa: F401  a fixture
from warehouse_samples import BASELINE, dump, identity, outcome

from rhodb.adhoc import ask
from rhodb.check import check
from rhodb.errors import DatabaseBusyError, DatabaseError, InputError
from rhodb.ingest import ingest
from rhodb.maintenance import backup, vacuum
from rhodb.spool import Spool
from rhodb.store import insert_outcome
from rhodb.warehouse import Warehouse


@pytest.fixture
def path(tmp_path):
    with Warehouse.open(tmp_path / "master.db") as wh:
        spool = Spool.beside(wh)
        for of, base in ((BASELINE, None), (identity(1), BASELINE), (identity(2), BASELINE)):
            done = outcome(of, baseline=base)
            written = spool.write(done)
            insert_outcome(wh, done, {})
            spool.settle(written)
        ingest(wh, [write_tree(tmp_path / "results")])
    return tmp_path / "master.db"


def test_a_backup_equals_the_warehouse_even_while_it_is_written(path, tmp_path):
    with Warehouse.open(path) as wh:
        stop = threading.Event()

        def write() -> None:
            with Warehouse.open(path) as mine:
                seed = 100
                while not stop.is_set():
                    insert_outcome(mine, outcome(identity(seed), baseline=BASELINE), {})
                    seed += 1

        thread = threading.Thread(target=write)
        thread.start()
        copies = [backup(wh, tmp_path / "copies" / f"{i}.db") for i in range(3)]
        stop.set()
        thread.join()
        for copy in copies:
            with Warehouse.open(copy, create=False) as opened:
                assert check(opened, recompute=False) == []
        last = backup(wh)
        assert last.parent == path.parent and dump(last) == dump(path)
        with pytest.raises(InputError, match="exists already"):
            backup(wh, last)


def test_a_backup_that_does_not_fit_leaves_nothing(path, tiny_disk):  # noqa: F811
    (tiny_disk / "filler").write_bytes(b"x" * 2_800_000)
    with Warehouse.open(path) as wh, pytest.raises(DatabaseBusyError, match="full"):
        backup(wh, tiny_disk / "copy.db")
    assert [file.name for file in tiny_disk.iterdir()] == ["filler"]


def test_a_damaged_warehouse_gives_no_backup(path, tmp_path):
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("PRAGMA foreign_keys = OFF")
        raw.execute("DELETE FROM models WHERE id = 1")
        raw.commit()
    with Warehouse.open(path) as wh, pytest.raises(DatabaseError, match="not sound"):
        backup(wh, tmp_path / "copy.db")
    assert not (tmp_path / "copy.db").exists()


def test_inserting_into_a_full_disk_says_so_and_loses_nothing(tiny_disk):  # noqa: F811
    path = tiny_disk / "master.db"
    with Warehouse.open(path) as wh:
        (tiny_disk / "filler").write_bytes(
            b"x" * max(0, 3_050_000 - sum(f.stat().st_size for f in tiny_disk.iterdir()))
        )
        with pytest.raises((DatabaseBusyError, DatabaseError)):
            for seed in range(2000):
                insert_outcome(wh, outcome(identity(seed)), {})
        (tiny_disk / "filler").unlink()
        assert check(wh, recompute=False) == []
        assert insert_outcome(wh, outcome(identity(5000)), {})


def test_vacuum_gives_space_back(path):
    with Warehouse.open(path) as wh:
        with wh.write() as connection:
            connection.exec_driver_sql("CREATE TABLE big (x BLOB)")
            connection.exec_driver_sql("INSERT INTO big VALUES (zeroblob(3000000))")
        with wh.write() as connection:
            connection.exec_driver_sql("DROP TABLE big")
        done = vacuum(wh)
        assert done.after < done.before - 2_500_000 and check(wh, recompute=False) == []


def test_commands(path, tmp_path, rhodb):
    assert rhodb("--db", path, "db", "backup", "copy.db").returncode == 0 and (tmp_path / "copy.db").exists()
    assert rhodb("--db", path, "db", "backup", "copy.db").returncode == 2
    assert "MB ->" in rhodb("--db", path, "db", "vacuum").stdout
    for command in ("backup", "vacuum"):
        assert rhodb("--db", "nowhere.db", "db", command).returncode == 2


def test_on_a_read_only_file_system_everything_can_be_read_and_nothing_is_lost(tiny_disk, tmp_path):  # noqa: F811
    with Warehouse.open(tiny_disk / "master.db") as wh:
        insert_outcome(wh, outcome(identity(1)), {})
    subprocess.run(["mount", "-o", "remount,ro", str(tiny_disk)], check=True)
    try:
        with Warehouse.open(tiny_disk / "master.db", read_only=True) as wh:
            assert len(wh.scores()) == 1 and check(wh, recompute=False) == []
            assert ask(wh.location, "SELECT count(*) FROM runs").rows == [(1,)]
            assert backup(wh, tmp_path / "copy.db").exists()
            with pytest.raises(DatabaseError, match=r"no backup of|cannot be written"):
                backup(wh, tiny_disk / "copy.db")
        with pytest.raises(DatabaseError), Warehouse.open(tiny_disk / "master.db") as wh:
            ingest(wh, [write_tree(tmp_path / "results")])
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(tiny_disk)], check=True)
    with Warehouse.open(tiny_disk / "master.db") as wh:
        assert len(wh.runs()) == 1 and check(wh, recompute=False) == []
