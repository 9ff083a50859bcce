"""A command that takes a while says what it does; a run that cannot work here says so before it makes a database."""

import json
import time
from collections import namedtuple
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

from rhodb.cli import output, preflight
from rhodb.cli.main import app
from rhodb.errors import InputError

Swap = namedtuple("Swap", "free")
Usage = namedtuple("Usage", "total used free")


def test_only_what_takes_long_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(output, "SILENCE_S", 0.1)
    with output.doing("a moment"):
        pass
    with output.doing("a long time"):
        time.sleep(0.3)
    with pytest.raises(ValueError, match="x"), output.doing("a failure"):
        raise ValueError("x")
    time.sleep(0.2)
    assert capsys.readouterr() == ("", "a long time ...\n")


def test_a_slow_command_keeps_its_output_clean(rhodb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Doctor loads the model: what it is doing goes to stderr, and stdout stays JSON."""
    done = rhodb("doctor", "--json")
    assert "loading the embedded model ..." in done.stderr
    assert {row["what"] for row in json.loads(done.stdout)} >= {"device", "BLAS", "memory", "model", "probes"}


def _refused(arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The sentence that refuses an ablation; nothing may have been made."""
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    done = CliRunner().invoke(app, [*arguments, "--db", "lab.db", "--seeds", "1"])
    assert done.exception is not None
    assert getattr(done.exception, "exit_code", None) == 2, done.exception
    assert sorted(tmp_path.rglob("*")) == before
    return str(done.exception)


def test_too_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = 3 * 2**30
    preflight.check_memory(2**20)
    monkeypatch.setattr("runners.resources.free_memory", lambda: 2 * 2**30)
    monkeypatch.setattr(psutil, "swap_memory", lambda: Swap(free=2**29))
    with pytest.raises(InputError, match=r"^memory: 2\.0 GiB free, 3\.0 GiB needed: close other programs"):
        preflight.check_memory(needed)
    monkeypatch.setattr(psutil, "swap_memory", lambda: Swap(free=2**30))
    preflight.check_memory(needed)


def test_a_full_disk(tiny_ablation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _place: Usage(total=2**40, used=2**40, free=2**20))
    said = _refused(tiny_ablation, tmp_path, monkeypatch)
    assert said.startswith(f"disk: 0.0 GiB free at {tmp_path}: free some space")


def test_mlx_that_cannot_be_loaded(rhodb, tiny_ablation, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    (broken / "mlx").mkdir(parents=True)
    (broken / "mlx" / "core.py").write_text("raise ImportError('libmlx.so: version GLIBC_2.35 not found')\n")
    for arguments in (tiny_ablation, ["doctor"]):
        done = rhodb(*arguments, "--db", tmp_path / "lab.db", PYTHONPATH=str(broken))
        assert done.returncode in (1, 2), done.stdout
        assert "MLX cannot be loaded (libmlx.so: version GLIBC_2.35 not found)" in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "lab.db").exists()
