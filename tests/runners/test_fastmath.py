"""The polynomial exponential and what is built on it equal the exact functions."""

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.models import activations, llama

from runners.backend import fastmath
from runners.backend.device import is_cpu


def test_decay_is_exp_below_zero_and_negligible_far_below() -> None:
    grid = np.linspace(-80, 0, 20_001).astype(np.float32)
    found = np.array(fastmath.decay(mx.array(grid)))
    np.testing.assert_allclose(found, np.exp(grid.astype(np.float64)), rtol=1e-6)
    assert float(fastmath.decay(mx.array([-1e9], mx.float32))[0]) < 1e-34


def test_swiglu_and_silu_equal_the_exact_functions() -> None:
    rng = np.random.default_rng(0)
    gate = np.concatenate([rng.normal(0, 5, 1000), [-1e4, -100, 0, 100, 1e4]]).astype(np.float32)
    x = rng.normal(0, 2, gate.shape).astype(np.float32)
    wide = gate.astype(np.float64)
    with np.errstate(over="ignore"):
        silu = wide / (1 + np.exp(-wide))
    np.testing.assert_allclose(np.array(fastmath.silu(mx.array(gate))), silu, rtol=2e-6, atol=1e-30)
    found = np.array(fastmath.swiglu(mx.array(gate), mx.array(x)))
    np.testing.assert_allclose(found, silu * x, rtol=2e-6, atol=1e-30)


@pytest.mark.parametrize("mask", ["causal", "bool", "additive", None])
def test_attention_equals_mlx_s(mask: str | None) -> None:
    queries = mx.random.normal((2, 4, 6, 8), key=mx.random.key(1))
    keys, values = (mx.random.normal((2, 2, 6, 8), key=mx.random.key(i)) for i in (2, 3))
    visible = mx.array(np.tri(6, dtype=bool))
    masks = {"causal": "causal", "bool": visible, "additive": mx.where(visible, 0.0, -1e9), None: None}

    def slow(q: mx.array, k: mx.array, v: mx.array) -> mx.array:
        return mx.fast.scaled_dot_product_attention(q, k, v, scale=0.3, mask=masks[mask])

    def fast(q: mx.array, k: mx.array, v: mx.array) -> mx.array:
        replaced = fastmath.replacements(fastmath.swiglu, fastmath.attention)["scaled_dot_product_attention"][1]
        return replaced(q, k, v, None, 0.3, masks[mask])

    inputs = (queries, keys, values)
    np.testing.assert_allclose(np.array(fast(*inputs)), np.array(slow(*inputs)), atol=2e-6)


def test_the_fast_forward_functions_have_no_wrong_gradient_but_none() -> None:
    for function in (fastmath.silu, fastmath.decay):
        with pytest.raises(ValueError, match="Not implemented"):
            mx.eval(mx.grad(lambda x, f=function: f(x).sum())(mx.array([-1.0, -2.0])))


def test_fast_math_is_used_inside_the_block_only(tiny_model) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ZeroDivisionError), fastmath.fast_math(tiny_model.model):
        with fastmath.fast_math(tiny_model.model):
            pass
        assert (llama.swiglu is not activations.swiglu) == is_cpu()
        raise ZeroDivisionError
    assert llama.swiglu is activations.swiglu


def test_fast_math_changes_nothing_but_the_time(tiny_model) -> None:  # type: ignore[no-untyped-def]
    tokens = mx.array([[5, 9, 2, 7, 3, 8]])
    expected = np.array(tiny_model.model(tokens))
    with fastmath.fast_math(tiny_model.model):
        found = np.array(tiny_model.model(tokens))
    np.testing.assert_allclose(found, expected, atol=2e-5)
