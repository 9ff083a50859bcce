"""What a model's work takes of MLX's memory at its peak, in bytes: estimates to plan with, from shapes alone.

The factors of hidden and MLP width are fits to SmolLM2-135M on the CPU (`tests/runners/test_memory.py` compares them
with what MLX measures). On a GPU, where batches are larger, they have not been measured.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

from runners.backend.device import is_cpu
from runners.backend.loss import WAVE
from runners.backend.models import LoadedModel
from runners.backend.passes import CPU_BUDGET, CPU_LOGIT_ROWS, GPU_BUDGET, GPU_LOGIT_ROWS, cpu_workers

FLOAT = 4
"""Bytes; activations in half precision take half of the estimate."""


_HIDDEN = ("hidden_size", "n_embd", "d_model", "model_dim", "dim")
_MLP = ("intermediate_size", "ffn_dim", "d_ff", "n_inner")
"""Names of the sizes in the configurations of different families."""


def _first(config: Mapping[str, Any], names: Sequence[str]) -> int | None:
    """The first of these that is a positive number."""
    found = [config[name] for name in names if isinstance(config.get(name), int) and config[name] > 0]
    return found[0] if found else None


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The sizes that memory depends on."""

    weights: int
    """Bytes of all weights, as loaded."""
    layers: int
    hidden: int
    mlp: int
    vocabulary: int

    @classmethod
    def of(cls, loaded: LoadedModel) -> "Shape":
        config = loaded.config | loaded.config.get("text_config", {})
        hidden = _first(config, _HIDDEN) or loaded.record.n_parameters**0.5
        return cls(
            weights=weight_bytes(dict(tree_flatten(loaded.model.parameters()))),
            layers=len(loaded.model.layers),
            hidden=int(hidden),
            mlp=int(_first(config, _MLP) or 4 * hidden),
            vocabulary=int(_first(config, ("vocab_size",)) or loaded.tokenizer.vocab_size),
        )

    def scoring(self) -> int:
        """Batches in flight: one layer's activations and the logits of some positions."""
        workers = cpu_workers() if is_cpu() else 1
        tokens, rows = (CPU_BUDGET, CPU_LOGIT_ROWS) if is_cpu() else (GPU_BUDGET, GPU_LOGIT_ROWS)
        return workers * FLOAT * (tokens * (10 * self.hidden + 4 * self.mlp) + rows * self.vocabulary)

    def training(self, tokens: int) -> int:
        """A forward pass of `tokens` whose results wait for the backward one, and the logits with their gradient."""
        at_once = max(WAVE, tokens)
        kept = self.layers * (20 * self.hidden + 5 * self.mlp)
        return FLOAT * at_once * (kept + 2 * self.vocabulary)

    def residuals(self, tokens: int) -> int:
        """The residual stream of so many tokens after one layer."""
        return FLOAT * tokens * self.hidden

    def autoencoder(self, features: int, tokens: int) -> int:
        """Its weights with gradient and Adam's two moments, and the activations that it learns from (twice)."""
        return FLOAT * 8 * features * self.hidden + 2 * self.residuals(tokens)


def weight_bytes(weights: Mapping[str, mx.array]) -> int:
    return sum(tensor.nbytes for tensor in weights.values())


class MemoryPeak:
    """Measures MLX's peak inside a block."""

    mib = 0.0

    def __enter__(self) -> "MemoryPeak":
        mx.reset_peak_memory()
        return self

    def __exit__(self, *_: object) -> None:
        self.mib = round(mx.get_peak_memory() / 2**20, 1)
