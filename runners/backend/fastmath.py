"""Exponentials by polynomial, and SwiGLU and attention built on them, for MLX's CPU device.

MLX's x86 build calls the C library's exp once an element, about 9 ns each; the operations below are plain products
and sums, which it vectorises. On a GPU nothing here is used.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, cast

import mlx.core as mx
from mlx.nn.layers.base import Module
from mlx_lm.models import activations, base

from runners.backend.device import is_cpu

# exp(r) on |r| <= ln(2)/2, degree 5: minimax in relative error (7.5e-8) by the Remez exchange; highest power first.
_COEFFICIENTS = (0.00829761941, 0.0419156291, 0.166675761, 0.499988914, 0.999999702, 1.00000012)
_LOG2_E = 1.4426950408889634
# ln(2) in two parts (Cody and Waite 1980): products of the first with small integers are exact.
_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440e-4
# Adding 1.5 * 2^23 rounds to an integer and leaves that integer in the low bits of the sum.
_ROUND = 12582912.0
_EXPONENT_SHIFT = mx.array(23, mx.int32)
_EXPONENT_BIAS = mx.array(127 << 23, mx.int32)
_NEGLIGIBLE = -80.0
"""exp of this, 1.8e-35, adds nothing to a sum that contains 1, and its products are still normal numbers."""


def _power(x: mx.array) -> mx.array:
    """exp(x) for -87 <= x <= 88, float32."""
    rounded = x * _LOG2_E + _ROUND
    n = rounded - _ROUND
    r = (x - n * _LN2_HIGH) - n * _LN2_LOW
    series = r * _COEFFICIENTS[0] + _COEFFICIENTS[1]
    for coefficient in _COEFFICIENTS[2:]:
        series = series * r + coefficient
    bits = mx.left_shift(mx.view(rounded, mx.int32), _EXPONENT_SHIFT) + _EXPONENT_BIAS
    return series * mx.view(bits, mx.float32)


@mx.compile
def _decay(x: mx.array) -> mx.array:
    return _power(mx.maximum(x, _NEGLIGIBLE))


def decay(x: mx.array) -> mx.array:
    """exp(x) for x <= 0, the exponential of a softmax: below -80 it stays at 1.8e-35."""
    return _decay(x)


def sigmoid(x: mx.array) -> mx.array:
    """1 / (1 + exp(-x)) of a float32 array."""
    return 1.0 / (1.0 + _power(mx.clip(-x, _NEGLIGIBLE, -_NEGLIGIBLE)))


@mx.compile
def _swiglu(gate: mx.array, x: mx.array) -> mx.array:
    return gate * x * sigmoid(gate)


def swiglu(gate: mx.array, x: mx.array) -> mx.array:
    """silu(gate) * x of float32 arrays of one shape."""
    return _swiglu(gate, x)


def silu(x: mx.array) -> mx.array:
    """x * sigmoid(x) of a float32 array."""
    return swiglu(x, mx.ones_like(x))


Mask = mx.array | str | None
"""As mlx_lm has it: booleans, summands (in which some models put a part of their scores), "causal", or none."""


def attention(queries: mx.array, keys: mx.array, values: mx.array, *, scale: float, mask: Mask) -> mx.array:
    """Softmax attention. queries (B, H, L, D), keys and values (B, G, S, D), mask in any of mlx_lm's forms.

    G divides H; a group's heads are stacked into one taller matrix, so that BLAS gets fewer, larger products.
    """
    summand = additive(mask, queries.shape[2], keys.shape[2])
    return attend(queries, keys, values, scale=scale, mask=summand)[0]


def attend(
    queries: mx.array, keys: mx.array, values: mx.array, *, scale: float, mask: mx.array | None
) -> tuple[mx.array, mx.array, mx.array]:
    """`attention` with an additive mask (B or 1, H or 1, L, S), its weights before they are divided by their sums
    (B, H, L, S), and these sums (B, H, L, 1)."""
    batch, heads, length, dims = queries.shape
    groups, span = keys.shape[1], keys.shape[2]
    stacked = (queries * scale).reshape(batch, groups, -1, dims)
    scores = (stacked @ keys.swapaxes(-1, -2)).reshape(batch, heads, length, span)
    if mask is not None:
        scores = scores + mask
    weights = decay(scores - scores.max(axis=-1, keepdims=True))
    mixed = weights.reshape(batch, groups, -1, span) @ values
    sums = weights @ mx.ones((span, 1))  # as a product: MLX's own sum on the CPU adds one by one (1e-5 off at 1,024)
    return mixed.reshape(batch, heads, length, -1) / sums, weights, sums


def additive(mask: Mask, length: int, span: int) -> mx.array | None:
    """A mask in any of mlx_lm's forms as one that is added to the scores."""
    if isinstance(mask, str):  # "causal": the last `length` of `span` positions ask
        mask = mx.arange(span - length, span)[:, None] >= mx.arange(span)[None]
    if mask is not None and mask.dtype == mx.bool_:
        return mx.where(mask, 0.0, -1e9)
    return mask


Swiglu = Callable[[mx.array, mx.array], mx.array]
Attention = Callable[..., mx.array]
"""Like `attention`."""


def replacements(fast_swiglu: Swiglu, fast_attention: Attention) -> dict[str, tuple[Any, Any]]:
    """Name in a model's module -> (mlx_lm's function, one like it that uses the fast one wherever that fits)."""

    def gated(gate: mx.array, x: mx.array) -> mx.array:
        return cast(mx.array, fast_swiglu(gate, x) if gate.dtype == mx.float32 else activations.swiglu(gate, x))

    def scaled_dot_product_attention(
        queries: mx.array,
        keys: mx.array,
        values: mx.array,
        cache: Any,
        scale: float,
        mask: mx.array | str | None,
        sinks: mx.array | None = None,
    ) -> mx.array:
        plain = hasattr(cache, "bits") or sinks is not None or queries.dtype != mx.float32
        if plain or queries.shape[2] == 1:
            original: Any = base.scaled_dot_product_attention
            return cast(mx.array, original(queries, keys, values, cache, scale, mask, sinks))
        return fast_attention(queries, keys, values, scale=scale, mask=mask)

    return {
        "swiglu": (activations.swiglu, gated),
        "scaled_dot_product_attention": (base.scaled_dot_product_attention, scaled_dot_product_attention),
    }


@contextmanager
def fast_math(model: Module, *, swiglu: Swiglu = swiglu, attention: Attention = attention) -> Iterator[None]:
    """Inside the block the model uses the fast SwiGLU and attention, if MLX computes on the CPU.

    These have no gradients: training takes `fastgrad.fast_gradients` instead.

    They are put in the place of mlx_lm's functions in the modules that define the model's layers, and taken out
    again. Blocks may be nested; a model whose module uses other functions is left as it is.
    """
    changed: list[tuple[Any, str, Any]] = []
    if is_cpu():
        for module in _defining_modules(model):
            for name, (slow, fast) in replacements(swiglu, attention).items():
                if getattr(module, name, None) is slow:
                    setattr(module, name, fast)
                    changed.append((module, name, slow))
    try:
        yield
    finally:
        for module, name, slow in changed:
            setattr(module, name, slow)


def _defining_modules(model: Module) -> list[ModuleType]:
    """The Python modules that define the classes of a model's layers, but not mlx_lm's shared ones."""
    layers: list[Module] = model.modules()
    names = {type(layer).__module__ for layer in layers} - {base.__name__, activations.__name__}
    return [sys.modules[name] for name in sorted(names)]
