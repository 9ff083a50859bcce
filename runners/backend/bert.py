"""A BERT encoder (Devlin et al. 2019) in MLX, from token ids to normalised sentence vectors.

A sentence's vector is the mean of its token states, scaled to length 1 (Reimers and Gurevych 2019).
"""

from dataclasses import dataclass

import mlx.core as mx

from runners.backend.device import is_cpu
from runners.backend.fastmath import attention

# Φ(x) - 1/2 as x P(x²) / Q(x²) for |x| <= 5.4: minimax fit to 1.6e-8 (Lawson's weights on a linearised least squares
# problem); highest power first. Beyond that Φ is 0 or 1 to single precision.
_NUMERATOR = (
    1.16104171e-10, -2.22571186e-08, 3.13344035e-06, 0.000158959311, 0.00443504227, 0.0347851931, 0.398942179,
)  # fmt: skip
_DENOMINATOR = (5.86766914e-05, 0.00176359991, 0.0284300576, 0.253858503, 1.0)
_SATURATION = 5.4
_HIDDEN = -1e9
"""Added to the score of a position that is padding."""


@dataclass(frozen=True, kw_only=True)
class BertShape:
    """The parts of a BERT configuration that the weights' shapes do not tell."""

    layers: int
    heads: int
    norm_eps: float


@dataclass(frozen=True, kw_only=True)
class Linear:
    """x @ weight + bias; weight (in, out), contiguous in that order."""

    weight: mx.array
    bias: mx.array

    def __call__(self, x: mx.array) -> mx.array:
        return mx.addmm(self.bias, x, self.weight)


@dataclass(frozen=True, kw_only=True)
class Norm:
    """Layer normalisation over the last axis."""

    weight: mx.array
    bias: mx.array
    eps: float

    def __call__(self, x: mx.array) -> mx.array:
        return mx.fast.layer_norm(x, self.weight, self.bias, self.eps)


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One block: attention and a two-layer perceptron, each added to its input and normalised."""

    mix_in: Linear
    """Queries, keys and values side by side."""
    mix_out: Linear
    mix_norm: Norm
    widen: Linear
    narrow: Linear
    norm: Norm
    heads: int

    def __call__(self, x: mx.array, mask: mx.array | None) -> mx.array:
        batch, length, width = x.shape
        mixed = self.mix_in(x).reshape(batch, length, 3, self.heads, -1).transpose(2, 0, 3, 1, 4)
        scale = (width // self.heads) ** -0.5
        if is_cpu():
            seen = attention(mixed[0], mixed[1], mixed[2], scale=scale, mask=mask)
        else:
            seen = mx.fast.scaled_dot_product_attention(mixed[0], mixed[1], mixed[2], scale=scale, mask=mask)
        x = self.mix_norm(x + self.mix_out(seen.transpose(0, 2, 1, 3).reshape(batch, length, width)))
        return self.norm(x + self.narrow(gelu(self.widen(x))))


class BertEncoder:
    """Token ids in, sentence vectors out."""

    def __init__(self, weights: dict[str, mx.array], shape: BertShape) -> None:
        """`weights` under the names that Hugging Face's BertModel gives them, float32."""
        self._words = weights["embeddings.word_embeddings.weight"]
        # Every text here is of the first of BERT's two segments.
        segment = weights["embeddings.token_type_embeddings.weight"][0]
        self._positions = weights["embeddings.position_embeddings.weight"] + segment
        self._norm = _norm(weights, "embeddings.LayerNorm", shape)
        self._layers = [_layer(weights, f"encoder.layer.{index}.", shape) for index in range(shape.layers)]

    @property
    def width(self) -> int:
        """Length of a sentence vector."""
        return int(self._words.shape[1])

    @property
    def max_length(self) -> int:
        """Positions that the model knows."""
        return int(self._positions.shape[0])

    def evaluate(self) -> None:
        """Compute everything that depends on the weights alone, so that other threads may use it."""
        parts = [self._words, self._positions, self._norm.weight, self._norm.bias]
        for layer in self._layers:
            for part in (layer.mix_in, layer.mix_out, layer.mix_norm, layer.widen, layer.narrow, layer.norm):
                parts += [part.weight, part.bias]
        mx.eval(parts)

    def __call__(self, ids: mx.array, lengths: mx.array | None = None) -> mx.array:
        """(B, width) vectors of norm 1 for ids (B, L); `lengths` (B,) where rows are padded on the right."""
        length = ids.shape[1]
        real = None if lengths is None else (mx.arange(length)[None] < lengths[:, None])
        mask = None if real is None else mx.where(real, 0.0, _HIDDEN)[:, None, None, :]
        x = self._norm(self._words[ids] + self._positions[:length])
        for layer in self._layers:
            x = layer(x, mask)
        if real is not None:
            x = mx.where(real[..., None], x, 0.0)
        total = x.sum(axis=1)  # the mean's divisor falls out of the normalisation
        return total / mx.linalg.norm(total, axis=-1, keepdims=True)


@mx.compile
def _fast_gelu(x: mx.array) -> mx.array:
    inside = mx.clip(x, -_SATURATION, _SATURATION)
    square = inside * inside
    above = _polynomial(_NUMERATOR, square)
    below = _polynomial(_DENOMINATOR, square)
    return mx.maximum(x, -_SATURATION) * (0.5 + inside * (above / below))


def _polynomial(coefficients: tuple[float, ...], x: mx.array) -> mx.array:
    value = coefficients[0] * x + coefficients[1]
    for coefficient in coefficients[2:]:
        value = value * x + coefficient
    return value


def gelu(x: mx.array) -> mx.array:
    """x Φ(x), with the normal distribution function Φ. On the CPU by a rational function, to 2e-6 absolute."""
    return _fast_gelu(x) if is_cpu() else x * (1 + mx.erf(x * 2**-0.5)) / 2


def _linear(weights: dict[str, mx.array], *names: str) -> Linear:
    """The layers called `names`, side by side."""
    matrix = mx.concatenate([weights[f"{name}.weight"] for name in names])
    return Linear(weight=mx.contiguous(matrix.T), bias=mx.concatenate([weights[f"{name}.bias"] for name in names]))


def _norm(weights: dict[str, mx.array], name: str, shape: BertShape) -> Norm:
    return Norm(weight=weights[f"{name}.weight"], bias=weights[f"{name}.bias"], eps=shape.norm_eps)


def _layer(weights: dict[str, mx.array], prefix: str, shape: BertShape) -> Layer:
    mix = f"{prefix}attention."
    return Layer(
        mix_in=_linear(weights, *(f"{mix}self.{part}" for part in ("query", "key", "value"))),
        mix_out=_linear(weights, f"{mix}output.dense"),
        mix_norm=_norm(weights, f"{mix}output.LayerNorm", shape),
        widen=_linear(weights, f"{prefix}intermediate.dense"),
        narrow=_linear(weights, f"{prefix}output.dense"),
        norm=_norm(weights, f"{prefix}output.LayerNorm", shape),
        heads=shape.heads,
    )
