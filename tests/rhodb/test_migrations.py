"""Migrations: they agree with the models, keep the data, run once, and back up before they change anything."""

import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine
from warehouse_samples import BASELINE, identity, outcome, probe_scores, probe_set

import rhodb.warehouse
from rhodb import migrate
from rhodb.describe import VIEWS, columns, tables
from rhodb.engine import locate
from rhodb.errors import DatabaseError
from rhodb.revision import HEAD
from rhodb.schema import Base
from rhodb.store import insert_outcome
from rhodb.warehouse import Warehouse


def test_the_head_constant_is_alembics_head():
    config = Config()
    config.set_main_option("script_location", str(migrate.script_location()))
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


def test_models_and_migrations_agree():
    with migrate.in_memory() as connection:
        context = MigrationContext.configure(
            connection,
            opts={"compare_type": True, "include_object": lambda o, name, *_: not str(name).startswith("v_")},
        )
        assert compare_metadata(context, Base.metadata) == []
        # Alembic does not compare CHECK constraints, STRICT and WITHOUT ROWID: the statements do.
        migrated = _statements(connection)
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        Base.metadata.create_all(connection)
        made = _statements(connection)
    assert migrated == made


def _statements(connection) -> dict[str, set[str]]:
    """Table or index -> its definitions, in no order and without spaces."""
    rows = connection.exec_driver_sql(
        "SELECT name, sql FROM sqlite_master WHERE type IN ('table', 'index') AND sql IS NOT NULL"
    )
    return {
        # A table that was renamed has its name in quotes.
        name: {re.sub(r"\s+", " ", line).strip(" ,").replace(f'"{name}"', name) for line in sql.split("\n")}
        for name, sql in rows
        if name != "alembic_version"
    }


def test_every_table_is_strict_and_everything_has_a_meaning():
    with migrate.in_memory() as connection:
        strict = connection.exec_driver_sql("SELECT name, strict FROM pragma_table_list WHERE type = 'table'")
        loose = [name for name, is_strict in strict if not is_strict]
        assert [name for name in loose if not name.startswith("sqlite_")] == ["alembic_version"]
        views = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'view'").scalars()
        assert set(views) == set(VIEWS)
    assert all(row["meaning"] for row in tables())
    for name in (*Base.metadata.tables, *VIEWS):
        assert all(row["meaning"] for row in columns(name)), name
    (toxicity,) = [row for row in columns("v_alignment") if row["column"] == "d_toxicity_gap_eval"]
    assert toxicity["meaning"].startswith("gap of toxicity, split eval, run minus baseline: mean over pairs")
    meanings = {row["column"]: row["meaning"] for row in columns("v_scores")}
    assert meanings["se"] == Base.metadata.tables["behavior_scores"].c.se.comment


def fill(path: Path) -> None:
    record = probe_set()
    with Warehouse.open(path) as wh:
        for seed in range(3):
            rows = probe_scores(record, np.random.default_rng(seed))
            done = outcome(identity(seed), baseline=BASELINE, probe_rows=rows)
            assert insert_outcome(wh, done, {record.fingerprint: record})


def rows_of(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """Table -> its rows; none for a table that a later schema brings."""
    with closing(sqlite3.connect(path)) as raw:
        there = {name for (name,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        return {
            name: sorted(raw.execute(f"SELECT * FROM {name}"), key=repr) if name in there else []
            for name in Base.metadata.tables
        }


def test_down_to_nothing_and_up_again_on_a_filled_warehouse(tmp_path):
    path = tmp_path / "master.db"
    fill(path)
    held = rows_of(path)
    migrate.downgrade(locate(path), "base")
    with closing(sqlite3.connect(path)) as raw:
        left = [name for (name,) in raw.execute("SELECT name FROM sqlite_master WHERE type <> 'index'")]
    assert left == ["alembic_version"]
    backups = list(tmp_path.glob("master.backup-*.db"))
    assert len(backups) == 1 and rows_of(backups[0]) == held
    with Warehouse.open(path) as wh:
        assert wh.rows("SELECT * FROM runs") == []
    fill(path)
    for table, rows in rows_of(path).items():
        assert len(rows) == len(held[table]), table


AFTER = f"{int(HEAD) + 1:04}"
NEXT = '''
"""A later schema, made for a test."""
import sqlalchemy as sa
from alembic import op
revision, down_revision, branch_labels, depends_on = "AFTER", "HEAD", None, None

def upgrade():
    # SQLite rebuilds the table, to which others refer with ON DELETE CASCADE.
    views = op.get_bind().exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'view'").scalars().all()
    for view in views:
        op.execute(f"DROP VIEW {view}")
    with op.batch_alter_table("runs", recreate="always", table_kwargs={"sqlite_strict": True}) as batch:
        batch.add_column(sa.Column("mood", sa.Text(), nullable=True))

def downgrade():
    with op.batch_alter_table("runs", recreate="always", table_kwargs={"sqlite_strict": True}) as batch:
        batch.drop_column("mood")
'''.replace("AFTER", AFTER).replace("HEAD", HEAD)


@pytest.fixture
def next_schema(tmp_path, monkeypatch) -> None:
    """Pretend that this rhodb has one revision more."""
    folder = tmp_path / "migrations"
    shutil.copytree(migrate.script_location(), folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "versions" / f"{AFTER}_next.py").write_text(NEXT)
    monkeypatch.setattr(migrate, "script_location", lambda: folder)
    for module in (migrate, rhodb.warehouse):
        monkeypatch.setattr(module, "HEAD", AFTER)


def test_an_old_warehouse_is_backed_up_upgraded_and_can_go_back(tmp_path, request):
    path = tmp_path / "db" / "master.db"
    fill(path)
    held = rows_of(path)
    request.getfixturevalue("next_schema")

    with pytest.raises(DatabaseError, match="rhodb db upgrade"):
        Warehouse.open(path, read_only=True)
    with pytest.raises(DatabaseError, match="rhodb db upgrade"):
        Warehouse.open(path, create=False)
    assert rows_of(path) == held

    with Warehouse.open(path) as wh:
        assert wh.rows("SELECT count(*) AS n FROM runs WHERE mood IS NULL") == [{"n": 4}]
    (backup,) = path.parent.glob(f"master.backup-{HEAD}-*.db")
    assert rows_of(backup) == held
    upgraded = rows_of(path)
    assert upgraded.pop("runs") == [(*row, None) for row in held["runs"]]
    assert upgraded == {name: rows for name, rows in held.items() if name != "runs"}
    migrate.downgrade(locate(path), HEAD)
    assert rows_of(path) == held


def test_a_migration_that_fails_changes_nothing(tmp_path, request):
    path = tmp_path / "db" / "master.db"
    fill(path)
    held = rows_of(path)
    request.getfixturevalue("next_schema")
    (script,) = migrate.script_location().glob(f"versions/{AFTER}_*.py")
    script.write_text(NEXT.replace("def downgrade", "    raise RuntimeError('half way')\n\ndef downgrade"))
    with pytest.raises(RuntimeError, match="half way"):
        Warehouse.open(path)
    assert rows_of(path) == held
    assert migrate.current(locate(path)) == HEAD


BELOW_0 = "INSERT INTO behavior_scores (run_id, behavior, metric, split, value, n) VALUES (?, ?, ?, 'none', ?, ?)"


def test_from_0001_up_down_and_up_on_a_filled_warehouse(tmp_path):
    """Shares below 0, which 0001 admits, move beside their runs and back; everything else stays as it was."""
    path = tmp_path / "master.db"
    fill(path)
    migrate.downgrade(locate(path), "0001")
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute('UPDATE runs SET extra = \'{"colour":"λ"}\' WHERE id = 2')
        for row in ((2, "bias", "choice_accuracy", -0.25, 8), (3, "bias", "choice_accuracy", -1.0, None),
                    (2, "factual", "choice_accuracy", 0.5, 8), (2, "factual", "rho", -0.5, 8)):  # fmt: skip
            raw.execute(BELOW_0, row)
    held = rows_of(path)
    with Warehouse.open(path) as wh:
        sql = "SELECT behavior, metric, value FROM behavior_scores WHERE run_id = 2 AND split = 'none' ORDER BY metric"
        assert [tuple(row.values()) for row in wh.rows(sql)] == [
            ("factual", "choice_accuracy", 0.5), ("factual", "rho", -0.5)
        ]  # fmt: skip
        assert wh.rows("SELECT extra FROM runs WHERE id IN (2, 3) ORDER BY id") == [
            {"extra": '{"choice_accuracy_below_0":{"bias":[-0.25,8]},"colour":"λ"}'},
            {"extra": '{"choice_accuracy_below_0":{"bias":[-1.0,null]}}'},
        ]
        assert len(wh.scores()) == len(held["behavior_scores"]) - 2  # the views stand on the new table
    with closing(sqlite3.connect(path)) as raw, pytest.raises(sqlite3.IntegrityError):
        raw.execute(BELOW_0, (1, "bias", "choice_accuracy", -0.1, 8))
    upgraded = rows_of(path)
    migrate.downgrade(locate(path), "0001")
    assert rows_of(path) == held
    migrate.upgrade(locate(path))
    assert rows_of(path) == upgraded


OPEN_AND_WRITE = """
import sys
from warehouse_samples import BASELINE, identity, outcome
from rhodb.store import insert_outcome
from rhodb.warehouse import Warehouse
with Warehouse.open(sys.argv[1]) as wh:
    for seed in range(10):
        assert insert_outcome(wh, outcome(identity(1000 * int(sys.argv[2]) + seed), baseline=BASELINE), {})
"""


@pytest.mark.parametrize("old", [False, True])
def test_eight_processes_open_a_missing_or_old_warehouse_at_once_and_write(tmp_path, python, old):
    path = tmp_path / "master.db"
    if old:
        fill(path)
        migrate.downgrade(locate(path), "0001")
    before = rows_of(path) if old else {"runs": []}
    for made_by_the_downgrade in tmp_path.glob("*backup*"):
        made_by_the_downgrade.unlink()
    processes = [python(OPEN_AND_WRITE, path, number) for number in range(1, 9)]
    results = [process.communicate(timeout=240) for process in processes]
    assert [error for _, error in results] == [""] * 8
    with Warehouse.open(path, create=False) as wh:
        new = wh.rows("SELECT count(*) AS n FROM runs WHERE kind = 'alignment' AND seed >= 1000 AND state = 'done'")
        assert new == [{"n": 80}] and migrate.current(locate(path)) == HEAD
        assert len(wh.runs()) == 80 + (len(before["runs"]) or 1)
    assert len(list(tmp_path.glob("master.backup-0001-*.db"))) == int(old)  # one process migrated


MIGRATE = """
import sys
from rhodb.engine import locate
from rhodb.migrate import upgrade
before, after = upgrade(locate(sys.argv[1]))
print("migrated" if before != after else "found")
"""


def test_of_several_processes_one_migrates(tmp_path, python):
    processes = [python(MIGRATE, tmp_path / "master.db") for _ in range(4)]
    outputs = [process.communicate(timeout=120) for process in processes]
    assert sorted(output for output, _ in outputs) == ["found\n"] * 3 + ["migrated\n"], outputs


def test_the_alembic_command_works_from_the_repository(tmp_path, monkeypatch):
    from alembic import command

    root = Path(rhodb.__file__).parents[1]
    if not (root / "alembic.ini").exists():
        pytest.skip("installed without the repository")
    monkeypatch.setenv("RHODB_DB", str(tmp_path / "cli.db"))
    command.upgrade(Config(str(root / "alembic.ini")), "head")
    with Warehouse.open(tmp_path / "cli.db", create=False) as wh:
        assert wh.rows("SELECT * FROM runs") == []
