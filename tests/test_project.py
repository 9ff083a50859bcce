"""Promises about the project itself: what the README says is what CI runs, and nothing unwanted is tracked."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def tracked() -> list[str]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    return subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()


def test_ci_runs_the_readmes_test_command():
    command = "pip install uv && uv run pytest"
    assert command in (ROOT / "README.md").read_text()
    assert command in (ROOT / ".ci" / "run").read_text().splitlines()


def test_the_readme_begins_with_the_command_that_does_the_main_job():
    assert "pip install uv && uv run rhodb run ablation --seeds 42,123" in (ROOT / "README.md").read_text()[:1500]


def test_no_lock_file_database_weights_or_large_file_is_tracked():
    for name in tracked():
        path = ROOT / name
        assert path.suffix not in {".lock", ".db", ".safetensors", ".gguf", ".npz"}, name
        assert not path.exists() or path.stat().st_size < 2**20, name
