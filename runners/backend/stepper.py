"""From texts to a step's loss and gradient: tokens, groups, and the way of computing that suits the device."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import mlx.core as mx
from mlx.nn.layers.base import Module
from mlx.nn.layers.embedding import Embedding
from mlx.nn.layers.linear import Linear

from rhodb.errors import InputError
from runners.backend.batching import Contrast, Pair, contrast_groups, sft_groups
from runners.backend.device import is_cpu
from runners.backend.fastgrad import fast_gradients
from runners.backend.forward import Body, row_forward
from runners.backend.loss import WAVE, StepBatch, StepLoss, fast_step, plain_step
from runners.backend.models import LoadedModel
from runners.backend.rows import Side, truncate
from runners.backend.scoring import PairText, pair_sides
from runners.backend.tokenizer import encode_with_offsets

GPU_MULTIPLE = 16
"""Row lengths on a GPU are multiples of this, so that few shapes are compiled."""

PLAIN_HEADS = ("llama", "mistral", "qwen2", "qwen3")
"""Model types of mlx_lm whose logits are exactly `norm(hidden) @ matrix.T`."""


class Stepper:
    """Computes the steps of one model, inside its `ready()` block.

    On a GPU: one pass for the SFT texts and one for all pairs, in MLX. On the CPU: a pass a pair, so that inactive
    pairs need no backward pass and little is padded.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        *,
        rho_weight: float,
        margin: float,
        max_tokens: int,
        contrast: Contrast,
        fast: bool | None = None,
    ) -> None:
        """`fast`: the CPU's way (True) or plain MLX (False); None chooses by device and model."""
        self.loaded = loaded
        self.rho_weight, self.margin = rho_weight, margin
        self.max_tokens, self.contrast = max_tokens, contrast
        self.matrix = head_matrix(loaded.model) if fast or (fast is None and is_cpu()) else None
        self.truncated = 0
        self._body: Body | None = None
        self._trees = False

    @contextmanager
    def ready(self) -> Iterator[None]:
        """The model prepared for steps: tree rows where it takes them, fast operations on the CPU."""
        model = self.loaded.model
        model.eval()
        with ExitStack() as stack:
            self._body, self._trees = stack.enter_context(row_forward(model, self.max_tokens))
            if self.matrix is not None:
                stack.enter_context(fast_gradients(model))
            yield

    def step(self, texts: Sequence[str], pairs: Sequence[PairText]) -> tuple[StepLoss, int]:
        """The loss of a micro-batch and the number of tokens of its texts."""
        assert self._body is not None, "only inside ready()"
        sides = self.encode(texts)
        paired = self.encode_pairs(pairs)
        count = sum(len(side.ids) for side in [*sides, *(side for pair in paired for side in pair)])
        fast = self.matrix is not None
        multiple = 1 if is_cpu() else GPU_MULTIPLE
        batch = StepBatch(
            sft=sft_groups(sides, budget=WAVE if fast else None, multiple=multiple),
            contrast=contrast_groups(
                paired, contrast=self.contrast, trees=self._trees, one_each=fast, multiple=multiple
            )
            if paired
            else (),
        )
        model, rho_weight, margin = self.loaded.model, self.rho_weight, self.margin
        if self.matrix is None:
            return plain_step(model, self._body, batch, rho_weight=rho_weight, margin=margin), count
        loss = fast_step(model, self._body, self.matrix, batch, rho_weight=rho_weight, margin=margin)
        return loss, count

    def encode(self, texts: Sequence[str]) -> list[Side]:
        """Tokens of SFT texts, cut at the limit."""
        encoded = encode_with_offsets(self.loaded.tokenizer, list(texts))
        for text, item in zip(texts, encoded, strict=True):
            if len(item.ids) < 2:
                raise InputError(f"SFT text {text!r} has fewer than two tokens: there is nothing to predict in it")
        sides = [truncate(Side(ids=item.ids, answer_from=None), self.max_tokens) for item in encoded]
        self.truncated += sum(side.truncated for side in sides)
        return sides

    def encode_pairs(self, pairs: Sequence[PairText]) -> list[Pair]:
        """Tokens of pairs, cut at the limit as the scorer cuts them: something of both answers remains."""
        sides = pair_sides(self.loaded, pairs, self.max_tokens)
        self.truncated += sum(side.truncated for side in sides)
        return list(zip(sides[::2], sides[1::2], strict=True))


def head_matrix(model: Module) -> mx.array | None:
    """The (V, D) output matrix of a model whose head is nothing but that, in float32; else None."""
    if getattr(model, "model_type", None) not in PLAIN_HEADS:
        return None
    layer = model.model.embed_tokens if model.args.tie_word_embeddings else model.lm_head
    if not isinstance(layer, Embedding | Linear) or "bias" in layer:
        return None
    return layer.weight if layer.weight.dtype == mx.float32 else None
