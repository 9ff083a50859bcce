"""Exponentials by polynomial, and SwiGLU and attention built on them, for MLX's CPU device.

MLX's x86 build calls the C library's exp once an element, about 9 ns each; the operations below are plain products
and sums, which it vectorises. On a GPU nothing here is used.
"""

import sys
from collections.abc import Iterator
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
_LOWEST, _HIGHEST = -87.33654, 88.72283
"""Between these exp(x) is a normal, finite float32."""
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
def _exp(x: mx.array) -> mx.array:
    # Half the argument, squared: so 2^n never leaves the range of the exponent bits.
    half = _power(mx.clip(x, _LOWEST, _HIGHEST) * 0.5)
    inside = mx.where(x < _LOWEST, 0.0, half * half)
    return mx.where(x > _HIGHEST, mx.inf, inside)


@mx.custom_function
def exp(x: mx.array) -> mx.array:
    """exp(x) of a float32 array, to 1e-6 relative. Overflows to infinity, underflows to 0 without subnormals."""
    return _exp(x)


@exp.vjp
def _exp_vjp(primal: mx.array, cotangent: mx.array, output: mx.array) -> mx.array:
    return cotangent * output


@mx.compile
def _decay(x: mx.array) -> mx.array:
    return _power(mx.maximum(x, _NEGLIGIBLE))


@mx.custom_function
def decay(x: mx.array) -> mx.array:
    """exp(x) for x <= 0, the exponential of a softmax: below -80 it stays at 1.8e-35."""
    return _decay(x)


@decay.vjp
def _decay_vjp(primal: mx.array, cotangent: mx.array, output: mx.array) -> mx.array:
    return cotangent * output


def _sigmoid(x: mx.array) -> mx.array:
    return 1.0 / (1.0 + _power(mx.clip(-x, _NEGLIGIBLE, -_NEGLIGIBLE)))


@mx.compile
def _swiglu(gate: mx.array, x: mx.array) -> mx.array:
    return gate * x * _sigmoid(gate)


@mx.compile
def _swiglu_gradients(gate: mx.array, x: mx.array, cotangent: mx.array) -> tuple[mx.array, mx.array]:
    sigmoid = _sigmoid(gate)
    silu = gate * sigmoid
    return cotangent * x * (sigmoid + silu * (1.0 - sigmoid)), cotangent * silu


@mx.custom_function
def swiglu(gate: mx.array, x: mx.array) -> mx.array:
    """silu(gate) * x of float32 arrays of one shape."""
    return _swiglu(gate, x)


@swiglu.vjp
def _swiglu_vjp(primals: tuple[mx.array, mx.array], cotangent: mx.array, output: mx.array) -> tuple[mx.array, mx.array]:
    return _swiglu_gradients(*primals, cotangent)


def silu(x: mx.array) -> mx.array:
    """x * sigmoid(x) of a float32 array."""
    return cast(mx.array, swiglu(x, mx.ones_like(x)))


def attention(queries: mx.array, keys: mx.array, values: mx.array, *, scale: float, mask: mx.array | None) -> mx.array:
    """Softmax attention. queries (B, H, L, D), keys and values (B, G, S, D), additive mask (B or 1, 1, L, S).

    G divides H; a group's heads are stacked into one taller matrix, so that BLAS gets fewer, larger products.
    """
    batch, heads, length, dims = queries.shape
    groups, span = keys.shape[1], keys.shape[2]
    stacked = (queries * scale).reshape(batch, groups, -1, dims)
    scores = (stacked @ keys.swapaxes(-1, -2)).reshape(batch, heads, length, span)
    if mask is not None:
        scores = scores + mask
    weights = cast(mx.array, decay(scores - mx.stop_gradient(scores.max(axis=-1, keepdims=True))))
    mixed = weights.reshape(batch, groups, -1, span) @ values
    return mixed.reshape(batch, heads, length, -1) / weights.sum(axis=-1, keepdims=True)


def scaled_dot_product_attention(
    queries: mx.array,
    keys: mx.array,
    values: mx.array,
    cache: Any,
    scale: float,
    mask: mx.array | str | None,
    sinks: mx.array | None = None,
) -> mx.array:
    """mlx_lm's function of this name; what the fast form does not cover is left to the original."""
    plain = hasattr(cache, "bits") or sinks is not None or queries.dtype != mx.float32
    if plain or queries.shape[2] == 1:
        original: Any = base.scaled_dot_product_attention
        return cast(mx.array, original(queries, keys, values, cache, scale, mask, sinks))
    return attention(queries, keys, values, scale=scale, mask=_additive(mask, queries.shape[2], keys.shape[2]))


def _additive(mask: mx.array | str | None, length: int, span: int) -> mx.array | None:
    """A mask in any of mlx_lm's forms as one that is added to the scores."""
    if isinstance(mask, str):  # "causal": the last `length` of `span` positions ask
        mask = mx.arange(span - length, span)[:, None] >= mx.arange(span)[None]
    if mask is not None and mask.dtype == mx.bool_:
        return mx.where(mask, 0.0, -1e9)
    return mask


def _fast_swiglu(gate: mx.array, x: mx.array) -> mx.array:
    return cast(mx.array, swiglu(gate, x) if gate.dtype == mx.float32 else activations.swiglu(gate, x))


_REPLACEMENTS = {
    "swiglu": (activations.swiglu, _fast_swiglu),
    "scaled_dot_product_attention": (base.scaled_dot_product_attention, scaled_dot_product_attention),
}
"""Name in a model's module -> (mlx_lm's function, the fast one)."""


@contextmanager
def fast_math(model: Module) -> Iterator[None]:
    """Inside the block the model uses the fast SwiGLU and attention, if MLX computes on the CPU.

    They are put in the place of mlx_lm's functions in the modules that define the model's layers, and taken out
    again. Blocks may be nested; a model whose module uses other functions is left as it is.
    """
    changed: list[tuple[Any, str, Any]] = []
    if is_cpu():
        for module in _defining_modules(model):
            for name, (slow, fast) in _REPLACEMENTS.items():
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
