"""SwiGLU and attention as training on the CPU needs them: gradients by hand, nothing kept but what these take.

While MLX traces a function whose gradient is wanted, it compiles nothing, and keeps every intermediate result that was
evaluated in the trace. So the forward passes here compute outside of it, from copies of their inputs' values: fused,
and without leaving anything behind but their outputs.
"""

from contextlib import AbstractContextManager
from typing import cast

import mlx.core as mx
import numpy as np
from mlx.nn.layers.base import Module

from runners.backend import fastmath


def fast_gradients(model: Module) -> AbstractContextManager[None]:
    """Inside the block the model uses the functions below, if MLX computes on the CPU."""
    return fastmath.fast_math(model, swiglu=swiglu, attention=attention)


def _values(*arrays: mx.array) -> list[mx.array]:
    """The same numbers (float32), evaluated and outside of the trace."""
    mx.eval(arrays)
    return [mx.array(np.asarray(x)) for x in arrays]


@mx.compile
def _gated_forward(gate: mx.array, x: mx.array) -> tuple[mx.array, mx.array]:
    """SwiGLU, and the sigmoid of its gate, which the gradient needs."""
    sigmoid = fastmath.sigmoid(gate)
    return gate * x * sigmoid, sigmoid


@mx.custom_function
def _gated(gate: mx.array, x: mx.array) -> tuple[mx.array, mx.array]:
    return _gated_forward(*_values(gate, x))


@_gated.vjp
def _gated_vjp(
    primals: tuple[mx.array, mx.array], cotangents: tuple[mx.array, mx.array], outputs: tuple[mx.array, mx.array]
) -> tuple[mx.array, mx.array]:
    (gate, x), sigmoid = primals, outputs[1]
    silu = gate * sigmoid
    pull = cotangents[0]
    return pull * x * (sigmoid + silu - silu * sigmoid), pull * silu


def swiglu(gate: mx.array, x: mx.array) -> mx.array:
    """silu(gate) * x of float32 arrays of one shape."""
    result, _ = cast(tuple[mx.array, mx.array], _gated(gate, x))
    return result


def attention(queries: mx.array, keys: mx.array, values: mx.array, *, scale: float, mask: fastmath.Mask) -> mx.array:
    """`fastmath.attention`. Where a model puts a part of its scores into the mask, which then has a gradient of its own
    (latent attention does), MLX's own attention serves."""
    if isinstance(mask, mx.array) and mask.dtype != mx.bool_:
        plain: mx.array = mx.fast.scaled_dot_product_attention(queries, keys, values, scale=scale, mask=mask)
        return plain
    summand = fastmath.additive(mask, queries.shape[2], keys.shape[2])

    @mx.custom_function
    def attend(q: mx.array, k: mx.array, v: mx.array) -> tuple[mx.array, mx.array]:
        mixed, weights, sums = fastmath.attend(*_values(q, k, v), scale=scale, mask=summand)
        return mixed, weights / sums

    @attend.vjp
    def attend_vjp(
        primals: tuple[mx.array, mx.array, mx.array],
        cotangents: tuple[mx.array, mx.array],
        outputs: tuple[mx.array, mx.array],
    ) -> tuple[mx.array, mx.array, mx.array]:
        # O = P V, P = softmax(S), S = s Q K': dV = P' dO, dS = P (dP - sum of dO O), dQ = s dS K, dK = s dS' Q
        (q, k, v), (mixed, weights) = primals, outputs
        stacked = (*k.shape[:2], -1)  # a group's heads as rows of one matrix
        rows, pull, p = q.reshape(*stacked, q.shape[-1]), cotangents[0], weights.reshape(*stacked, k.shape[2])
        own = (pull * mixed).sum(axis=-1, keepdims=True).reshape(*stacked, 1)
        pull = pull.reshape(*stacked, v.shape[-1])
        slope = p * (pull @ v.swapaxes(-1, -2) - own) * scale
        return (slope @ k).reshape(q.shape), slope.swapaxes(-1, -2) @ rows, p.swapaxes(-1, -2) @ pull

    mixed, _ = cast(tuple[mx.array, mx.array], attend(queries, keys, values))
    return mixed
