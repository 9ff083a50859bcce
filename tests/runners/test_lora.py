"""LoRA layers: where they go, what they are drawn from, and that they leave no trace."""

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from rhodb.errors import InputError
from runners.backend.lora import install_lora, lora_installed, lora_layers, lora_weights, remove_lora
from runners.seeds import SeedStreams

QKO = ("q_proj", "k_proj", "o_proj")
TOKENS = mx.array([[5, 9, 2, 7, 1]])


def install(loaded, seed=0, targets=QKO):
    install_lora(loaded, rank=4, alpha=8.0, targets=targets, streams=SeedStreams(seed))


def test_only_the_targets_of_every_layer_are_wrapped_and_trainable(tiny_model):
    install(tiny_model)
    expected = {f"model.layers.{layer}.self_attn.{name}" for layer in range(2) for name in QKO}
    assert {name for name, _ in lora_layers(tiny_model.model)} == expected
    trainable = {name for name, _ in tree_flatten(tiny_model.model.trainable_parameters())}
    assert trainable == {f"{name}.{leaf}" for name in expected for leaf in ("lora_a", "lora_b")}
    assert all(layer.scale == 2.0 for _, layer in lora_layers(tiny_model.model))


def test_the_output_changes_only_with_b(tiny_model):
    before = np.array(tiny_model.model(TOKENS))
    install(tiny_model)
    assert np.array_equal(np.array(tiny_model.model(TOKENS)), before)
    lora_layers(tiny_model.model)[0][1].lora_b += 1.0
    assert not np.array_equal(np.array(tiny_model.model(TOKENS)), before)


def test_removal_restores_the_very_same_model(tiny_model):
    before = dict(tree_flatten(tiny_model.model.parameters()))
    copies = {name: np.array(value) for name, value in before.items()}
    modules = {name: id(module) for name, module in tiny_model.model.named_modules()}
    install(tiny_model)
    lora_layers(tiny_model.model)[0][1].lora_b += 1.0
    remove_lora(tiny_model)
    after = dict(tree_flatten(tiny_model.model.parameters()))
    assert after.keys() == before.keys()
    assert all(np.array_equal(np.array(after[name]), copies[name]) for name in copies)
    assert {name: id(module) for name, module in tiny_model.model.named_modules()} == modules


def test_the_context_manager_removes_after_an_error(tiny_model):
    with (
        pytest.raises(ZeroDivisionError),
        lora_installed(tiny_model, rank=4, alpha=8.0, targets=QKO, streams=SeedStreams(0)),
    ):
        assert lora_layers(tiny_model.model)
        _ = 1 / 0
    assert not lora_layers(tiny_model.model)


def test_the_start_depends_on_the_stream_alone(tiny_model):
    found = []
    for seed, noise in ((1, 10), (1, 99), (2, 10)):
        mx.random.seed(noise)
        install(tiny_model, seed)
        found.append({name: np.array(value) for name, value in lora_weights(tiny_model.model).items()})
        remove_lora(tiny_model)
    a = [name for name in found[0] if name.endswith("lora_a")]
    assert all(np.array_equal(found[0][name], found[1][name]) for name in found[0])
    assert not any(np.array_equal(found[0][name], found[2][name]) for name in a)
    bound = 1 / np.sqrt(32)
    assert all(np.abs(found[0][name]).max() <= bound for name in a)
    assert max(np.abs(found[0][name]).max() for name in a) > 0.9 * bound


def test_unknown_targets_list_the_choices(tiny_model):
    with pytest.raises(InputError, match=r"no projection w_proj; choose LoRA targets from .*q_proj"):
        install(tiny_model, targets=("q_proj", "w_proj"))
    with pytest.raises(InputError, match="none given"):
        install(tiny_model, targets=())
    assert not lora_layers(tiny_model.model)


def test_a_second_installation_is_refused(tiny_model):
    install(tiny_model)
    with pytest.raises(InputError, match="already"):
        install(tiny_model)
