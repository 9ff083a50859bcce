"""Memory is said before a run and measured in it."""

import mlx.core as mx
import pytest
from experiments import EXPERIMENTS, Silent, options_of, session_of
from tiny_model import make_tiny_model, save_tiny_model

from rhodb.cli.run_output import print_plan
from runners.backend.lora import lora_installed
from runners.backend.memory import MemoryPeak, Shape
from runners.backend.scoring import PairText, score_pairs
from runners.backend.stepper import Stepper
from runners.seeds import SeedStreams

LONG = "The water of the river runs down to the sea, and the sea gives it back to the clouds above the hills. " * 5


@pytest.fixture(scope="module")
def other_model(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("another"), make_tiny_model(7))


@pytest.mark.parametrize("runner", EXPERIMENTS)
def test_a_dry_run_states_memory_and_writes_nothing(
    runner, tiny_model_folder, tiny_probes_folder, other_model, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    session = session_of(runner, options_of(runner, tiny_model_folder, tiny_probes_folder, other_model))
    print_plan(session, None, json=False)
    printed = capsys.readouterr()
    assert "memory: about" in printed.err and "nothing was run" in printed.err
    assert not list(tmp_path.iterdir())


def test_a_run_notes_the_peak_that_it_had(tiny_model_folder, tiny_probes_folder, tmp_path):
    session = session_of("cf90", options_of("cf90", tiny_model_folder, tiny_probes_folder))
    rows = [session.execute(cell, tmp_path, Silent()) for cell in session.cells[:2]]
    scored, trained = (row.notes["mlx_peak_mib"] for row in rows)
    assert scored > 0 and trained > 0


def test_what_an_experiment_keeps_adds_to_the_estimate(tiny_model_folder, tiny_probes_folder, other_model):
    def peak(runner, **changes):
        options = options_of(runner, tiny_model_folder, tiny_probes_folder, other_model) | changes
        return session_of(runner, options).peak_bytes()

    assert peak("attack-defense", sae_features="4096") > peak("attack-defense") > peak("steering")
    assert peak("leaderboard") - peak("leaderboard", merge="") == pytest.approx(
        Shape.of(make_tiny_model()).weights, rel=0.01
    )


@pytest.mark.slow
def test_the_estimates_are_within_a_factor_of_two_of_what_mlx_measures(smollm2):
    shape = Shape.of(smollm2)
    pairs = [PairText(prompt=None, positive=f"{i} {LONG}", negative=f"{i}. {LONG}") for i in range(6)]
    mx.clear_cache()
    with MemoryPeak() as scoring:
        score_pairs(smollm2, pairs)
    stepper = Stepper(smollm2, rho_weight=1, margin=9, max_tokens=256, contrast="text")
    lora = {"rank": 8, "alpha": 16.0, "targets": ("q_proj", "k_proj", "o_proj"), "streams": SeedStreams(0)}
    with lora_installed(smollm2, **lora), stepper.ready([LONG]), MemoryPeak() as training:
        stepper.step([LONG], pairs[:2])
    for measured, estimate in ((scoring, shape.scoring()), (training, shape.training(256))):
        own = measured.mib * 2**20 - shape.weights
        assert own / 2 < estimate < own * 2, (own, estimate)
