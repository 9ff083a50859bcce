"""What training computes on the CPU: MLX's own values and gradients, and little that it keeps."""

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlx import nn

from runners.backend import fastgrad
from runners.backend.fastmath import replacements


def normal(*shape: int, seed: int) -> mx.array:
    return mx.random.normal(shape, key=mx.random.key(seed))


def test_swiglu_and_its_gradient_equal_mlx_s() -> None:
    gate, x, weight = (normal(7, 5, seed=i) for i in range(3))
    functions = (lambda g, u: nn.silu(g) * u, fastgrad.swiglu)
    slow, fast = (mx.value_and_grad(lambda g, u, f=f: (f(g, u) * weight).sum(), (0, 1))(gate, x) for f in functions)
    assert float(fast[0]) == pytest.approx(float(slow[0]), rel=1e-5)
    for expected, found in zip(slow[1], fast[1], strict=True):
        np.testing.assert_allclose(np.array(found), np.array(expected), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mask", ["causal", "bool", "additive", None])
@given(heads=st.sampled_from([1, 2, 3]), groups=st.sampled_from([1, 2]), rows=st.integers(1, 2), seed=st.integers(0, 9))
@settings(deadline=None, max_examples=8)
def test_attention_and_its_gradient_equal_mlx_s(mask, heads, groups, rows, seed) -> None:
    queries = normal(rows, heads * groups, 6, 8, seed=seed)
    keys, values = (normal(rows, groups, 6, 8, seed=seed + i) for i in (1, 2))
    visible = mx.array(np.tri(6, dtype=bool))
    masks = {"causal": "causal", "bool": visible, "additive": mx.where(visible, 0.0, -1e9), None: None}
    replaced = replacements(fastgrad.swiglu, fastgrad.attention)["scaled_dot_product_attention"][1]

    def slow(q: mx.array, k: mx.array, v: mx.array) -> mx.array:
        return mx.square(mx.fast.scaled_dot_product_attention(q, k, v, scale=0.3, mask=masks[mask])).sum()

    def fast(q: mx.array, k: mx.array, v: mx.array) -> mx.array:
        return mx.square(replaced(q, k, v, None, 0.3, masks[mask])).sum()

    expected, found = (mx.value_and_grad(f, (0, 1, 2))(queries, keys, values) for f in (slow, fast))
    assert float(found[0]) == pytest.approx(float(expected[0]), rel=1e-5)
    for theirs, ours in zip(expected[1], found[1], strict=True):
        np.testing.assert_allclose(np.array(ours), np.array(theirs), atol=2e-5)


def test_a_gradient_through_many_layers_keeps_two_arrays_a_layer() -> None:
    gate, x = normal(256, 256, seed=0), normal(256, 256, seed=1)
    size, layers = gate.nbytes, 40

    def total(g: mx.array) -> mx.array:
        hidden = x
        for _ in range(layers):
            hidden = fastgrad.swiglu(g, hidden)
        mx.eval(hidden)
        return hidden.sum()

    mx.eval(gate, x)
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    mx.eval(mx.value_and_grad(total)(gate))
    assert mx.get_peak_memory() - before < 3.5 * size * layers
