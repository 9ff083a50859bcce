"""`rhodb analyze` on a real warehouse: SQL, statistics, output, and the way back from a number to its rows."""

import csv
import io
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from analysis.registry import STUDIES
from rhodb.cli import landscape, studies
from rhodb.cli.analyze import ANSWERS
from rhodb.cli.main import app
from rhodb.errors import DatabaseError, InputError

LOW = [-0.008, 0.205, 0.026, 0.178, -0.01]
HIGH = [1.155, 1.181, 1.16, 1.173, 1.136]


@pytest.fixture
def db(tmp_path: Path, make_arm: Callable[..., list], fill_warehouse: Callable[..., None]) -> Path:  # type: ignore[type-arg]
    path = tmp_path / "a results' folder é" / "master.db"
    runs = [
        *make_arm("sft-only", {"bias": LOW, "toxicity": LOW}),
        *make_arm("rho-guided", {"bias": HIGH, "toxicity": LOW[::-1]}),
        *make_arm("contrastive-only", {"bias": LOW[::-1]}, model="o'ther"),
        *make_arm("sft-only", {"bias": HIGH}, model="o'ther"),
    ]
    fill_warehouse(path, runs)
    return path


def rhodb(db: Path, *arguments: str) -> str:
    result = CliRunner().invoke(app, ["--db", str(db), "analyze", *arguments])
    if result.exception:
        raise result.exception
    return result.stdout


def test_effects_as_json(db: Path) -> None:
    document = json.loads(rhodb(db, "effects", "--json"))
    assert document["looks"] == 3
    by_look = {(f["about"]["model"], f["about"]["behavior"]): f for f in document["findings"]}
    assert set(by_look) == {("tiny", "bias"), ("tiny", "toxicity"), ("o'ther", "bias")}
    bias = by_look["tiny", "bias"]
    assert bias["groups"][0]["values"] == pytest.approx([x - 0.1 for x in HIGH])
    assert bias["verdict"] == "supported"
    assert by_look["tiny", "toxicity"]["verdict"] == "not supported"


def test_filters_reach_the_sql(db: Path) -> None:
    def models(*arguments: str) -> set[str]:
        document = json.loads(rhodb(db, "effects", "--json", *arguments))
        return {f"{f['about']['model']} {f['about']['behavior']} {f['n']}" for f in document["findings"]}

    assert models("--model", "o'ther") == {"o'ther bias 10"}
    assert models("--behavior", "toxicity") == {"tiny toxicity 10"}
    assert models("--where", "seed > 200 -- only the later ones", "--behavior", "toxicity") == {"tiny toxicity 6"}
    assert models("--split", "train") == set()
    assert models("--metric", "rho") == set()


def test_the_explained_sql_returns_exactly_the_rows_of_the_finding(db: Path) -> None:
    for finding in json.loads(rhodb(db, "effects", "--json"))["findings"]:
        text = rhodb(db, "effects", "--explain", str(finding["number"]))
        sql = text.partition("SQL (returns exactly these rows):\n")[2]
        with sqlite3.connect(db) as connection:
            connection.row_factory = sqlite3.Row
            rows = connection.execute(sql).fetchall()
        values = sorted(row["delta"] for row in rows)
        assert values == pytest.approx(sorted(v for group in finding["groups"] for v in group["values"]))
        assert {row["run"] for row in rows} == set(finding["evidence"]["runs"])
        assert all(run in text for run in finding["evidence"]["runs"])
        assert finding["sentence"] in text and "Welch 1947" in text


def test_the_whole_query_can_be_pasted(db: Path) -> None:
    with sqlite3.connect(db) as connection:
        assert len(connection.execute(rhodb(db, "effects", "--explain", "0")).fetchall()) == 30


def test_csv_and_markdown_and_table_say_the_same(db: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(rhodb(db, "effects", "--csv"))))
    assert [row["verdict"] for row in rows].count("supported") == 2
    assert float(rows[0]["difference_low"]) < float(rows[0]["difference"]) < float(rows[0]["difference_high"])
    markdown = rhodb(db, "effects", "--markdown").splitlines()
    assert len([line for line in markdown if line.startswith("|")]) == 2 + len(rows)
    table = rhodb(db, "effects")
    assert table.count("Effects on ") == 2
    assert "3 looks" in table
    assert rows[0]["sentence"] in " ".join(table.split())


def test_wrong_requests_are_one_sentence(db: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--explain 9: there is no such finding; there are 1 to 3"):
        rhodb(db, "effects", "--explain", "9")
    with pytest.raises(InputError, match="no such column: sedd"):
        rhodb(db, "effects", "--where", "sedd = 1")
    with pytest.raises(InputError, match="unknown behavior 'bais'; choose from factual"):
        rhodb(db, "effects", "--behavior", "bais")
    with pytest.raises(DatabaseError, match="there is no warehouse at"):
        rhodb(tmp_path / "absent.db", "effects")
    assert not (tmp_path / "absent.db").exists()


def test_every_study_has_a_command_with_its_summary() -> None:
    summaries = {name: summary for name, (summary, _) in ANSWERS.items()} | studies.COMMANDS | landscape.COMMANDS
    assert summaries == {name: summary for name, (_, summary) in STUDIES.items()}
    help_of = CliRunner().invoke(app, ["analyze", "gamma", "--help"]).stdout
    assert all(word in help_of for word in ("--inputs", "--rho-weight", "Example", "rhodb analyze gamma --explain 3"))


def test_list_names_every_study(db: Path) -> None:
    assert "effects" in rhodb(db, "list")
    assert json.loads(rhodb(db, "list", "--json"))[0]["study"] == "effects"
