"""Ctrl-C and fatal signals: what the command line says, and its exit code."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rhodb.warehouse import Warehouse

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
ENDLESS_AGGREGATE = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i + 0.5) FROM n"


@pytest.fixture
def database(tmp_path: Path) -> Path:
    Warehouse.open(tmp_path / "lab.db").close()
    return tmp_path / "lab.db"


def _start(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "rhodb", *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "NO_COLOR": "1"},
    )


def _busy(process: subprocess.Popen[str], seconds: float = 1.0) -> None:
    """Wait until the process and those it started have computed for so long: it is within its command by then."""
    import psutil

    def computed() -> float:
        own = psutil.Process(process.pid)
        return sum(one.cpu_times().user for one in (own, *own.children()))

    while process.poll() is None and computed() < seconds:
        time.sleep(0.05)


@pytest.mark.parametrize("sql", [ENDLESS, ENDLESS_AGGREGATE])
def test_an_interrupted_query_says_so(database: Path, sql: str) -> None:
    process = _start("sql", "--db", database, sql)
    _busy(process)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=20)
    assert (process.returncode, out, errors) == (130, "", "rhodb: interrupted\n")


def test_a_query_out_of_time_says_so(database: Path, rhodb) -> None:
    done = rhodb("sql", "--db", database, "--timeout", "0.3", ENDLESS)
    assert done.returncode == 2
    assert "took more than 0.3 s" in done.stderr


@pytest.mark.parametrize(
    ("number", "name"),
    [(signal.SIGILL, "Illegal instruction"), (signal.SIGSEGV, "Segmentation fault"), (signal.SIGBUS, "Bus error")],
)
def test_a_fatal_signal_is_never_silent(number: signal.Signals, name: str) -> None:
    """Also where another program started rhodb and swallows what a shell would say, as `uv run` does."""
    process = _start("sql", "-")  # waits for SQL on its standard input
    assert process.stdin is not None
    process.stdin.write("SELECT")
    process.stdin.flush()
    _busy(process, 0.2)
    time.sleep(0.5)
    process.send_signal(number)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == -number
    assert f"Fatal Python error: {name}" in errors
    assert "rhodb/cli/main.py" in errors  # and where
