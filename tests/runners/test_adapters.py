"""Adapters on disk: of every kind, against what mlx_lm computes with them, and refused where mlx_lm says nothing."""

import json
import math
import shutil

import mlx.core as mx
import mlx_lm
import numpy as np
import pytest
from adapter_samples import KINDS, RANK, TOKENS, logits_of_mlx_lm, make_base, rewrite, save_adapter, saved_base
from mlx_lm.utils import save_config
from mlx_lm.utils import save_model as mlx_save_model
from tiny_model import make_tiny_model, save_tiny_model

from rhodb.errors import InputError
from runners.backend.adapters import adapter_on, read_adapter, save_adapters
from runners.backend.lora import install_lora, lora_layers, remove_lora
from runners.backend.models import load_model
from runners.backend.training import TrainSpec
from runners.backend.weights import in_place, model_tensors, weights_digest
from runners.seeds import SeedStreams

SPEC = TrainSpec(lora_rank=4, lora_alpha=8.0)
DOWN = "model.layers.1.mlp.down_proj"


def install(loaded):
    install_lora(loaded, rank=SPEC.lora_rank, alpha=SPEC.lora_alpha, targets=SPEC.lora_targets, streams=SeedStreams(0))
    rng = np.random.default_rng(1)
    for _, layer in lora_layers(loaded.model):
        layer.lora_b = mx.array(rng.normal(size=layer.lora_b.shape).astype("float32"))


def logits(loaded):
    return np.array(loaded.model(TOKENS))


@pytest.fixture
def saved(tiny_model, tmp_path):
    """(the model with its layers removed again, adapter folder, logits with the layers)."""
    install(tiny_model)
    trained = logits(tiny_model)
    folder = save_adapters(tiny_model, tmp_path / "a folder" / "adapters é", SPEC)
    remove_lora(tiny_model)
    return tiny_model, folder, trained


@pytest.fixture
def lora(tmp_path):
    """(a model, an mlx_lm LoRA adapter for it)."""
    return make_base(), save_adapter(tmp_path / "lora", "lora", base=make_base())


def test_mlx_lm_loads_what_was_saved(saved, tmp_path):
    loaded, folder, trained = saved
    model_folder = tmp_path / "model"
    mlx_save_model(model_folder, loaded.model)
    save_config(dict(loaded.config), model_folder / "config.json")
    loaded.tokenizer.save_pretrained(model_folder)
    model, _ = mlx_lm.load(str(model_folder), adapter_path=str(folder))
    assert np.array(model(TOKENS)) == pytest.approx(trained, abs=1e-5)


def test_on_a_model_it_computes_as_training_left_it_and_leaves_no_trace(saved):
    loaded, folder, trained = saved
    base, before = logits(loaded), weights_digest(loaded.model)
    adapter = read_adapter(loaded, folder)
    with adapter_on(loaded, adapter):
        assert np.array_equal(logits(loaded), trained)
    with pytest.raises(RuntimeError, match="inside"), adapter_on(loaded, adapter):
        raise RuntimeError("inside")
    assert weights_digest(loaded.model) == before
    assert np.array_equal(logits(loaded), base)


@pytest.mark.parametrize(
    ("kind", "bits", "mode"),
    [
        (kind, bits, mode)
        for kind in KINDS
        for bits, mode in ((None, ""), (4, "affine"), (8, "affine"), (4, "mxfp4"))
        if kind != "full" or bits is None  # MLX has no gradient of packed weights, so mlx_lm trains no such adapter
    ],
)
def test_every_kind_computes_what_mlx_lm_computes_fused_and_on_the_model(kind, bits, mode, tmp_path):
    options = {} if bits is None else {"bits": bits, "mode": mode}
    folder = saved_base(tmp_path / "base", **options)
    adapter = save_adapter(tmp_path / "adapter", kind, base=make_base(**options))
    loaded = load_model(str(folder))
    base, before = logits(loaded), weights_digest(loaded.model)
    expected = logits_of_mlx_lm(folder, adapter)
    assert np.abs(expected - base).max() > 0.01
    read = read_adapter(loaded, adapter)
    assert (read.missing, read.layout.kind) == ((), KINDS[kind].get("fine_tune_type", "lora"))
    assert read.expected == len(mx.load(str(adapter / "adapters.safetensors")))
    # MLX's mxfp4 embedding gives bfloat16, to which mlx_lm rounds the adapter's part of it as well.
    tolerance = 0.05 if (kind, mode) == ("lora of embeddings", "mxfp4") else 2e-5
    with in_place(loaded, read.fused().tensors):
        assert logits(loaded) == pytest.approx(expected, abs=tolerance)
    with adapter_on(loaded, read):
        assert logits(loaded) == pytest.approx(expected, abs=tolerance)
    assert weights_digest(loaded.model) == before


def test_a_full_fine_tune_takes_the_place_of_quantised_matrices(tmp_path):
    adapter = save_adapter(tmp_path / "adapter", "full", base=make_base())
    loaded = make_base(bits=4)
    before = weights_digest(loaded.model)
    with adapter_on(loaded, read_adapter(loaded, adapter)):
        own = model_tensors(loaded.model)
        for name, tensor in mx.load(str(adapter / "adapters.safetensors")).items():
            assert mx.array_equal(own[name], tensor).item()
    assert weights_digest(loaded.model) == before


def test_experts_have_adapters_too(tmp_path):
    moe = {"model_type": "mixtral", "num_local_experts": 2, "num_experts_per_tok": 1}
    folder = saved_base(tmp_path / "base", **moe)
    adapter = save_adapter(tmp_path / "adapter", "lora of everything", base=make_base(**moe))
    loaded = load_model(str(folder))
    with in_place(loaded, read_adapter(loaded, adapter).fused().tensors):
        assert logits(loaded) == pytest.approx(logits_of_mlx_lm(folder, adapter), abs=2e-5)


def test_fused_matrices_are_the_definition_in_float64(lora):
    loaded, adapter = lora
    tensors = {n: np.array(t, np.float64) for n, t in mx.load(str(adapter / "adapters.safetensors")).items()}
    fused = read_adapter(loaded, adapter).fused().tensors[f"{DOWN}.weight"]
    update = 0.7 * (tensors[f"{DOWN}.lora_a"] @ tensors[f"{DOWN}.lora_b"]).T
    weight = np.array(loaded.model.layers[1].mlp.down_proj.weight, np.float64)
    assert np.allclose(np.array(fused), weight + update, rtol=0, atol=1e-6)


@pytest.mark.parametrize("layers", [0, -1, 2])
def test_zero_and_minus_one_are_all_layers_and_a_missing_type_is_lora(layers, lora):
    loaded, adapter = lora
    before = read_adapter(loaded, adapter)
    told = json.loads((adapter / "adapter_config.json").read_text())
    del told["fine_tune_type"]
    (adapter / "adapter_config.json").write_text(json.dumps(told | {"num_layers": layers}))
    assert read_adapter(loaded, adapter).fingerprint == before.fingerprint


def without(*parts):
    return lambda tensors: {n: t for n, t in tensors.items() if not any(part in n for part in parts)}


@pytest.mark.parametrize(
    ("parts", "missing", "left"),
    [(("layers.0",), 6, 3), (("lora_b",), 6, 0), (("layers.0.mlp.down_proj.lora_a",), 1, 5)],
)
def test_a_partial_adapter_is_refused_unless_asked_for(parts, missing, left, lora):
    loaded, adapter = lora
    rewrite(adapter, without(*parts))
    with pytest.raises(InputError, match=rf"{missing} of 12 tensors are missing: model\.layers\.0.*--partial-adapters"):
        read_adapter(loaded, adapter)
    if not left:
        with pytest.raises(InputError, match="changes nothing"):
            read_adapter(loaded, adapter, partial=True)
        return
    read = read_adapter(loaded, adapter, partial=True)
    assert (len(read.changes), len(read.missing), read.expected) == (left, missing, 12)
    assert read.facts()["adapter_tensors_missing"] == missing


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t | {f"{DOWN}.lora_b": t[f"{DOWN}.lora_b"] * float("nan")}, rf"{DOWN}\.lora_b holds NaN"),
        (lambda t: t | {"model.layers.5.x.lora_a": mx.zeros((2, 2))}, r"layers\.5\.x\.lora_a has no place"),
        (lambda t: t | {f"{DOWN}.lora_b": mx.zeros((RANK, 4))}, r"down_proj\.lora_b has the shape \(3, 4\), expected"),
    ],
)
def test_what_cannot_be_right_is_named(change, message, lora):
    loaded, adapter = lora
    rewrite(adapter, change)
    for partial in (False, True):
        with pytest.raises(InputError, match=message):
            read_adapter(loaded, adapter, partial=partial)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"fine_tune_type": "magic"}, "fine_tune_type is 'magic'"),
        ({"num_layers": 1}, r"layers\.0.* has no place"),
        ({"num_layers": "all"}, "num_layers is 'all'"),
        ({"lora_parameters": None}, "needs lora_parameters"),
        ({"lora_parameters": {"rank": 3, "alpha": 8}}, "no number for scale"),
        ({"lora_parameters": {"rank": 3, "scale": 1, "keys": ["mlp"]}}, "a MLP, is not known"),
    ],
)
def test_a_configuration_that_does_not_fit_is_one_sentence(config, message, lora):
    loaded, adapter = lora
    rewrite(adapter, **config)
    with pytest.raises(InputError, match=message):
        read_adapter(loaded, adapter)


def test_damaged_files_are_one_sentence(lora):
    loaded, adapter = lora
    weights, config = adapter / "adapters.safetensors", adapter / "adapter_config.json"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"cannot read .*adapters\.safetensors"):
        read_adapter(loaded, adapter)
    weights.unlink()
    with pytest.raises(InputError, match=r"has no adapters\.safetensors"):
        read_adapter(loaded, adapter)
    config.write_text("{")
    with pytest.raises(InputError, match=r"cannot read .*adapter_config\.json"):
        read_adapter(loaded, adapter)
    config.unlink()
    with pytest.raises(InputError, match="no adapter folder"):
        read_adapter(loaded, adapter)


def test_rhodbs_own_adapters_know_their_base(saved):
    loaded, folder, _ = saved
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["base_fingerprint"] == loaded.record.fingerprint
    other = make_tiny_model(seed=1)
    with pytest.raises(InputError, match=r"trained on other weights .* --any-base"):
        read_adapter(other, folder)
    assert read_adapter(other, folder, any_base=True).layout.written_by == "rhodb"


def test_an_adapters_identity_is_what_it_does_and_not_where_it_lies(lora, tmp_path):
    loaded, adapter = lora
    first = read_adapter(loaded, adapter).fingerprint
    moved = rewrite(shutil.copytree(adapter, tmp_path / "moved"), model="elsewhere")
    assert read_adapter(loaded, moved).fingerprint == first
    parameters = json.loads((adapter / "adapter_config.json").read_text())["lora_parameters"]
    rewrite(moved, lora_parameters=parameters | {"scale": math.nextafter(0.7, 1)})
    assert read_adapter(loaded, moved).fingerprint != first


def test_saving_again_replaces_and_leaves_no_draft(saved):
    loaded, folder, _ = saved
    install(loaded)
    (folder / "notes.txt").write_text("somebody's")
    with pytest.raises(InputError, match="which rhodb did not write"):
        save_adapters(loaded, folder, SPEC)
    (folder / "notes.txt").unlink()
    save_adapters(loaded, folder, SPEC)
    assert sorted(path.name for path in folder.iterdir()) == ["adapter_config.json", "adapters.safetensors"]
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_nothing_to_save_is_an_error(tiny_model, tmp_path):
    with pytest.raises(InputError, match="no LoRA layers"):
        save_adapters(tiny_model, tmp_path / "x", SPEC)


def test_a_model_with_untied_head_takes_an_adapter_of_the_head(tmp_path):
    save_tiny_model(tmp_path, make_base(tie_word_embeddings=False))
    adapter = save_adapter(tmp_path / "adapter", "lora", base=make_base(tie_word_embeddings=False))
    assert read_adapter(load_model(str(tmp_path)), adapter).expected == 12
