"""`rhodb db`, `rhodb runs` and `rhodb schema` as a user meets them."""

import csv
import io
import json
import sqlite3
from contextlib import closing

import pytest
from typer.main import get_command
from typer.testing import CliRunner
from warehouse_samples import BASELINE, identity, outcome

from rhodb.cli import db, runs, schema_cmd
from rhodb.cli.main import app
from rhodb.errors import DatabaseError, InputError
from rhodb.revision import HEAD
from rhodb.schema import Base
from rhodb.spool import Spool
from rhodb.store import insert_outcome, run_uuid
from rhodb.warehouse import Warehouse

RUN, BASE = run_uuid(identity(1)), run_uuid(BASELINE)


@pytest.fixture
def path(tmp_path):
    """A warehouse with a baseline and a run."""
    file = tmp_path / "lab's data" / "master.db"
    with Warehouse.open(file) as wh:
        insert_outcome(wh, outcome(BASELINE, value=0.25), {})
        insert_outcome(wh, outcome(identity(1), baseline=BASELINE, value=0.75), {})
    return file


def call(*arguments: object, code: int = 0) -> str:
    """Run the command in this process; its standard output."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.stdout


def test_path_and_current_create_nothing(tmp_path):
    missing = tmp_path / "no" / "master.db"
    assert call("--db", missing, "db", "path") == f"{missing}\n"
    assert call("db", "path", "--db", missing) == f"{missing}\n"
    (row,) = json.loads(call("--db", missing, "db", "current", "--json"))
    assert row == {"warehouse": str(missing), "schema": None, "newest": HEAD, "state": "missing"}
    assert not missing.parent.exists()


def test_upgrade_creates_and_then_finds_nothing_to_do(tmp_path):
    file = tmp_path / "new" / "master.db"
    assert call("--db", file, "db", "upgrade") == f"{file}: schema none -> {HEAD}\n"
    assert call("--db", file, "db", "upgrade") == f"{file} is up to date (schema {HEAD})\n"
    assert json.loads(call("--db", file, "db", "current", "--json"))[0]["state"] == "up to date"


def test_check_answers_with_its_exit_code_and_the_fix(path):
    assert call("--db", path, "db", "check") == ""
    assert json.loads(call("--db", path, "db", "check", "--json")) == []
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("DELETE FROM alignment_runs")
        raw.commit()
    assert "fix: sqlite3 " in call("--db", path, "db", "check", code=1)
    (problem,) = json.loads(call("--db", path, "db", "check", "--json", code=1))
    assert problem["check"] == "states" and RUN in problem["what"]


def test_runs_are_listed_shown_and_compared(path):
    rows = json.loads(call("--db", path, "runs", "list", "--json"))
    assert [row["run"] for row in rows] == [RUN, BASE]
    table = list(csv.DictReader(io.StringIO(call("--db", path, "runs", "list", "--csv", "--kind", "baseline"))))
    assert [(row["run"], row["seed"], row["condition"]) for row in table] == [(BASE, "0", "")]
    assert RUN[:8] in call("--db", path, "runs", "list") and "rho-guided" in call("--db", path, "runs", "list")
    shown = json.loads(call("--db", path, "runs", "show", RUN[:8], "--json"))
    assert shown["run"]["config"] == identity(1).config and shown["scores"][0]["delta"] == 0.5
    assert "OpenBLAS 0.3.29" in call("--db", path, "runs", "show", RUN[:8])
    diff = json.loads(call("--db", path, "runs", "diff", BASE[:8], RUN[:8], "--json"))
    assert diff["scores"][0]["difference"] == 0.5
    assert "config.condition" in call("--db", path, "runs", "diff", BASE[:8], RUN[:8])


def test_a_list_that_is_cut_says_so(path):
    result = CliRunner().invoke(app, ["--db", str(path), "runs", "list", "--limit", "1"])
    assert RUN[:8] in result.stdout and BASE[:8] not in result.stdout and "--limit" in result.stderr


def test_recover_inserts_what_is_spooled_and_reports_what_is_damaged(path):
    with Warehouse.open(path) as wh:
        spool = Spool.beside(wh)
    spool.write(outcome(identity(2)))
    assert "1 runs inserted" in call("--db", path, "runs", "recover")
    assert "0 runs inserted" in call("--db", path, "runs", "recover")
    (spool.folder / "torn.json.gz").write_bytes(b"torn")
    call("--db", path, "runs", "recover", code=1)
    assert (spool.folder / "damaged" / "torn.json.gz").exists()


def test_recover_builds_a_warehouse_that_is_gone(path):
    with Warehouse.open(path) as wh:
        spool = Spool.beside(wh)
    spool.write(outcome(BASELINE, value=0.25))
    spool.write(outcome(identity(1), baseline=BASELINE, value=0.75))
    for file in path.parent.glob("master.db*"):
        file.unlink()
    assert "2 runs inserted" in call("--db", path, "runs", "recover")
    assert json.loads(call("--db", path, "runs", "show", RUN, "--json"))["scores"][0]["delta"] == 0.5


def test_schema_describes_every_table_and_column():
    rows = json.loads(call("schema", "--json"))
    assert {row["name"] for row in rows} >= set(Base.metadata.tables) | {"v_scores", "v_alignment"}
    (ce,) = [row for row in json.loads(call("schema", "probe_scores", "--json")) if row["column"] == "ce"]
    assert ce["type"] == "REAL" and "nats/token" in ce["meaning"]
    names = {row["column"] for row in json.loads(call("schema", "v_alignment", "--json"))}
    assert {"condition", "toxicity_gap_eval", "d_toxicity_gap_eval", "d_bench_truth_corr_none"} <= names


@pytest.mark.parametrize(
    "arguments",
    [
        ["schema", "nosuch"],
        ["runs", "show", "zz"],
        ["runs", "show", "0000"],
        ["runs", "list", "--state", "nosuch"],
        ["runs", "list", "--limit", "-3"],
        ["runs", "diff", "0000", "0001"],
    ],
)
def test_wrong_input_is_an_input_error(path, arguments):
    with pytest.raises(InputError):
        call("--db", path, *arguments)


@pytest.mark.parametrize("command", [["runs", "list"], ["db", "check"], ["runs", "show", "0000"]])
def test_reading_a_missing_warehouse_is_refused_and_creates_nothing(tmp_path, command):
    with pytest.raises(DatabaseError, match="no warehouse"):
        call("--db", tmp_path / "x" / "master.db", *command)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("module", [db, runs, schema_cmd])
def test_every_command_has_help_and_an_example(module):
    group = get_command(module.app)
    for command in getattr(group, "commands", {"schema": group}).values():
        assert command.help and "rhodb " in (command.epilog or ""), command.name
        for parameter in command.params:
            assert getattr(parameter, "help", "") or parameter.param_type_name == "argument", parameter.name
