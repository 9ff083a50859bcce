"""Adapters on disk, in mlx_lm's format."""

import json

import mlx.core as mx
import mlx_lm
import numpy as np
import pytest
from mlx_lm.utils import save_config
from mlx_lm.utils import save_model as mlx_save_model

from rhodb.errors import InputError
from runners.backend.adapters import load_adapters, save_adapters
from runners.backend.lora import install_lora, lora_layers, remove_lora
from runners.backend.training import TrainSpec
from runners.seeds import SeedStreams

SPEC = TrainSpec(lora_rank=4, lora_alpha=8.0)
TOKENS = mx.array([[5, 9, 2, 7, 1]])


def install(loaded):
    install_lora(loaded, rank=SPEC.lora_rank, alpha=SPEC.lora_alpha, targets=SPEC.lora_targets, streams=SeedStreams(0))
    rng = np.random.default_rng(1)
    for _, layer in lora_layers(loaded.model):
        layer.lora_b = mx.array(rng.normal(size=layer.lora_b.shape).astype("float32"))


@pytest.fixture
def saved(tiny_model, tmp_path):
    """(the model with its layers removed again, adapter folder, logits with the layers)."""
    install(tiny_model)
    logits = np.array(tiny_model.model(TOKENS))
    folder = save_adapters(tiny_model, tmp_path / "a folder" / "adapters é", SPEC)
    remove_lora(tiny_model)
    return tiny_model, folder, logits


def test_mlx_lm_loads_what_was_saved(saved, tmp_path):
    loaded, folder, logits = saved
    model_folder = tmp_path / "model"
    mlx_save_model(model_folder, loaded.model)
    save_config(dict(loaded.config), model_folder / "config.json")
    loaded.tokenizer.save_pretrained(model_folder)
    model, _ = mlx_lm.load(str(model_folder), adapter_path=str(folder))
    assert np.array(model(TOKENS)) == pytest.approx(logits, abs=1e-5)


def test_loading_back_switches_on_and_removing_switches_off(saved):
    loaded, folder, logits = saved
    base = np.array(loaded.model(TOKENS))
    load_adapters(loaded, folder)
    assert np.array_equal(np.array(loaded.model(TOKENS)), logits)
    remove_lora(loaded)
    assert np.array_equal(np.array(loaded.model(TOKENS)), base)


def test_saving_again_replaces_and_leaves_no_draft(saved):
    loaded, folder, _ = saved
    (folder / "stale").write_text("old")
    install(loaded)
    save_adapters(loaded, folder, SPEC)
    assert sorted(path.name for path in folder.iterdir()) == ["adapter_config.json", "adapters.safetensors"]
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_wrong_folders_are_refused_and_leave_the_model_alone(saved, tmp_path):
    loaded, folder, _ = saved
    with pytest.raises(InputError, match=r"no adapters.safetensors"):
        load_adapters(loaded, tmp_path)
    config = json.loads((folder / "adapter_config.json").read_text())
    config["lora_parameters"]["rank"] = 3
    (folder / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="cannot load the adapters"):
        load_adapters(loaded, folder)
    assert not lora_layers(loaded.model)
    (folder / "adapter_config.json").write_text("{")
    with pytest.raises(InputError, match="cannot load the adapters"):
        load_adapters(loaded, folder)


def test_nothing_to_save_is_an_error(tiny_model, tmp_path):
    with pytest.raises(InputError, match="no LoRA layers"):
        save_adapters(tiny_model, tmp_path / "x", SPEC)
