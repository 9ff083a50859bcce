"""Fixtures of the warehouse's tests."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rhodb.warehouse import Warehouse

HERE = Path(__file__).parent


@pytest.fixture
def wh(tmp_path: Path) -> Iterator[Warehouse]:
    """A new warehouse."""
    with Warehouse.open(tmp_path / "master.db") as opened:
        yield opened


def start_python(code: str, *arguments: object) -> "subprocess.Popen[str]":
    """Start a Python process that can import the samples."""
    paths = [str(HERE), str(HERE.parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


@pytest.fixture
def python() -> "Callable[..., subprocess.Popen[str]]":
    """Start `python -c CODE ARGS...`."""
    return start_python


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter (pytest's own is closed to others)."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        yield folder
        folder.chmod(0o777)
        for path in folder.rglob("*"):
            path.chmod(0o777)


@pytest.fixture(params=["plain", "spaces 'quotes' \"double\" 100%25", "naïve-λ-数据?#&", "relative", "symlink"])
def hostile_path(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database path as unkind users give it."""
    if request.param == "relative":
        monkeypatch.chdir(tmp_path)
        return "sub/../here.db"
    if request.param == "symlink":
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to(tmp_path / "real", target_is_directory=True)
        return str(tmp_path / "link" / "master.db")
    return str(tmp_path / request.param / f"{request.param}.db")
