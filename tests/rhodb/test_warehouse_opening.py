"""Opening a warehouse: where it is, what is created, and one clear sentence for everything that is wrong."""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

import rhodb
from rhodb.engine import locate
from rhodb.errors import DatabaseBusyError, DatabaseError, InputError
from rhodb.revision import HEAD
from rhodb.warehouse import Warehouse


def test_a_path_with_anything_in_it_works(hostile_path):
    with rhodb.open(hostile_path) as wh:
        assert wh.rows("SELECT count(*) AS n FROM runs") == [{"n": 0}]
    assert locate(hostile_path).path.is_file()
    with rhodb.open(hostile_path, create=False, read_only=True) as again:
        assert again.rows("SELECT version_num FROM alembic_version") == [{"version_num": HEAD}]


def test_location_argument_then_environment_then_default(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RHODB_DB", raising=False)
    assert locate().path == tmp_path / "results" / "master.db"
    monkeypatch.setenv("RHODB_DB", "env.db")
    assert locate().path == tmp_path / "env.db"
    assert locate("given.db").path == tmp_path / "given.db"
    assert locate(f"sqlite:///{tmp_path}/url.db").path == tmp_path / "url.db"


def test_spool_and_lock_lie_beside_the_real_file_of_a_symlink(tmp_path):
    (tmp_path / "link.db").symlink_to(tmp_path / "real" / "master.db")
    refused(tmp_path / "link.db", "is a link to", "where nothing stands")  # a disk that is missing, as likely as not
    rhodb.open(str(tmp_path / "real" / "master.db")).close()
    with rhodb.open(str(tmp_path / "link.db")) as wh:
        assert wh.spool_folder == tmp_path / "real" / "spool" / "master"


def test_importing_rhodb_and_opening_an_up_to_date_warehouse_need_no_alembic(tmp_path):
    rhodb.open(str(tmp_path / "a.db")).close()
    code = (
        "import sys, rhodb; heavy = {'sqlalchemy', 'alembic', 'pandas', 'numpy', 'mlx'}; "
        "assert not heavy & set(sys.modules); rhodb.open(sys.argv[1]).close(); "
        "assert not {'alembic', 'pandas', 'mlx', 'sqlalchemy.orm'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.db")], check=True)


def test_write_ahead_log_foreign_keys_and_full_synchronisation_are_on(wh):
    with wh.write() as connection:
        values = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "foreign_keys", "synchronous")
        ]
    assert values == ["wal", 1, 2]


@pytest.mark.parametrize("db", ["", "  ", ":memory:", "sqlite://", "mysql://host/db", "nosuch://x", "a\0b"])
def test_what_does_not_name_a_warehouse_is_refused(db):
    with pytest.raises(DatabaseError):
        Warehouse.open(db)


def refused(db: Path | str, *words: str, **options: bool) -> None:
    with pytest.raises(DatabaseError) as caught:
        Warehouse.open(db, **options)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


def test_a_folder_is_refused(tmp_path):
    refused(tmp_path, "is a folder")


def test_a_file_in_place_of_the_parent_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    refused(tmp_path / "file" / "master.db", str(tmp_path / "file"))


@pytest.mark.parametrize("content", [b"not a database, " * 100, b"\x1f\x8b" + b"\0" * 5000])
def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path, content):
    path = tmp_path / "master.db"
    path.write_bytes(content)
    refused(path, "not a database", str(path))
    assert path.read_bytes() == content


def test_a_cut_off_database_is_refused(tmp_path):
    path = tmp_path / "master.db"
    rhodb.open(str(path)).close()
    path.write_bytes(path.read_bytes()[:6000])
    refused(path, "damaged")


def test_a_database_of_another_program_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE customers (id INTEGER)")
    before = path.read_bytes()
    refused(path, "another program", "customers")
    assert path.read_bytes() == before


@pytest.mark.parametrize(("revision", "word"), [("9999", "newer"), ("a1b2c3", "another program")])
def test_an_unknown_schema_is_refused(tmp_path, revision, word):
    path = tmp_path / "master.db"
    rhodb.open(str(path)).close()
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("UPDATE alembic_version SET version_num = ?", [revision])
        raw.commit()
    refused(path, word, revision)


def test_a_missing_warehouse_is_not_created_unless_allowed(tmp_path):
    path = tmp_path / "sub" / "master.db"
    refused(path, "no warehouse", create=False)
    refused(path, "no warehouse", read_only=True)
    assert Warehouse.peek(path) is None
    assert not path.parent.exists()


def test_an_empty_file_becomes_a_warehouse(tmp_path):
    path = tmp_path / "master.db"
    path.touch()
    refused(path, "is empty", "rhodb db upgrade", read_only=True)
    with Warehouse.open(path) as wh:
        assert wh.rows("SELECT * FROM v_scores") == []


AS_NOBODY = """
import os, sys, tempfile
from warehouse_samples import MODEL
from rhodb.errors import DatabaseError
from rhodb.store import plan
from rhodb.warehouse import Warehouse
with tempfile.TemporaryDirectory() as folder:  # everything is imported while it can be read
    Warehouse.open(folder + "/x.db").close()
if os.getuid() == 0:  # root is not stopped by permissions
    os.setgroups([]), os.setgid(65534), os.setuid(65534)
"""
READ = (
    AS_NOBODY
    + """
print(Warehouse.open(sys.argv[1], read_only=True).rows("SELECT 1 AS x"))
"""
)
OPEN_AND_WRITE = (
    AS_NOBODY
    + """
try:
    with Warehouse.open(sys.argv[1]) as wh:
        wh.rows("SELECT 1")
        plan(wh, MODEL, [])
except DatabaseError as error:
    sys.exit(f"refused: {error}")
"""
)


def test_a_read_only_folder_is_refused_in_one_sentence(open_folder, python):
    open_folder.chmod(0o555)
    process = python(OPEN_AND_WRITE, open_folder / "master.db")
    _, errors = process.communicate(timeout=60)
    assert errors.startswith("refused: ") and "cannot" in errors and "Traceback" not in errors, errors


def test_a_read_only_warehouse_can_be_read_but_not_written(open_folder, python):
    path = open_folder / "master.db"
    rhodb.open(str(path)).close()
    path.chmod(0o444)
    open_folder.chmod(0o555)
    output, errors = python(READ, path).communicate(timeout=60)
    assert output == "[{'x': 1}]\n", errors
    _, errors = python(OPEN_AND_WRITE, path).communicate(timeout=60)
    assert errors.startswith("refused: ") and "Traceback" not in errors, errors


def test_a_full_disk_is_said_and_nothing_is_half_written(wh):
    with wh.write() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
    with pytest.raises(DatabaseBusyError, match="full"), wh.write() as connection:
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
        connection.exec_driver_sql(
            "INSERT INTO probe_sets (behavior, name, package, fingerprint) VALUES ('a', 'b', 'c', ?)",
            ("x" * 100_000,),
        )
    assert wh.rows("SELECT * FROM probe_sets") == []


def test_a_locked_warehouse_is_waited_for_and_then_reported(wh):
    with closing(sqlite3.connect(wh.location.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseBusyError, match="locked"), wh.write(timeout_s=0.2):
            pytest.fail("the lock was not held")
        assert wh.rows("SELECT count(*) AS n FROM runs") == [{"n": 0}]  # readers do not wait
        other.execute("ROLLBACK")
    with wh.write(timeout_s=0.2) as connection:
        assert connection.exec_driver_sql("SELECT 1").scalar() == 1


def test_reading_cannot_write(wh):
    with pytest.raises(InputError):
        wh.rows("DELETE FROM runs")
    with pytest.raises(InputError):
        wh.rows("CREATE TABLE x (a)")
    with Warehouse.open(str(wh.location), read_only=True) as reader, pytest.raises(DatabaseError), reader.write():
        pytest.fail("opened for reading only")
    with wh.write() as connection:  # the connection that read is writable again
        connection.exec_driver_sql("CREATE TABLE x (a INTEGER)")


def test_query_takes_named_parameters_and_leaves_colons_in_texts_alone(wh):
    assert wh.rows("SELECT :a AS a, ' :b 12:30' AS text", a=1) == [{"a": 1, "text": " :b 12:30"}]
    frame = wh.frame("SELECT 1 AS one, NULL AS absent")
    assert list(frame.columns) == ["one", "absent"] and frame["one"].tolist() == [1]
    assert list(wh.frame("SELECT uuid, seed FROM runs").columns) == ["uuid", "seed"]


@pytest.mark.parametrize("sql", ["SELECT * FROM nosuch", "SELEC 1", "SELECT :missing", ""])
def test_wrong_sql_is_an_input_error(wh, sql):
    with pytest.raises(InputError):
        wh.rows(sql)


def test_an_exception_inside_a_write_undoes_it(wh):
    with pytest.raises(ZeroDivisionError), wh.write() as connection:
        connection.exec_driver_sql(
            "INSERT INTO probe_sets (behavior, name, package, fingerprint) VALUES ('a', 'b', 'c', 'd')"
        )
        _ = 1 / 0
    assert wh.rows("SELECT * FROM probe_sets") == []


def test_without_a_lock_file_or_rights_nothing_is_left_behind(tmp_path):
    rhodb.open(str(tmp_path / "master.db")).close()
    assert {path.name for path in tmp_path.iterdir()} <= {"master.db", "master.db.lock"}
    assert os.access(tmp_path / "master.db", os.W_OK)


@pytest.mark.parametrize("value", [2**70, "\udcff"])
def test_a_parameter_that_sqlite_cannot_hold_is_an_input_error(wh, value):
    with pytest.raises(InputError, match="parameter"):
        wh.rows("SELECT :value AS value", value=value)


def test_a_path_that_is_no_unicode_works(tmp_path):
    path = os.fsdecode(bytes(tmp_path) + b"/\xff\xfe.db")
    with rhodb.open(path) as wh:
        assert wh.rows("SELECT count(*) AS n FROM runs") == [{"n": 0}]
    assert Path(path).is_file()


@pytest.mark.parametrize("replaced", [False, True])
def test_a_file_that_is_deleted_or_replaced_while_open_is_noticed(wh, tmp_path, replaced):
    for file in tmp_path.glob("master.db*"):
        file.unlink()
    if replaced:
        Warehouse.open(wh.location.path).close()
    with pytest.raises(DatabaseError, match="deleted or replaced"), wh.write():
        pytest.fail("written into a file that is gone")
    with pytest.raises(DatabaseError, match="deleted or replaced"):
        wh.rows("SELECT 1")


def test_a_file_that_is_deleted_during_a_write_is_noticed(wh, tmp_path):
    with pytest.raises(DatabaseError, match="deleted or replaced"), wh.write() as connection:
        connection.exec_driver_sql("DELETE FROM runs")
        for file in tmp_path.glob("master.db*"):
            file.unlink()
