"""`rhodb claims` as a user runs it: lists, verdicts, explanations, and a paper draft kept true."""

import csv
import io
import json
from pathlib import Path

import pytest

ADD = (
    "claims",
    "add",
    "--file",
    "my claims ü.csv",
    "--section",
    "Results",
    "--subject",
    "bias",
    "--statistic",
    "swing",
)
SWING = "{arm/margin/0.1/0.2/bias/mean} - {arm/margin/0/0.2/bias/mean}"


def test_the_notes_claims_are_listed_by_section(rhodb) -> None:
    done = rhodb("claims", "list", "--section", "pattern 1:", "--json")
    rows = json.loads(done.stdout)
    assert done.returncode == 0 and {"T1.ratio", "T2.ceiling"} <= {row["id"] for row in rows}
    assert {row["section"].split(":")[0] for row in rows} == {"Pattern 1"}
    none = rhodb("claims", "list", "--section", "Weather")
    assert none.returncode == 2 and "there are: Loss Function" in none.stderr


def test_verdicts_without_any_warehouse_and_nothing_is_written(rhodb, tmp_path: Path) -> None:
    done = rhodb("claims", "verify", "--section", "Pattern 2", "--csv")
    rows = {row["id"]: row for row in csv.DictReader(io.StringIO(done.stdout))}
    assert done.returncode == 0 and rows["K1.p"]["verdict"] == "inconsistent" and "0.0833" in rows["K1.p"]["text"]
    only = rhodb("claims", "verify", "--section", "Pattern 2", "--verdict", "reproduced", "--markdown").stdout
    assert "K1.rho" in only and "K1.p" not in only
    table = rhodb("claims", "verify", "--section", "Pattern 2").stdout
    assert "claims: " in table and "--explain" in table
    assert not list(tmp_path.iterdir())


def test_a_claim_is_explained_with_numbers_inputs_and_method(rhodb) -> None:
    done = rhodb("claims", "verify", "--explain", "T1.ratio")
    for part in (
        "Verdict: inconsistent",
        "printed 52.8",
        "51.6",
        "arm/no-margin/0/0.2/bias/seed-42",
        "Checker: spread-ratio",
    ):
        assert part in done.stdout
    as_json = json.loads(rhodb("claims", "verify", "--explain", "T1.ratio", "--json").stdout)
    assert as_json["recomputed"] == pytest.approx(4.6) and as_json["verdict"] == "inconsistent"
    close = rhodb("claims", "verify", "--explain", "T1.ratios")
    assert close.returncode == 2 and "close to it: T1.ratio" in close.stderr


def test_strict_passes_while_a_draft_is_true_and_fails_when_it_is_not(rhodb, tmp_path: Path) -> None:
    added = rhodb(*ADD, "--id", "swing", "--value", "0.045", "--expression", SWING)
    assert added.returncode == 0 and "reproduced: Recomputed 0.045" in added.stdout, added.stderr
    strict = ("claims", "verify", "--file", "my claims ü.csv", "--strict")
    assert rhodb(*strict).returncode == 0
    assert rhodb(*ADD, "--id", "wrong", "--value", "0.054", "--expression", SWING, "--no-check").returncode == 0
    done = rhodb(*strict)
    assert done.returncode == 1 and "1 of 2 claims are not reproduced: wrong" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--id", "a", "--value", "0.1"), "exactly one of --sql, --saved, --expression and --study"),
        (("--id", "a", "--value", "0.1", "--sql", "SELECT 1", "--study", "gamma"), "exactly one of"),
        (("--id", "a", "--value", "much", "--sql", "SELECT 1"), "value must be a number"),
        (("--id", "a b", "--value", "1", "--sql", "SELECT 1"), "an id is letters"),
        (("--id", "a", "--value", "1", "--sql", "SELECT 1; SELECT 2"), "must not contain a semicolon"),
        (("--id", "a", "--value", "1", "--sql", "SELECT 1", "-p", "seed"), "takes NAME=VALUE"),
    ],
)
def test_a_wrong_claim_is_refused_and_no_file_made(
    arguments: tuple[str, ...], message: str, rhodb, tmp_path: Path
) -> None:
    done = rhodb(*ADD, *arguments)
    assert done.returncode == 2 and message in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_draft_about_a_warehouse_follows_it(rhodb, tmp_path: Path) -> None:
    assert rhodb("db", "upgrade", "--db", "w.db").returncode == 0
    add = (*ADD, "--id", "runs", "--value", "0", "--sql", "SELECT count(*) FROM runs", "--db", "w.db")
    assert "reproduced" in rhodb(*add).stdout
    found = json.loads(rhodb("--db", "w.db", "claims", "verify", "--file", "my claims ü.csv", "--json").stdout)
    assert [row["verdict"] for row in found] == ["reproduced"]
    missing = rhodb("claims", "verify", "--file", "my claims ü.csv", "--db", "none.db")
    assert missing.returncode == 2 and "none.db" in missing.stderr


def test_checkers_and_verdicts_are_listed_for_those_who_ask(rhodb) -> None:
    rows = json.loads(rhodb("claims", "checkers", "--json").stdout)
    assert {"sql", "study", "expression"} <= {row["name"] for row in rows if row["kind"] == "checker"}
    done = rhodb("claims", "verify", "--verdict", "true")
    assert done.returncode == 2 and "choose from reproduced, up to rounding" in done.stderr
