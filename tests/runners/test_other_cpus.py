"""On CPUs without AVX-512, and without AVX2, rhodb starts and computes right: under qemu's emulation of programs."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from emulated_scores import PAIRS

from runners.backend.models import load_model
from runners.backend.tokenizer import encode

QEMU = shutil.which("qemu-x86_64") or shutil.which("qemu-x86_64-static")
SCORES = Path(__file__).parents[1] / "emulated_scores.py"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(sys.platform != "linux", reason="programs are emulated on Linux"),
    pytest.mark.skipif(QEMU is None, reason="qemu-user is not installed"),
]


@pytest.fixture(scope="module")
def emulated(tmp_path_factory):
    """Run Python with these arguments on an emulated CPU, children and all: this environment, with another interpreter.

    A program that an emulated one starts runs on the real CPU; so the interpreter is a script that starts qemu again.
    """
    cache = tmp_path_factory.mktemp("cache")
    environments = {}

    def run(cpu: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        if cpu not in environments:
            folder = environments[cpu] = tmp_path_factory.mktemp(cpu)
            python = folder / "bin" / "python"
            python.parent.mkdir()
            shutil.copy(Path(sys.prefix) / "pyvenv.cfg", folder)
            (folder / "lib").symlink_to(Path(sys.prefix) / "lib")
            real = Path(sys.executable).resolve()
            python.write_text(f'#!/bin/sh\nexec "{QEMU}" -cpu {cpu} -0 "{python}" "{real}" "$@"\n')
            python.chmod(0o755)
        return subprocess.run(
            [environments[cpu] / "bin" / "python", *arguments],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "XDG_CACHE_HOME": str(cache), **environment},
            cwd=cache,
        )

    return run


@pytest.fixture(scope="module")
def true_ce(tiny_model_folder: Path) -> list[float]:
    """Cross-entropy of the four texts on the real CPU: mlx-lm's logits, then float64."""
    loaded = load_model(str(tiny_model_folder))
    found = []
    for text in (text for pair in PAIRS for text in (pair.positive, pair.negative)):
        ids = encode(loaded.tokenizer, text)
        logits = np.array(loaded.model(mx.array([ids]))[0]).astype(np.float64)
        found.append(np.mean([np.log(np.exp(row).sum()) - row[i] for row, i in zip(logits, ids[1:], strict=False)]))
    return found


@pytest.mark.parametrize(("cpu", "kernel", "avx2"), [("Haswell", "Haswell", True), ("Westmere", "Nehalem", False)])
def test_doctor_and_scores(emulated, tiny_model_folder: Path, true_ce, cpu: str, kernel: str, avx2: bool) -> None:
    done = emulated(cpu, str(SCORES), str(tiny_model_folder), "doctor")
    assert done.returncode == 0, done.stderr
    *rows, line = done.stdout.rstrip().splitlines()
    said = {row["what"]: row for row in json.loads("\n".join(rows))}
    assert all(row["state"] == "ok" for row in said.values() if row["what"] not in ("memory", "disk"))
    assert f"kernel {kernel}," in said["BLAS"]["found"]
    assert "V4" not in said["CPU"]["found"]  # what NumPy calls AVX-512
    assert ("V3" in said["CPU"]["found"]) == avx2
    scores = json.loads(line)
    assert scores["openblas"], scores["reason"]
    assert scores["ce"] == pytest.approx(true_ce, abs=1e-5)


def test_a_library_for_another_cpu_is_not_used(emulated, tiny_model_folder: Path, true_ce) -> None:
    """OpenBLAS told to use AVX-512 where there is none dies of SIGILL, as any build for AVX-512 alone does."""
    done = emulated("Haswell", str(SCORES), str(tiny_model_folder), OPENBLAS_CORETYPE="SkylakeX")
    assert done.returncode == 0, done.stderr
    scores = json.loads(done.stdout)
    assert not scores["openblas"]
    assert scores["kernel"] == "SkylakeX"
    assert "ended by SIGILL" in scores["reason"]
    assert scores["ce"] == pytest.approx(true_ce, abs=1e-5)
    ours = [line for line in done.stderr.splitlines() if line.startswith("rhodb: ")]
    assert len(ours) == 1
    assert "ended by SIGILL" in ours[0]
