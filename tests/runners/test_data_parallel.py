"""Two ranks on loopback train like one process with the same global batch."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rhodb.errors import InputError
from runners.backend.data_parallel import Ranks

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_name("rank_training.py")


def run(command: list[str], folder: Path) -> None:
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr + done.stdout


def test_two_ranks_train_like_one_process(tmp_path):
    launch = shutil.which("mlx.launch", path=str(Path(sys.executable).parent))
    assert launch, "mlx.launch comes with mlx"
    run([sys.executable, str(SCRIPT), str(tmp_path)], tmp_path)
    run([launch, "-n", "2", "--backend", "ring", "--python", sys.executable, str(SCRIPT), str(tmp_path)], tmp_path)
    alone, first, second = (
        json.loads((tmp_path / f"{name}.json").read_text()) for name in ("0 of 1", "0 of 2", "1 of 2")
    )
    assert first == second
    for one, shared in zip(alone[0], first[0], strict=True):
        assert shared == pytest.approx(one, abs=1e-4)
    assert first[1] == pytest.approx(alone[1], abs=1e-4)


def test_ranks_need_a_micro_batch_each():
    Ranks(rank=0, size=2).check(2)
    with pytest.raises(InputError, match="--accumulation 4"):
        Ranks(rank=1, size=4).check(2)


def test_each_micro_batch_has_one_rank():
    for position in range(7):
        assert sum(Ranks(rank=rank, size=3).mine(position) for rank in range(3)) == 1


def test_an_experiment_on_two_ranks_stores_what_one_process_stores(tmp_path, tiny_ablation):
    import sqlite3
    from contextlib import closing

    launch = shutil.which("mlx.launch", path=str(Path(sys.executable).parent))
    program = str(Path(sys.executable).parent / "rhodb")
    arguments = [*tiny_ablation, "--conditions", "rho-guided", "--accumulation", "2", "--db"]
    run([sys.executable, program, *arguments, str(tmp_path / "one.db")], tmp_path)
    two = [launch, "-n", "2", "--backend", "ring", "--python", sys.executable, program]
    run([*two, *arguments, str(tmp_path / "two.db")], tmp_path)
    sql = "SELECT step, ce_loss, rho_loss FROM train_steps ORDER BY step"
    steps, scores = [], []
    for name in ("one.db", "two.db"):
        with closing(sqlite3.connect(tmp_path / name)) as connection:
            steps.append(connection.execute(sql).fetchall())
            scores.append(connection.execute("SELECT count(*) FROM behavior_scores").fetchone())
    assert len(steps[0]) == len(steps[1]) == 3 and scores[0] == scores[1]
    for one, shared in zip(*steps, strict=True):
        assert shared == pytest.approx(one, abs=1e-4)
