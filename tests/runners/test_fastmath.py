"""The polynomial exponential and what is built on it equal the exact functions."""

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlx import nn
from mlx_lm.models import activations, llama

from runners.backend import fastmath
from runners.backend.device import is_cpu

SMALLEST_NORMAL = float(np.finfo(np.float32).tiny)


def _exp(values: list[float]) -> np.ndarray:
    return np.array(fastmath.exp(mx.array(np.array(values, np.float32))))


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=50))
@settings(deadline=None)
def test_exp_is_right_for_every_finite_float(values: list[float]) -> None:
    with np.errstate(over="ignore"):
        exact = np.exp(np.array(values, np.float32).astype(np.float64))
    found = _exp(values).astype(np.float64)
    normal = (exact >= SMALLEST_NORMAL) & (exact <= np.finfo(np.float32).max)
    np.testing.assert_allclose(found[normal], exact[normal], rtol=1e-6)
    assert np.all(found[exact < SMALLEST_NORMAL] <= SMALLEST_NORMAL * (1 + 1e-6))
    assert np.all(found[exact < SMALLEST_NORMAL] >= 0)
    assert np.all(np.isinf(found[exact > np.finfo(np.float32).max]))


def test_exp_on_a_dense_grid_of_its_whole_range() -> None:
    grid = np.linspace(-87.33, 88.72, 200_001).astype(np.float32)
    np.testing.assert_allclose(_exp(list(grid)), np.exp(grid.astype(np.float64)), rtol=1e-6)


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


def test_swiglu_gradient_equals_mlx_s() -> None:
    gate, x, weight = (mx.random.normal((7, 5), key=mx.random.key(i)) for i in range(3))

    def loss(function, gate, x):  # type: ignore[no-untyped-def]
        return (function(gate, x) * weight).sum()

    slow = mx.grad(lambda g, u: loss(lambda a, b: nn.silu(a) * b, g, u), (0, 1))(gate, x)
    fast = mx.grad(lambda g, u: loss(fastmath.swiglu, g, u), (0, 1))(gate, x)
    for expected, found in zip(slow, fast, strict=True):
        np.testing.assert_allclose(np.array(found), np.array(expected), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mask", ["causal", "bool", "additive", None])
def test_attention_and_its_gradient_equal_mlx_s(mask: str | None) -> None:
    queries = mx.random.normal((2, 4, 6, 8), key=mx.random.key(1))
    keys, values = (mx.random.normal((2, 2, 6, 8), key=mx.random.key(i)) for i in (2, 3))
    visible = mx.array(np.tri(6, dtype=bool))
    masks = {"causal": "causal", "bool": visible, "additive": mx.where(visible, 0.0, -1e9), None: None}

    def slow(q: mx.array, k: mx.array, v: mx.array) -> mx.array:
        return mx.fast.scaled_dot_product_attention(q, k, v, scale=0.3, mask=masks[mask])

    def fast(q: mx.array, k: mx.array, v: mx.array) -> mx.array:
        return fastmath.scaled_dot_product_attention(q, k, v, None, 0.3, masks[mask])

    inputs = (queries, keys, values)
    np.testing.assert_allclose(np.array(fast(*inputs)), np.array(slow(*inputs)), atol=2e-6)
    gradients = [mx.grad(lambda *a, f=f: mx.square(f(*a)).sum(), (0, 1, 2))(*inputs) for f in (slow, fast)]
    for expected, found in zip(*gradients, strict=True):
        np.testing.assert_allclose(np.array(found), np.array(expected), atol=2e-5)


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
