"""From texts to a step's loss and gradient: tokens, groups, and the way of computing that suits the device."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import mlx.core as mx

from rhodb.errors import InputError
from runners.backend.batching import Contrast, Pair, contrast_groups, sft_groups
from runners.backend.device import is_cpu
from runners.backend.fastgrad import fast_gradients
from runners.backend.forward import Forward, nothing_replaced, opened
from runners.backend.loss import WAVE, StepBatch, StepLoss, fast_step, gradients_agree, plain_step
from runners.backend.models import LoadedModel
from runners.backend.proof import GRADIENT_TOLERANCE, proof_of, proven, with_gradient
from runners.backend.rows import Side, truncate
from runners.backend.scoring import PairText, pair_sides
from runners.backend.tokenizer import encode_with_offsets

GPU_MULTIPLE = 16
"""Row lengths on a GPU are multiples of this, so that few shapes are compiled."""


_TRIAL = 12
"""Tokens whose gradient is compared."""


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
        """`fast`: the CPU's way where the model allows it, or plain MLX (False); None chooses by the device."""
        self.loaded = loaded
        self.rho_weight, self.margin = rho_weight, margin
        self.max_tokens, self.contrast = max_tokens, contrast
        self.fast = is_cpu() if fast is None else fast
        self.truncated = 0
        self._forward: Forward | None = None
        self._linear = False

    @contextmanager
    def ready(self, texts: Sequence[str]) -> Iterator[None]:
        """The model prepared for steps, by the way that is right on some of these texts."""
        self.loaded.model.eval()
        by_length = sorted(texts, key=len)
        sides = self._sides([by_length[-1], by_length[0]])
        self._linear = self.fast and self._gradient_is_right(sides)
        operations = fast_gradients if self._linear else nothing_replaced
        with proven(self.loaded, sides, self.max_tokens, operations=operations) as self._forward:
            yield
        self._forward = None

    def _gradient_is_right(self, sides: Sequence[Side]) -> bool:
        """Whether `fast_step` serves: tried out once a model on a few tokens."""
        proof = proof_of(self.loaded, sides, self.max_tokens, fast_gradients)
        if proof.form == "whole" or proof.dtype != mx.float32:
            return False
        if proof.gradient is None:
            model = self.loaded.model
            batch = StepBatch(sft=sft_groups([truncate(sides[-1], _TRIAL)]), contrast=())
            with (
                opened(model, None, "whole", max_positions=_TRIAL, operations=nothing_replaced) as whole,
                proven(self.loaded, sides, self.max_tokens, operations=fast_gradients) as fast,
            ):
                difference = gradients_agree(fast, whole, batch)
            proof = with_gradient(self.loaded, fast_gradients, difference)
        return proof.gradient is not None and proof.gradient <= GRADIENT_TOLERANCE

    @property
    def is_fast(self) -> bool:
        """Inside `ready()`: steps take the CPU's way."""
        return self._linear

    def step(self, texts: Sequence[str], pairs: Sequence[PairText]) -> tuple[StepLoss, int]:
        """The loss of a micro-batch and the number of tokens of its texts."""
        assert self._forward is not None, "only inside ready()"
        sides = self.encode(texts)
        paired = self.encode_pairs(pairs)
        count = sum(len(side.ids) for side in [*sides, *(side for pair in paired for side in pair)])
        multiple = 1 if is_cpu() else GPU_MULTIPLE
        batch = StepBatch(
            sft=sft_groups(sides, budget=WAVE if self._linear else None, multiple=multiple),
            contrast=contrast_groups(
                paired,
                contrast=self.contrast,
                trees=self._forward.trees,
                one_each=self._linear,
                multiple=multiple,
            )
            if paired
            else (),
        )
        compute = fast_step if self._linear else plain_step
        return compute(self._forward, batch, rho_weight=self.rho_weight, margin=self.margin), count

    def encode(self, texts: Sequence[str]) -> list[Side]:
        """Tokens of SFT texts, cut at the limit."""
        sides = self._sides(texts)
        self.truncated += sum(side.truncated for side in sides)
        return sides

    def _sides(self, texts: Sequence[str]) -> list[Side]:
        encoded = encode_with_offsets(self.loaded.tokenizer, list(texts))
        for text, item in zip(texts, encoded, strict=True):
            if len(item.ids) < 2:
                raise InputError(f"SFT text {text!r} has fewer than two tokens: there is nothing to predict in it")
        return [truncate(Side(ids=item.ids, answer_from=None), self.max_tokens) for item in encoded]

    def encode_pairs(self, pairs: Sequence[PairText]) -> list[Pair]:
        """Tokens of pairs, cut at the limit as the scorer cuts them: something of both answers remains."""
        sides = pair_sides(self.loaded, pairs, self.max_tokens)
        self.truncated += sum(side.truncated for side in sides)
        return list(zip(sides[::2], sides[1::2], strict=True))
