"""Hybrid: one pipeline of timed phases; its parts agree with the experiments that have them alone."""

import json
import sqlite3
from contextlib import closing

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten

from runners.cells import Cell
from runners.hybrid import HybridConfig
from runners.hybrid_session import HybridSession


class Silent:
    def step(self, row, total):
        """Nothing to show."""

    def scored(self, done, total):
        """Nothing to show."""


@pytest.fixture
def common(tiny_model_folder, tiny_probes_folder):
    return [
        "--preset", "quick", "--model", tiny_model_folder, "--probes", tiny_probes_folder, "--max-length", "64",
        "--sft-size", "6",
    ]  # fmt: skip


def test_a_grid_fills_both_tables_and_agrees_with_the_freeze_sweep(rhodb, common, tmp_path):
    command = [
        "run",
        "hybrid",
        *common,
        "--compress-ratios",
        "0.5",
        "--freeze-fractions",
        "0.5",
        "--sae-layers",
        "none,1",
    ]
    sae = ["--sae-features", "64", "--sae-epochs", "2", "--sae-batch", "64", "--features", "8"]
    done = rhodb(*command, *sae, "--rho-weights", "0,0.2", "--json")
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["executed"]) == 1 + 4
    same = rhodb("run", "freeze-sweep", *common, "--compress-ratios", "0.5", "--freeze-ratios", "0.5")
    assert same.returncode == 0, same.stderr
    with closing(sqlite3.connect(tmp_path / "results" / "master.db")) as db:
        rows = db.execute("SELECT sae_layer, rho_weight, margin FROM hybrid_sweep ORDER BY 1, 2").fetchall()
        assert rows == [(None, 0, None), (None, 0.2, 0.1), (1, 0, None), (1, 0.2, 0.1)]
        phases = db.execute(
            "SELECT sae_layer, group_concat(phase, ' ') FROM (SELECT * FROM hybrid_phases ORDER BY run_id, position) "
            "JOIN hybrid_sweep USING (run_id) WHERE seconds > 0 GROUP BY run_id"
        ).fetchall()
        assert set(phases) == {(None, "compress fine_tune score"), (1, "compress fine_tune autoencoder score")}
        gap = "SELECT value FROM behavior_scores JOIN {} USING (run_id) WHERE metric = 'gap' AND split = 'eval' "
        gap += "AND behavior = 'factual'"
        alone = db.execute(gap.format("freeze_sweep")).fetchall()
        assert db.execute(gap.format("hybrid_sweep") + " AND sae_layer IS NULL AND rho_weight = 0").fetchall() == alone
        assert len({v for (v,) in db.execute(gap.format("hybrid_sweep"))}) == 4


def test_the_model_is_as_before_afterwards_even_after_a_failure(tiny_model_folder, tiny_probes_folder, monkeypatch):
    config = HybridConfig(
        model=str(tiny_model_folder), probes=str(tiny_probes_folder), max_length=64, sft_size=4, compress_ratios=0.5,
        freeze_fractions=0, rho_weights=0, sae_layers="1", sae_features=16, sae_epochs=1, features=4,
    )  # fmt: skip
    session = HybridSession(config)
    before = dict(tree_flatten(session.loaded.model.parameters()))
    cell: Cell = session.cells[1]

    def failing(*_args, **_kwargs):
        raise MemoryError

    session.run_cell(cell, tiny_model_folder, Silent())
    monkeypatch.setattr(session, "score", failing)
    with pytest.raises(MemoryError):
        session.run_cell(cell, tiny_model_folder, Silent())
    after = dict(tree_flatten(session.loaded.model.parameters()))
    assert before.keys() == after.keys()
    assert all(mx.array_equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sae-layers", "2", "--freeze-fractions", "0"], "layers 0 to 1"),
        (["--sae-layers", "some"], "--sae-layers"),
        (["--compress-ratios", "0"], "--compress-ratios"),
        (["--freeze-fractions", "1"], "freezes all 2 layers"),
        (["--rho-weights", "0.1,0.1"], "twice"),
    ],
)
def test_wrong_hybrid_input_is_one_sentence(rhodb, common, tmp_path, options, message):
    wrong = rhodb("run", "hybrid", *common, *options)
    assert wrong.returncode == 2 and message in wrong.stderr and "Traceback" not in wrong.stderr
    assert not list(tmp_path.iterdir())
