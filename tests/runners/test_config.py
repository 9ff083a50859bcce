"""Configurations: presets, TOML, options, their order, and what is said about wrong values."""

import pytest

from rhodb.errors import InputError, UnknownNameError
from rhodb.records import canonical_json
from rhodb.vocabulary import BEHAVIORS, CONDITIONS
from runners.ablation import AblationConfig
from runners.config import Behavior, Condition, TrainingConfig, resolve


def ablation(**options):
    return resolve(AblationConfig, options=options)


def test_the_paper_preset_is_the_notes_training_configuration():
    config = resolve(AblationConfig, preset="paper")
    assert (config.lora_rank, config.lora_alpha, config.lora_targets) == (8, 16, ("q_proj", "k_proj", "o_proj"))
    assert (config.lr, config.weight_decay, config.warmup, config.epochs) == (2e-4, 0.01, 0.1, 1)
    assert (config.batch_size, config.accumulation, config.pairs_per_step, config.max_length) == (2, 4, 4, 256)
    assert (config.sft_size, config.trap_share, config.margin, config.rho_weight) == (1000, 0.2, 0.1, 0.2)
    assert config.contrast_behaviors == ("factual", "toxicity", "sycophancy", "bias")
    assert config.probes_per_behavior == 0
    assert config.conditions == CONDITIONS


def test_the_preset_follows_the_model_unless_it_is_named():
    assert ablation().probes_per_behavior > 0
    assert ablation(model="some/model").probes_per_behavior == 0
    assert resolve(AblationConfig, preset="quick", options={"model": "some/model"}).probes_per_behavior > 0
    with pytest.raises(UnknownNameError, match="choose from quick, paper"):
        resolve(AblationConfig, preset="fast")


def test_options_win_over_the_file_and_the_file_over_the_preset(tmp_path):
    file = tmp_path / "gïtter 'x'.toml"
    file.write_text('seeds = [1, 2]\nrho-weight = 0.5\nmargin = 0.3\npreset = "paper"\n')
    config = resolve(AblationConfig, file=file, options={"margin": "0.05", "seeds": None})
    assert (config.seeds, config.rho_weight, config.margin, config.sft_size) == ((1, 2), 0.5, 0.05, 1000)


def test_the_words_of_the_options_are_those_of_the_vocabulary():
    assert Condition.__args__ == CONDITIONS
    assert Behavior.__args__ == BEHAVIORS


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rho_weight": "-0.1"}, r"--rho-weight: must be greater than or equal to 0, got '-0.1'"),
        ({"rho_weight": "nan"}, r"--rho-weight: must be a finite number"),
        ({"margin": "-1"}, r"--margin"),
        ({"margin": "NaN"}, r"--margin"),
        ({"seeds": "42,42"}, r"--seeds: 42 is given twice"),
        ({"seeds": "-3"}, r"--seeds"),
        ({"seeds": ""}, r"--seeds"),
        ({"seeds": "a"}, r"--seeds.*got 'a'"),
        ({"conditions": "sft-only,magic"}, r"must be 'sft-only', 'rho-guided', .*got 'magic'"),
        ({"behaviors": "happiness"}, r"must be 'factual'.*got 'happiness'"),
        ({"probe_split": "half"}, r"--probe-split: must be 'hash', 'cluster' or 'none'"),
        ({"batch_size": "0"}, r"--batch-size"),
        ({"lora_targets": "q_proj,q_proj"}, r"'q_proj' is given twice"),
        ({"sft_size": "1.5"}, r"--sft-size"),
        ({"trap_share": "1.01"}, r"--trap-share"),
    ],
)
def test_a_wrong_value_gets_one_sentence_with_option_rule_and_value(options, message):
    with pytest.raises(InputError, match=message) as error:
        ablation(**options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [("seeds = [", "cannot be read as TOML"), ("lambda = 1", "unknown key 'lambda'; choose from model, seeds")],
)
def test_a_wrong_file_is_named(tmp_path, text, message):
    file = tmp_path / "wrong.toml"
    file.write_text(text)
    with pytest.raises(InputError, match=message) as error:
        resolve(TrainingConfig, file=file)
    assert "wrong.toml" in str(error.value)
    with pytest.raises(InputError, match="does not exist"):
        resolve(TrainingConfig, file=tmp_path / "missing.toml")


def test_a_configuration_survives_json():
    config = ablation(seeds="42,123", rho_weight="0.2")
    again = AblationConfig.model_validate_json(canonical_json(config.model_dump(mode="json")))
    assert again == config
