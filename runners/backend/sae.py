"""A gated sparse autoencoder on residual activations (Rajamanoharan et al. 2024, "Improving dictionary learning with
gated sparse autoencoders").

x' = x - b_dec; gate π = x' W + b_gate decides which features are active, magnitude ReLU(exp(r) * x' W + b_mag) how
much; reconstruction = features D + b_dec. Loss: squared error + λ Σ ReLU(π) + squared error of the reconstruction
from ReLU(π) with a frozen decoder. Rows of D (the decoder's columns in the paper) have norm 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import mlx.core as mx
import mlx.optimizers as optim
import numpy as np
from numpy.typing import NDArray

from rhodb.errors import InputError, RhodbError
from runners.backend.activations import Change, Floats

Weights = dict[str, mx.array]


@dataclass(frozen=True, kw_only=True)
class SaeSpec:
    """How an autoencoder is trained."""

    features: int = 2048
    epochs: int = 20
    batch: int = 256
    lr: float = 1e-3
    sparsity: float = 3.0
    """λ, on activations scaled to a mean squared norm of the number of dimensions."""

    def __post_init__(self) -> None:
        for name in ("features", "epochs", "batch"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} of the autoencoder must be >= 1, got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class Quality:
    """How well an autoencoder describes activations."""

    reconstruction_error: float
    """Share of the activations' variance that it misses."""
    l0: float
    """Mean number of active features a token."""
    dead_features: int
    """Features that are active at no token."""


class GatedSae:
    """A trained autoencoder over (N, D) activations, F features."""

    def __init__(self, weights: Weights, *, center: mx.array, scale: float) -> None:
        self.weights, self.center, self.scale = weights, center, scale

    def features(self, x: mx.array) -> mx.array:
        """(..., D) residual activations -> (..., F) features, >= 0."""
        active, magnitude = _encode(self.weights, (x.astype(mx.float32) - self.center) / self.scale)
        return mx.where(active > 0, magnitude, 0.0)

    def decode(self, features: mx.array) -> mx.array:
        """(..., F) -> (..., D) in the units of the residual stream."""
        return (features @ self.weights["decoder"] + self.weights["decoder_bias"]) * self.scale + self.center

    def scaled(self, chosen: Sequence[int], factor: float) -> Change:
        """Multiplies the chosen features by a factor; what the autoencoder misses of the stream is added back.

        decode(scaled) + (x - decode(features)) = x + (factor - 1) * the chosen features' part, so that factor 1
        changes nothing at all.
        """
        index = mx.array(list(chosen))
        directions = self.weights["decoder"][index] * (self.scale * (factor - 1.0))
        mx.eval(directions)
        return lambda hidden: hidden + (self.features(hidden)[..., index] @ directions).astype(hidden.dtype)

    def quality(self, x: Floats) -> Quality:
        """Over (N, D) activations."""
        features = [self.features(mx.array(part)) for part in np.array_split(x, max(1, len(x) // 2048))]
        missed = np.concatenate([np.array(self.decode(f)) for f in features]) - x
        active = [np.array(f > 0) for f in features]
        return Quality(
            reconstruction_error=float(np.square(missed).sum() / np.square(x - x.mean(axis=0)).sum()),
            l0=float(np.concatenate([a.sum(axis=1) for a in active]).mean()),
            dead_features=int((~np.any([a.any(axis=0) for a in active], axis=0)).sum()),
        )


def train_sae(x: Floats, spec: SaeSpec, rng: np.random.Generator) -> GatedSae:
    """Train on (N, D) activations. Raises InputError without enough of them, RhodbError if the loss is not finite."""
    if len(x) < 2 or not float(x.std()) > 0:
        raise InputError(f"an autoencoder needs at least 2 different activations, got {len(x)}")
    center = x.mean(axis=0, dtype=np.float64).astype(np.float32)
    scale = float(np.sqrt(np.square(x - center).mean()))
    data = ((x - center) / scale).astype(np.float32)
    weights = _initial(x.shape[1], spec.features, rng)
    optimizer = optim.Adam(learning_rate=spec.lr)
    gradient = mx.compile(mx.value_and_grad(partial(_loss, spec.sparsity)))
    for _ in range(spec.epochs):
        order = rng.permutation(len(data))
        for start in range(0, len(order) - len(order) % spec.batch or len(order), spec.batch):
            loss, gradients = gradient(weights, mx.array(data[order[start : start + spec.batch]]))
            weights = optimizer.apply_gradients(gradients, weights)
            decoder = weights["decoder"]
            weights["decoder"] = decoder / mx.linalg.norm(decoder, axis=1, keepdims=True)
            mx.eval(weights, optimizer.state)
        if not np.isfinite(loss.item()):
            raise RhodbError("the autoencoder's loss is not finite; try a lower --sae-lr")
    return GatedSae(weights, center=mx.array(center), scale=scale)


def _initial(size: int, features: int, rng: np.random.Generator) -> Weights:
    decoder = rng.standard_normal((features, size)).astype(np.float32)
    decoder /= np.linalg.norm(decoder, axis=1, keepdims=True)
    zeros = mx.zeros(features)
    return {
        "encoder": mx.array(decoder.T.copy()),
        "gate_bias": zeros,
        "magnitude_bias": zeros,
        "log_scale": zeros,
        "decoder": mx.array(decoder),
        "decoder_bias": mx.zeros(size),
    }


def _encode(w: Weights, x: mx.array) -> tuple[mx.array, mx.array]:
    """Gate π and magnitude, each (..., F)."""
    shared = (x - w["decoder_bias"]) @ w["encoder"]
    magnitude = mx.maximum(mx.exp(w["log_scale"]) * shared + w["magnitude_bias"], 0.0)
    return shared + w["gate_bias"], magnitude


def _loss(sparsity: float, w: Weights, x: mx.array) -> mx.array:
    gate, magnitude = _encode(w, x)
    features = mx.where(gate > 0, magnitude, 0.0)
    opened = mx.maximum(gate, 0.0)
    frozen, bias = mx.stop_gradient(w["decoder"]), mx.stop_gradient(w["decoder_bias"])
    missed = mx.square(x - features @ w["decoder"] - w["decoder_bias"]).sum(axis=-1).mean()
    auxiliary = mx.square(x - opened @ frozen - bias).sum(axis=-1).mean()
    return missed + sparsity * opened.sum(axis=-1).mean() + auxiliary


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """Features by how well they separate the sides of pairs."""

    chosen: tuple[int, ...]
    """Best first."""
    n_significant: int
    """Features beyond the null's 95 % quantile of the largest statistic (family-wise)."""
    threshold: float
    expected_by_chance: float
    """Mean number of features beyond |t| = 2 when the sides are swapped at random."""
    beyond_two: int
    """Features beyond |t| = 2 as the sides are."""


def rank_features(
    positive: Floats, negative: Floats, *, take: int, permutations: int, rng: np.random.Generator
) -> Ranking:
    """Rank features (P pairs, F) by the paired t of their mean activity, desired minus undesired side.

    The null swaps the sides of whole pairs at random (a sign flip of the difference). `take` 0 chooses the features
    beyond the family-wise 5 % threshold, else that many of the best. Only features that are more active on the
    desired side are chosen. Raises InputError if there is none.
    """
    difference = (positive - negative).astype(np.float64)
    used = np.flatnonzero(np.any(difference != 0, axis=0))
    statistic = _paired_t(difference[:, used])
    flips = rng.choice([-1.0, 1.0], size=(permutations, len(difference)))
    null = [np.abs(_paired_t(difference[:, used] * flip[:, None])) for flip in flips]
    threshold = float(np.quantile([values.max(initial=0.0) for values in null], 0.95))
    order = [k for k in np.argsort(-statistic, kind="stable") if statistic[k] > 0]
    significant = [k for k in order if statistic[k] > threshold]
    chosen = order[:take] if take else significant
    if not chosen:
        raise InputError(
            f"no feature of the autoencoder separates the sides beyond chance (threshold t = {threshold:.2f} of "
            f"{permutations} permutations); train a larger one, or take the best N with --features N"
        )
    return Ranking(
        chosen=tuple(int(used[k]) for k in chosen),
        n_significant=int((np.abs(statistic) > threshold).sum()),
        threshold=threshold,
        expected_by_chance=float(np.mean([(values > 2).sum() for values in null])),
        beyond_two=int((np.abs(statistic) > 2).sum()),
    )


def _paired_t(difference: NDArray[np.float64]) -> NDArray[np.float64]:
    """(P, K) -> (K,) mean over its standard error; 0 where the spread is 0."""
    count = len(difference)
    mean = difference.mean(axis=0)
    spread = difference.std(axis=0, ddof=1) / np.sqrt(count) if count > 1 else np.zeros_like(mean)
    statistic: NDArray[np.float64] = np.divide(mean, spread, out=np.zeros_like(mean), where=spread > 0)
    return statistic
