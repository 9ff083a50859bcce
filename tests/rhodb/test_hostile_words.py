"""Every option that reaches SQL takes hostile words as words; a database locked for long is waited for."""

import sqlite3
import threading
import time
from contextlib import closing
from types import NoneType

import pytest
from legacy_files import sample, write_file
from typer.testing import CliRunner
from warehouse_samples import BASELINE, dump, identity, outcome

from rhodb.cli.main import app
from rhodb.errors import DatabaseBusyError, RhodbError
from rhodb.ingest import ingest
from rhodb.store import insert_outcome

WORDS = ("x'; DROP TABLE runs; --", '"; DELETE FROM runs; --', "' OR '1'='1", "%", "λ' UNION SELECT 1 --")
OPTIONS = {
    "runs list --kind": ["runs", "list", "--kind", "{}"],
    "runs list --state": ["runs", "list", "--state", "{}"],
    "runs list --model": ["runs", "list", "--model", "{}"],
    "runs list --condition": ["runs", "list", "--condition", "{}"],
    "runs show RUN": ["runs", "show", "{}"],
    "runs diff A": ["runs", "diff", "{}", "0000"],
    "runs diff B": ["runs", "diff", "0000", "{}"],
    "sql -p": ["sql", "SELECT count(*) AS n FROM runs WHERE uuid = :word", "-p", "word={}"],
    "sql -p name": ["sql", "SELECT 1", "-p", "{}=1"],
    "sql --saved NAME": ["sql", "--saved", "{}"],
    "sql --saved -p": ["sql", "--saved", "condition-means", "-p", "metric={}"],
    "export --table": ["export", "out.csv", "--table", "{}"],
    "export --format": ["export", "out", "--format", "{}"],
    "export --sql": ["export", "out.csv", "--sql", "SELECT 1; {}"],
    "schema TABLE": ["schema", "{}"],
    "ingest --on-conflict": ["ingest", "nowhere", "--on-conflict", "{}"],
}
"""Every option and argument of the warehouse's commands whose text comes near SQL."""


@pytest.mark.parametrize("option", OPTIONS)
def test_options_take_hostile_words_as_words(wh, tmp_path, monkeypatch, option):
    monkeypatch.chdir(tmp_path)
    insert_outcome(wh, outcome(identity(1), baseline=BASELINE), {})
    before = dump(wh.location.path)
    for word in WORDS:
        arguments = [argument.format(word) for argument in OPTIONS[option]]
        done = CliRunner().invoke(app, ["--db", str(wh.location.path), *arguments])
        assert isinstance(done.exception, RhodbError | SystemExit | NoneType), (word, done.exception)
    assert dump(wh.location.path) == before


def test_hostile_words_of_the_python_api_and_of_files_stay_words(wh, tmp_path):
    value = sample("alignment/sweep.json")
    for i, word in enumerate(WORDS):
        value |= {"model": word, "experiment": word, "backend": word, word: {word: [word]}}
        assert ingest(wh, [write_file(tmp_path, f"alignment/{i} '; DROP TABLE runs; --.json", value)]).problems == []
        assert set(wh.scores(model=word)["model"]) == {word} and set(wh.runs(experiment=word)["experiment"]) == {word}
        assert wh.query("SELECT :word AS word", word=word)["word"].tolist() == [word]
    assert wh.rows("SELECT count(*) AS n FROM sources") == [{"n": len(WORDS)}]


@pytest.mark.slow
def test_a_warehouse_locked_for_half_a_minute_is_waited_for(wh):
    """By another program, for 30 s of the clock; a limit that is shorter is kept, and said in one sentence."""
    with closing(sqlite3.connect(wh.location.path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        started = time.monotonic()
        words = pytest.raises(DatabaseBusyError, match="locked by another program for 7 s: nothing was written")
        with words, wh.write(timeout_s=7):  # longer than SQLite's own patience of 5 s
            pytest.fail("the lock was not held")
        assert time.monotonic() - started >= 7
        timer = threading.Timer(30 - (time.monotonic() - started), other.execute, ["ROLLBACK"])
        timer.start()
        assert insert_outcome(wh, outcome(identity(1)), {})
        assert time.monotonic() - started >= 30
        timer.join()
    assert len(wh.runs()) == 1
