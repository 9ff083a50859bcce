"""Freeze sweep and CF90 from the outside: rows, the no-op that is refused, resuming, wrong input."""

import json
import sqlite3
from contextlib import closing

import pytest
from mlx.utils import tree_flatten

from rhodb.errors import InputError
from runners.alignment import AlignmentSession
from runners.arms import AlignmentConfig, make_arm
from runners.backend.freezing import n_frozen, train_above
from runners.backend.training import TrainSpec
from runners.freeze_session import FreezeSession
from runners.freeze_sweep import FREEZE_SWEEP, FreezeConfig
from runners.seeds import SeedStreams


def query(db, sql):
    with closing(sqlite3.connect(db)) as connection:
        return connection.execute(sql).fetchall()


@pytest.fixture
def common(tiny_model_folder, tiny_probes_folder):
    return ["--preset", "quick", "--model", tiny_model_folder, "--probes", tiny_probes_folder, "--max-length", "64"]


def test_only_layers_above_the_frozen_ones_are_trained(tiny_model):
    spec = TrainSpec(rho_weight=0, lr=1e-2, accumulation=1)
    before = dict(tree_flatten(tiny_model.model.parameters()))
    train_above(tiny_model, ["one two", "three four"], {}, spec, SeedStreams(1), frozen=1)
    trainable = [name for name, _ in tree_flatten(tiny_model.model.trainable_parameters())]
    assert trainable and all(name.startswith("model.layers.1.") and "lora" in name for name in trainable)
    moved = {name: p for name, p in tree_flatten(tiny_model.model.parameters()) if name.endswith("lora_b")}
    assert any(float(abs(p).max()) > 0 for p in moved.values())
    for name, value in tree_flatten(tiny_model.model.parameters()):
        if name in before:
            assert (value == before[name]).all().item()


def test_freezing_everything_leaves_nothing_to_train(tiny_model):
    with pytest.raises(InputError, match="nothing is left"):
        train_above(tiny_model, ["one two"], {}, TrainSpec(rho_weight=0), SeedStreams(1), frozen=2)
    assert [n_frozen(30, share) for share in (0, 0.25, 0.9, 1)] == [0, 8, 27, 30]


def test_a_sweep_fills_its_table_and_goes_on_where_it_was(rhodb, common, tmp_path):
    command = ["run", "freeze-sweep", *common, "--sft-size", "6", "--compress-ratios", "0.5,1", "--freeze-ratios"]
    first = rhodb(*command, "0", "--json")
    assert first.returncode == 0, first.stderr
    second = rhodb(*command, "0,0.5", "--json")
    assert second.returncode == 0, second.stderr
    report = json.loads(second.stdout)
    assert len(report["executed"]) == 2 and len(report["already_done"]) == 3
    assert {row["arm"] for row in report["deltas"]} == {f"keep {k} freeze {f}" for k in (0.5, 1) for f in (0, 0.5)}
    db = tmp_path / "results" / "master.db"
    axes = "compress_ratio, freeze_ratio, fine_tuned, n_compressed, n_frozen"
    assert query(db, f"SELECT {axes} FROM freeze_sweep ORDER BY 1, 2") == [
        (0.5, 0, 1, 6, 0), (0.5, 0.5, 1, 6, 1), (1, 0, 1, 0, 0), (1, 0.5, 1, 0, 1)
    ]  # fmt: skip
    gaps = query(
        db,
        "SELECT value FROM behavior_scores JOIN freeze_sweep USING (run_id) WHERE metric = 'gap' "
        "AND behavior = 'factual' AND split = 'eval'",
    )
    assert len(set(gaps)) == 4


def test_freezing_without_a_fine_tune_is_refused_and_forced_gives_copies(rhodb, common, tmp_path):
    command = ["run", "freeze-sweep", *common, "--no-fine-tune", "--compress-ratios", "0.5", "--freeze-ratios", "0,0.5"]
    refused = rhodb(*command)
    assert refused.returncode == 2 and "--freeze-ratios changes nothing" in refused.stderr
    assert not list(tmp_path.iterdir())
    forced = rhodb(*command, "--force")
    assert forced.returncode == 0, forced.stderr
    db = tmp_path / "results" / "master.db"
    values = query(
        db,
        "SELECT count(DISTINCT value), count(*) FROM behavior_scores JOIN freeze_sweep USING (run_id) "
        "WHERE metric = 'gap' AND split = 'eval' AND behavior = 'factual' AND fine_tuned = 0",
    )
    assert values == [(1, 2)]
    assert all("copies" in note for (note,) in query(db, "SELECT notes FROM runs WHERE kind = 'freeze'"))


def test_the_baseline_is_the_one_of_training_experiments(tiny_model_folder, tiny_probes_folder):
    shared = {"model": str(tiny_model_folder), "probes": str(tiny_probes_folder), "max_length": 64}
    arm = make_arm("rho-guided", rho_weight=0.2, margin=0.1)
    training = AlignmentSession(AlignmentConfig(**shared), [arm])
    assert FreezeSession(FreezeConfig(**shared, freeze_ratios=(0.5,))).baseline == training.cells[0].identity


def test_a_freeze_ratio_that_leaves_nothing_to_train_is_said_before_anything_runs(
    tiny_model_folder, tiny_probes_folder
):
    config = FreezeConfig(model=str(tiny_model_folder), probes=str(tiny_probes_folder), freeze_ratios=(0.9,))
    with pytest.raises(InputError, match="all 2 layers"):
        FREEZE_SWEEP.prepare(config)


def test_cf90_compares_factual_scores_with_before_for_each_seed(rhodb, common, tmp_path):
    done = rhodb("run", "cf90", *common, "--sft-size", "6", "--seeds", "1,2", "--freeze-ratio", "0.5", "--ratio", "0.5")
    assert done.returncode == 0, done.stderr
    db = tmp_path / "results" / "master.db"
    rows = query(db, "SELECT run_id, n_compressed, retention, rho_drop FROM cf90_multiseed")
    assert len(rows) == 2
    for run, n_compressed, retention, rho_drop in rows:
        scores = dict(
            query(
                db,
                f"SELECT metric, value FROM behavior_scores WHERE run_id = {run} AND behavior = 'factual' "
                "AND split = 'eval'",
            )
        )
        before = query(
            db,
            "SELECT value FROM behavior_scores b JOIN runs r ON r.id = b.run_id WHERE r.kind = 'baseline' "
            "AND behavior = 'factual' AND metric = 'truth_corr' AND split = 'eval'",
        )[0][0]
        assert n_compressed == 6
        assert retention == scores["pair_accuracy"]
        assert rho_drop == pytest.approx(before - scores["truth_corr"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cf90", "--no-calibrate", "--seeds", "1,2"], "copies"),
        (["cf90", "--ratio", "0"], "--ratio"),
        (["cf90", "--behaviors", "bias"], "factual"),
        (["freeze-sweep", "--compress-ratios", "1.5"], "--compress-ratios"),
        (["freeze-sweep", "--freeze-ratios", "-1"], "--freeze-ratios"),
        (["freeze-sweep", "--freeze-ratios", "1"], "freezes all 2 layers"),
    ],
)
def test_wrong_input_is_one_sentence(rhodb, common, tmp_path, arguments, message):
    wrong = rhodb("run", arguments[0], *common, *arguments[1:])
    assert wrong.returncode == 2 and message in wrong.stderr and "Traceback" not in wrong.stderr
    assert not list(tmp_path.iterdir())
