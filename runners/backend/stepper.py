"""From texts to a step's loss and gradient: tokens, groups, and the way of computing that suits the device."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import mlx.core as mx
import mlx.nn as nn

from rhodb.errors import InputError
from runners.backend.batching import PairTokens, pair_groups, sft_groups
from runners.backend.blas import blas_info, blas_threads
from runners.backend.device import is_cpu
from runners.backend.loss import StepBatch, StepLoss, fast_step, plain_step
from runners.backend.models import LoadedModel
from runners.backend.scoring import PairText
from runners.backend.tokenizer import encode_with_offsets

SFT_BUDGET = 160
"""Padded tokens a group of SFT texts on the CPU: small enough for two groups a batch, one a core."""

PLAIN_HEADS = ("llama", "qwen2", "qwen3")
"""Model types in mlx_lm whose logits are exactly `norm(hidden) @ matrix.T`."""


class Stepper:
    """Computes steps for one model: one pass for the SFT texts and one for all pairs on a GPU; on a CPU smaller
    passes that need no padding, spread over the cores."""

    def __init__(
        self,
        loaded: LoadedModel,
        *,
        rho_weight: float,
        margin: float,
        max_tokens: int,
        contrast: Literal["text", "answer"],
        fast: bool | None = None,
    ) -> None:
        """`fast`: choose the CPU's way (True) or plain MLX (False); None chooses by device and model."""
        self.loaded = loaded
        self.rho_weight, self.margin = rho_weight, margin
        self.max_tokens, self.contrast = max_tokens, contrast
        self.fast = (is_cpu() and head_matrix(loaded.model) is not None) if fast is None else fast
        self.lanes = [mx.default_stream(mx.default_device())]
        self.truncated = 0

    @contextmanager
    def ready(self) -> Iterator[None]:
        """Everything set for steps: on the CPU one stream a core (two at most), the cores shared among them."""
        self.loaded.model.eval()  # no dropout anywhere
        threads = blas_info().threads or 1
        count = min(2, threads)
        if not self.fast or count == 1:
            yield
            return
        device = mx.default_device()
        self.lanes = [mx.new_stream(device) for _ in range(count)]
        with blas_threads(threads // count):
            yield

    def step(self, texts: Sequence[str], pairs: Sequence[PairText]) -> tuple[StepLoss, int]:
        """The loss of a micro-batch and the number of tokens it read."""
        text_tokens = self.encode(texts)
        pair_tokens = [self.encode_pair(pair) for pair in pairs]
        count = sum(map(len, text_tokens)) + sum(len(p.positive) + len(p.negative) for p in pair_tokens)
        batch = StepBatch(
            sft=sft_groups(text_tokens, SFT_BUDGET if self.fast else None) if texts else (),
            contrast=pair_groups(pair_tokens, one_each=self.fast) if pairs else (),
        )
        model, matrix = self.loaded.model, head_matrix(self.loaded.model)
        if self.fast and matrix is not None:
            loss = fast_step(
                model.model, matrix, model, batch, rho_weight=self.rho_weight, margin=self.margin, lanes=self.lanes
            )
        else:
            loss = plain_step(model, batch, rho_weight=self.rho_weight, margin=self.margin)
        return loss, count

    def encode(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        """Tokens of SFT texts, cut at the limit."""
        if not texts:
            return []
        encoded = encode_with_offsets(self.loaded.tokenizer, list(texts))
        for text, item in zip(texts, encoded, strict=True):
            if len(item.ids) < 2:
                raise InputError(f"SFT text {text!r} has fewer than two tokens; there is nothing to predict in it")
            self.truncated += len(item.ids) > self.max_tokens
        return [item.ids[: self.max_tokens] for item in encoded]

    def encode_pair(self, pair: PairText) -> PairTokens:
        """Tokens of a pair, cut at the limit so that something of both answers remains."""
        texts = encode_with_offsets(self.loaded.tokenizer, [pair.positive, pair.negative])
        prompt = len(pair.prompt or "")
        starts = [next((i for i, end in enumerate(text.ends) if end > prompt), None) for text in texts]
        if any(start is None or len(text.ids) < 2 for start, text in zip(starts, texts, strict=True)):
            raise InputError(f"a pair has an empty answer or a text of one token: {pair.positive!r} / {pair.negative!r}")
        first = [max(1, start or 0) for start in starts]
        longest = max(len(text.ids) for text in texts)
        self.truncated += longest > self.max_tokens
        # A prompt longer than the limit loses its beginning, the same on both sides.
        cut = 0
        if max(first) >= self.max_tokens:
            cut = min(longest - self.max_tokens, min(first) - 1)
        positive, negative = (text.ids[cut : cut + self.max_tokens] for text in texts)
        if self.contrast == "text" or pair.prompt is None:
            return PairTokens(positive=positive, negative=negative)
        return PairTokens(
            positive=positive, negative=negative, positive_from=first[0] - cut, negative_from=first[1] - cut
        )


def head_matrix(model: nn.Module) -> mx.array | None:
    """The (V, D) output matrix of a model whose head is nothing but that, in float32; else None."""
    if getattr(model, "model_type", None) not in PLAIN_HEADS:
        return None
    layer = model.model.embed_tokens if model.args.tie_word_embeddings else model.lm_head
    if not isinstance(layer, nn.Embedding | nn.Linear) or "bias" in layer:
        return None
    return layer.weight if layer.weight.dtype == mx.float32 else None
