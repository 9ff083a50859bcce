"""Weights by name: packed ones expanded as NumPy expands them, changes put in place and taken out bit for bit."""

import mlx.core as mx
import numpy as np
import pytest
from adapter_samples import TOKENS, make_base
from mlx.nn.layers.linear import Linear
from mlx.nn.layers.quantized import QuantizedEmbedding, QuantizedLinear, quantize
from mlx_lm.models.switch_layers import QuantizedSwitchLinear, SwitchLinear
from tiny_model import make_tiny_model

from rhodb.errors import InputError
from runners.backend.weights import Changes, Packed, dense, in_place, model_tensors, not_finite, weights_digest

Q = "model.layers.0.self_attn.q_proj.weight"
E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])


def codes(packed: mx.array, bits: int) -> np.ndarray:
    """The small integers in words of 32 bits, lowest bits first."""
    words = np.array(packed)[..., None] >> np.arange(0, 32, bits, dtype=np.uint32)
    return (words & (2**bits - 1)).reshape(*packed.shape[:-1], -1)


def expanded_by_numpy(tensor: Packed) -> np.ndarray:
    """In float64, from the formats' definitions."""
    numbers = codes(tensor.arrays["weight"], tensor.bits)
    groups = numbers.reshape(*numbers.shape[:-1], -1, tensor.group_size)
    if tensor.mode == "affine":
        scales, biases = (np.array(tensor.arrays[part], np.float64)[..., None] for part in ("scales", "biases"))
        return (groups * scales + biases).reshape(numbers.shape)
    assert (tensor.mode, tensor.bits) == ("mxfp4", 4)
    exponents = np.array(tensor.arrays["scales"]).astype(int)[..., None] - 127
    return (E2M1[groups] * 2.0**exponents).reshape(numbers.shape)


@pytest.mark.parametrize(("bits", "mode"), [(4, "affine"), (8, "affine"), (2, "affine"), (4, "mxfp4")])
def test_packed_matrices_are_expanded_as_their_format_says(bits, mode):
    tensors = model_tensors(make_base(bits=bits, mode=mode).model)
    packed = {name: t for name, t in tensors.items() if isinstance(t, Packed)}
    assert len(packed) == 2 * 7 + 1 and not any(name.endswith(("scales", "biases")) for name in tensors)
    for tensor in packed.values():
        by_hand = expanded_by_numpy(tensor)
        assert tensor.shape == by_hand.shape
        assert np.allclose(dense(tensor), by_hand, rtol=1e-6, atol=1e-7)


def test_experts_are_expanded_too():
    layer = SwitchLinear(32, 16, 3, bias=False).to_quantized(group_size=32, bits=4)
    holder = Linear(1, 1)
    holder.experts = layer
    tensor = model_tensors(holder)["experts.weight"]
    assert isinstance(tensor, Packed) and tensor.shape == (3, 16, 32)
    assert np.allclose(dense(tensor), expanded_by_numpy(tensor), rtol=1e-6, atol=1e-7)


def test_changed_tensors_are_computed_with_and_taken_out_bit_for_bit():
    loaded = make_base(bits=4)
    before, logits = weights_digest(loaded.model), np.array(loaded.model(TOKENS))
    own = model_tensors(loaded.model)
    changes = {Q: mx.array(np.ones((32, 32), np.float32)), "model.norm.weight": own["model.norm.weight"] * 2}
    embedding = mx.array(dense(own["model.embed_tokens.weight"]))
    with in_place(loaded, changes | {"model.embed_tokens.weight": embedding}):
        layer = loaded.model.layers[0].self_attn.q_proj
        assert isinstance(layer, Linear) and mx.array_equal(layer.weight, changes[Q]).item()
        assert weights_digest(loaded.model) != before
        assert not np.allclose(np.array(loaded.model(TOKENS)), logits)
    with pytest.raises(RuntimeError, match="inside"), in_place(loaded, changes):
        raise RuntimeError("inside")
    assert weights_digest(loaded.model) == before
    assert np.array_equal(np.array(loaded.model(TOKENS)), logits)
    assert isinstance(loaded.model.layers[0].self_attn.q_proj, QuantizedLinear)
    assert isinstance(loaded.model.model.embed_tokens, QuantizedEmbedding)


def test_expanding_every_matrix_changes_no_logit_but_by_rounding():
    loaded = make_base(bits=4)
    logits = np.array(loaded.model(TOKENS))
    with in_place(loaded, {n: mx.array(dense(t)) for n, t in model_tensors(loaded.model).items()}):
        assert np.array(loaded.model(TOKENS)) == pytest.approx(logits, abs=1e-5)


def test_a_layer_without_an_unquantised_form_is_refused_and_nothing_is_changed():
    class Strange(QuantizedLinear):
        pass

    loaded = make_base(bits=4)
    loaded.model.layers[1].self_attn.q_proj.__class__ = Strange
    before = weights_digest(loaded.model)
    both = {name: mx.zeros((32, 32)) for name in (Q, Q.replace("0", "1"))}
    with pytest.raises(InputError, match=r"layers\.1\.self_attn\.q_proj is a Strange"), in_place(loaded, both):
        pass
    assert weights_digest(loaded.model) == before


def test_the_digest_sees_one_bit_a_type_and_a_layer():
    first, second = make_tiny_model(), make_tiny_model()
    assert weights_digest(first.model) == weights_digest(second.model)
    word = np.array(second.model.model.norm.weight).view(np.uint32)
    word[3] ^= 1
    second.model.model.norm.weight = mx.array(word.view(np.float32))
    assert weights_digest(first.model) != weights_digest(second.model)
    third = make_tiny_model()
    third.model.model.norm.weight = third.model.model.norm.weight.astype(mx.float16)
    assert weights_digest(first.model) != weights_digest(third.model)


def test_what_rounding_takes_of_a_change_is_measured():
    old = make_base(bits=4)
    tensor = model_tensors(old.model)[Q]
    own = dense(tensor)
    after = own + np.random.default_rng(0).normal(0, 1e-3, own.shape).astype(np.float32)
    kept, packed = Changes(), Changes(requantize=True)
    for changes in (kept, packed):
        changes.add(Q, tensor, own, after)
    assert (kept.requantized, packed.requantized) == (0, 1)
    assert kept.lost == 0
    by_mlx = mx.dequantize(*mx.quantize(mx.array(after), 32, 4), group_size=32, bits=4)
    expected = np.linalg.norm(np.array(by_mlx, np.float64) - after) / np.linalg.norm(after.astype(np.float64) - own)
    assert packed.lost == pytest.approx(expected, rel=1e-5)
    assert packed.lost > 1  # of so small a change nothing is left
    assert Changes().lost is None


def test_tensors_that_are_not_finite_are_named():
    loaded = make_base(bits=4)
    tensors = model_tensors(loaded.model)
    assert not_finite(tensors) == []
    loaded.model.model.norm.weight = mx.array([float("nan")] + [1.0] * 31)
    loaded.model.layers[1].mlp.up_proj.scales = loaded.model.layers[1].mlp.up_proj.scales * float("inf")
    assert set(not_finite(model_tensors(loaded.model))) == {"model.norm.weight", "model.layers.1.mlp.up_proj.weight"}


def test_quantised_experts_become_plain_ones():
    loaded = make_tiny_model(model_type="mixtral", num_local_experts=2, num_experts_per_tok=1)
    quantize(loaded.model, group_size=32, bits=4)
    logits = np.array(loaded.model(TOKENS))
    name = next(n for n, t in model_tensors(loaded.model).items() if len(t.shape) == 3)
    with in_place(loaded, {name: mx.array(dense(model_tensors(loaded.model)[name]))}):
        layer = dict(loaded.model.named_modules())[name.removesuffix(".weight")]
        assert type(layer) is SwitchLinear
        assert np.array(loaded.model(TOKENS)) == pytest.approx(logits, abs=1e-5)
    assert type(dict(loaded.model.named_modules())[name.removesuffix(".weight")]) is QuantizedSwitchLinear
