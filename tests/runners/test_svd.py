"""Compression: the best approximation of its rank, in q, k and o only, and gone afterwards."""

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlx.nn.layers.quantized import QuantizedLinear, quantize
from mlx.utils import tree_flatten

from rhodb.errors import InputError
from runners.backend import svd
from runners.backend.weights import weights_digest


def optimum(matrix: np.ndarray, rank: int) -> float:
    """Error of the best approximation (Eckart and Young)."""
    return float(np.sqrt(np.square(np.linalg.svd(matrix, compute_uv=False)[rank:]).sum()))


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(2, 20), columns=st.integers(2, 20), share=st.floats(0.05, 0.95), seed=st.integers(0, 99))
def test_exact_truncation_is_the_best_of_its_rank(rows, columns, share, seed):
    matrix = np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32)
    rank = svd.rank_of(matrix.shape, share)
    low = svd.truncate_exact(matrix, rank)
    assert np.linalg.matrix_rank(low, tol=1e-4) <= rank
    assert np.linalg.norm(matrix - low) == pytest.approx(optimum(matrix, rank), abs=1e-4)


def test_random_truncation_comes_close_to_the_best():
    rng = np.random.default_rng(1)
    left, right = (np.linalg.qr(rng.standard_normal((120, 120)))[0] for _ in range(2))
    matrix = (left * np.exp(-np.arange(120) / 20) @ right).astype(np.float32)
    low = svd.truncate_random(matrix, 30, rng)
    assert np.linalg.norm(matrix - low) <= 1.01 * optimum(matrix, 30)


def test_a_matrix_of_low_rank_survives_truncation_to_that_rank():
    rng = np.random.default_rng(2)
    matrix = (rng.standard_normal((12, 3)) @ rng.standard_normal((3, 9))).astype(np.float32)
    assert np.allclose(svd.truncate(matrix, 3), matrix, atol=1e-5)


@pytest.mark.parametrize("ratio", [0, -0.1, 1.01, float("nan")])
def test_a_ratio_outside_its_range_is_refused(ratio, tiny_model):
    with pytest.raises(InputError, match=r"\(0, 1\]"), svd.compressed(tiny_model, ratio):
        pass


def test_only_q_k_o_change_and_everything_is_put_back(tiny_model):
    before = dict(tree_flatten(tiny_model.model.parameters()))
    with svd.compressed(tiny_model, 0.5) as done:
        inside = dict(tree_flatten(tiny_model.model.parameters()))
        changed = {name for name in before if not mx.array_equal(before[name], inside[name])}
        assert {name.split(".")[-2] for name in changed} == {"q_proj", "k_proj", "o_proj"}
        assert done.n_matrices == len(changed) == 6 and 0 < done.relative_error < 1
        for name in changed:
            assert np.linalg.matrix_rank(np.array(inside[name]), tol=1e-4) == min(inside[name].shape) // 2
    after = dict(tree_flatten(tiny_model.model.parameters()))
    assert all(mx.array_equal(before[name], after[name]) for name in before)


def test_ratio_one_compresses_nothing(tiny_model):
    with svd.compressed(tiny_model, 1.0) as done:
        assert done.n_matrices == 0 and done.relative_error == 0


@pytest.mark.parametrize("requantize", [False, True])
def test_quantised_layers_are_dequantised_and_on_request_quantised_again(tiny_model, requantize):
    layer = tiny_model.model.layers[0].self_attn
    for name in svd.TARGETS:
        for each in tiny_model.model.layers:
            setattr(each.self_attn, name, QuantizedLinear.from_linear(getattr(each.self_attn, name), 32, 8))
    old = layer.q_proj
    dense = np.array(mx.dequantize(old.weight, old.scales, old.biases, group_size=32, bits=8))
    with svd.compressed(tiny_model, 0.5, requantize=requantize) as done:
        assert isinstance(layer.q_proj, QuantizedLinear) == requantize == done.requantized
        x = np.random.default_rng(0).standard_normal((3, 32)).astype(np.float32)
        expected = x @ svd.truncate(dense, 16).T
        assert np.allclose(np.array(layer.q_proj(mx.array(x))), expected, atol=0.05 if requantize else 1e-4)
    assert layer.q_proj is old


@pytest.mark.parametrize("requantize", [False, True])
def test_layers_of_another_mode_are_expanded_in_it(tiny_model, requantize):
    quantize(tiny_model.model, group_size=32, bits=4, mode="mxfp4")
    layer = tiny_model.model.layers[1].self_attn
    old, before = layer.k_proj, weights_digest(tiny_model.model)
    dense = np.array(mx.dequantize(old.weight, old.scales, group_size=32, bits=4, mode="mxfp4", dtype=mx.float32))
    low = svd.truncate(dense, 8)
    with svd.compressed(tiny_model, 0.5, requantize=requantize) as done:
        if requantize:
            packed = mx.quantize(mx.array(low), 32, 4, mode="mxfp4")
            assert layer.k_proj.mode == "mxfp4" and mx.array_equal(layer.k_proj.weight, packed[0]).item()
            assert done.lost > 0.01
        else:
            assert np.array_equal(np.array(layer.k_proj.weight), low)
            assert done.lost == 0
    assert weights_digest(tiny_model.model) == before
