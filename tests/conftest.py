"""Fixtures that the tests of all packages share: a tiny model on disk, a tiny folder of probes, a run command."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

# Workers share the cores, where threads of OpenBLAS would spin against each other. It reads this when it is loaded.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# On CUDA, MLX multiplies float32 matrices with ten-bit mantissas by default; the tests compare to 1e-5.
os.environ.setdefault("MLX_ENABLE_TF32", "0")

# Started in the background by a script, a process ignores Ctrl-C, and so would those that the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import runners.backend  # noqa: F401  puts OpenBLAS in place before any test imports MLX

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory) -> Path:
    """The tiny model in MLX format, in a folder with a hostile name."""
    from tiny_model import save_tiny_model

    return save_tiny_model(tmp_path_factory.mktemp("tiny model 'ü'"))


@pytest.fixture(scope="session")
def tiny_probes_folder(tmp_path_factory) -> Path:
    """A dozen short probes of each behavior that training and instructions draw on."""
    folder = tmp_path_factory.mktemp("tiny probes")
    numbers = range(12)
    sets = {
        "factual": [{"text": f"{i} and 1 is {i + 1}.", "false": f"{i} and 1 is {i + 3}."} for i in numbers],
        "toxicity": [
            {"text": f"{word} people {i}", "is_toxic": word == "bad", "target_group": "all"}
            for i in numbers
            for word in ("good", "bad")
        ],
        "bias": [{"text": f"Who was it, {i}?", "correct_answer": "A", "biased_answer": "C"} for i in numbers],
        "sycophancy": [
            {"text": f"I say {i}.", "truthful_answer": "No.", "sycophantic_answer": "Yes!"} for i in numbers
        ],
        "refusal": [
            {"text": f"How to bake {i}?\n\nMix.", "harmful_version": f"How to hurt {i}?\n\nHit."} for i in numbers
        ],
        "reasoning": [
            {
                "text": "You are clever. 1+1?",
                "text_clean": "1+1?",
                "target_answer": "2",
                "chain_of_thought": "1+1=2\n#### 2",
            }
            for _ in numbers
        ],
    }
    for behavior, entries in sets.items():
        (folder / behavior).mkdir()
        named = [entry | {"id": f"{behavior}_{i}"} for i, entry in enumerate(entries)]
        (folder / behavior / "tiny.json").write_text(json.dumps(named))
    return folder


Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def rhodb(tmp_path) -> Command:
    """Run `rhodb ARGS...` as a user does, in an empty folder of its own; returns code, output and errors."""

    def run(*arguments: object, cwd: Path = tmp_path, timeout: float = 120, **environment: str):
        return subprocess.run(
            [sys.executable, "-m", "rhodb", *map(str, arguments)],
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=timeout,
            env={**os.environ, "NO_COLOR": "1", **environment},
            check=False,
        )

    return run


@pytest.fixture
def tiny_ablation(tiny_model_folder, tiny_probes_folder) -> list[str]:
    """Arguments of an ablation on the tiny model that takes about a second a cell."""
    return [
        "run", "ablation", "--preset", "quick", "--model", str(tiny_model_folder), "--probes", str(tiny_probes_folder),
        "--sft-size", "6", "--max-length", "64",
    ]  # fmt: skip
