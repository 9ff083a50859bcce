"""Rho-guided training: LoRA, AdamW, and the loop over steps."""

import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.optimizers as optim
import numpy as np
from mlx.utils import tree_flatten, tree_map

from rhodb.errors import InputError, RhodbError
from rhodb.records import TrainStepRow
from runners.backend.batching import Contrast
from runners.backend.data_parallel import Ranks
from runners.backend.lora import install_lora, lora_weights, remove_lora
from runners.backend.loss import StepLoss
from runners.backend.models import LoadedModel
from runners.backend.sampling import PairSampler, text_batches
from runners.backend.scoring import PairText
from runners.backend.stepper import Stepper
from runners.seeds import MLX, SeedStreams

ALONE = Ranks()


class TrainingDivergedError(RhodbError):
    """The loss or the gradient stopped being a finite number."""

    def __init__(self, step: int, what: str) -> None:
        super().__init__(f"training diverged: {what} at step {step} is not finite; try a lower learning rate")
        self.step = step


@dataclass(frozen=True, kw_only=True)
class TrainSpec:
    """What and how to train. A step is one micro-batch, an update one move of the optimizer."""

    use_sft: bool = True
    """False drops L_SFT (contrastive-only); the number of steps stays."""
    rho_weight: float = 0.2
    """λ of the contrastive term; 0 skips it."""
    margin: float = 0.1
    """γ, nats/token."""
    shuffle_pairs: bool = False
    epochs: float = 1.0
    batch_size: int = 2
    accumulation: int = 4
    lr: float = 2e-4
    weight_decay: float = 0.01
    warmup: float = 0.1
    """Share of the updates."""
    lora_rank: int = 8
    lora_alpha: float = 16.0
    lora_targets: tuple[str, ...] = ("q_proj", "k_proj", "o_proj")
    pairs_per_step: int = 4
    max_tokens: int = 256
    contrast: Contrast = "text"
    """Cross-entropy over the whole text, or over the answer's tokens where a pair shares a prompt."""
    bias_correction: bool = False
    """Of Adam's moments. MLX's default, and the origin's, is without."""

    def __post_init__(self) -> None:
        for name in ("rho_weight", "margin", "weight_decay"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name} must be a finite number >= 0, got {getattr(self, name)}")
        for name in ("epochs", "lr", "lora_alpha"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"{name} must be a finite number > 0, got {getattr(self, name)}")
        for name in ("batch_size", "accumulation", "lora_rank", "pairs_per_step"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be >= 1, got {getattr(self, name)}")
        if not 0 <= self.warmup < 1:
            raise InputError(f"warmup must be in [0, 1), got {self.warmup}")
        if self.max_tokens < 2:
            raise InputError(f"max_tokens must be >= 2, got {self.max_tokens}")
        if not self.use_sft and self.rho_weight == 0:
            raise InputError("nothing to train: use_sft is off and rho_weight is 0")


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """What a training run did; the LoRA layers stay on the model until `remove_lora`."""

    steps: int
    updates: int
    rows: tuple[TrainStepRow, ...]
    ce_loss: float | None
    """L_SFT, mean over the last quarter of the steps, nats/token."""
    rho_loss: float | None
    """Hinge before λ, likewise."""
    swapped_share: float | None
    """Share of sampled pairs with swapped labels; None without shuffling."""
    truncated: int
    """Texts cut at `max_tokens`, counted once a use."""


def learning_rate(update: int, *, updates: int, lr: float, warmup: float) -> float:
    """The rate of an update (from 1): linear up to `lr` at the last warm-up update, then linear down.

    It would reach 0 one update after the last, so that no update is without effect.
    """
    ramp = int(warmup * updates)
    if update <= ramp:
        return lr * update / ramp
    return lr * (updates - update + 1) / (updates - max(ramp, 1) + 1)


def train(
    loaded: LoadedModel,
    texts: Sequence[str],
    pools: Mapping[str, Sequence[PairText]],
    spec: TrainSpec,
    streams: SeedStreams,
    *,
    on_step: Callable[[TrainStepRow], None] | None = None,
    checkpoints: Collection[int] = (),
    on_checkpoint: Callable[[int], None] | None = None,
    ranks: Ranks = ALONE,
) -> TrainResult:
    """Install LoRA layers on the model and train them; on an error they are removed again.

    `texts` are the SFT texts (they fix the number of steps in every condition), `pools` the pairs a behavior.
    After the steps in `checkpoints`, `on_checkpoint` may use the model, but must not change it.
    Raises InputError for empty input and TrainingDivergedError for a loss that is not finite.
    """
    _check(texts, pools, spec)
    ranks.check(spec.accumulation)
    install_lora(loaded, rank=spec.lora_rank, alpha=spec.lora_alpha, targets=spec.lora_targets, streams=streams)
    try:
        mx.random.seed(streams.integer(MLX))
        return _Run(loaded, texts, pools, spec, streams, ranks).run(on_step, checkpoints, on_checkpoint)
    except BaseException:
        remove_lora(loaded)
        raise


def _check(texts: Sequence[str], pools: Mapping[str, Sequence[PairText]], spec: TrainSpec) -> None:
    if not texts:
        raise InputError("no SFT texts to train on")
    if spec.rho_weight == 0:
        return
    if not pools:
        raise InputError(f"rho_weight is {spec.rho_weight} but there are no pairs to sample")
    for behavior, pool in pools.items():
        if not pool:
            raise InputError(f"behavior {behavior!r} has no pairs to sample; leave it out or choose another split")


class _Run:
    """The state of one training run."""

    def __init__(
        self,
        loaded: LoadedModel,
        texts: Sequence[str],
        pools: Mapping[str, Sequence[PairText]],
        spec: TrainSpec,
        streams: SeedStreams,
        ranks: Ranks = ALONE,
    ) -> None:
        self.loaded, self.spec, self.ranks = loaded, spec, ranks
        self.stepper = Stepper(
            loaded, rho_weight=spec.rho_weight, margin=spec.margin, max_tokens=spec.max_tokens, contrast=spec.contrast
        )
        self.texts = texts
        self.batches = text_batches(len(texts), epochs=spec.epochs, batch_size=spec.batch_size, streams=streams)
        self.updates = math.ceil(len(self.batches) / spec.accumulation)
        self.sampler = (
            PairSampler(pools, per_step=spec.pairs_per_step, shuffle=spec.shuffle_pairs, streams=streams)
            if spec.rho_weight > 0
            else None
        )
        self.optimizer = optim.AdamW(
            learning_rate=spec.lr, weight_decay=spec.weight_decay, bias_correction=spec.bias_correction
        )
        self.accumulated: Any = None
        self.gradients: list[Any] = []
        self.facts: list[list[float]] = []
        """Of the group's steps so far, where ranks share it."""

    def run(
        self,
        on_step: Callable[[TrainStepRow], None] | None,
        checkpoints: Collection[int],
        on_checkpoint: Callable[[int], None] | None,
    ) -> TrainResult:
        rows: list[TrainStepRow] = []
        report = on_step or (lambda _: None)
        stops = sorted(stop for stop in checkpoints if stop < len(self.batches))
        start = 0
        for stop in [*stops, len(self.batches)]:
            with self.stepper.ready(self.texts):
                for number in range(start + 1, stop + 1):
                    new = [self.step(number)] if self.ranks.size == 1 else self.shared_step(number)
                    rows += new
                    for row in new:
                        report(row)
            start = stop
            if stop < len(self.batches) and on_checkpoint is not None:
                on_checkpoint(stop)
        last = rows[-max(1, len(rows) // 4) :]
        shuffled = self.sampler is not None and self.spec.shuffle_pairs
        return TrainResult(
            steps=len(rows),
            updates=self.updates,
            rows=tuple(rows),
            ce_loss=_mean([row.ce_loss for row in last]),
            rho_loss=_mean([row.rho_loss for row in last]),
            swapped_share=self.sampler.swapped / self.sampler.drawn if self.sampler and shuffled else None,
            truncated=self.stepper.truncated,
        )

    def rate(self, number: int) -> float:
        update = math.ceil(number / self.spec.accumulation)
        return learning_rate(update, updates=self.updates, lr=self.spec.lr, warmup=self.spec.warmup)

    def texts_of(self, number: int) -> list[str]:
        return [self.texts[index] for index in self.batches[number - 1]]

    def step(self, number: int) -> TrainStepRow:
        """One micro-batch, and the update where it completes a group."""
        start = time.perf_counter()
        texts, rate = self.texts_of(number), self.rate(number)
        pairs = self.sampler.draw() if self.sampler else []
        loss, tokens = self.stepper.step(texts if self.spec.use_sft else [], pairs)
        self.check_finite(number, loss)
        norm = self.accumulate(number, loss.gradient, rate)
        return TrainStepRow(
            step=number,
            ce_loss=loss.ce,
            rho_loss=loss.rho,
            active_pairs=loss.active_pairs,
            pairs=loss.pairs,
            lr=rate,
            grad_norm=norm,
            tokens=tokens,
            seconds=time.perf_counter() - start,
        )

    def shared_step(self, number: int) -> list[TrainStepRow]:
        """One micro-batch, on the rank whose turn it is; at the end of a group the update and the group's rows."""
        start = time.perf_counter()
        position = (number - 1) % self.spec.accumulation
        pairs = self.sampler.draw() if self.sampler else []
        facts = [0.0] * 5
        if self.ranks.mine(position):
            loss, tokens = self.stepper.step(self.texts_of(number) if self.spec.use_sft else [], pairs)
            self.gradients.append(loss.gradient)
            seconds = time.perf_counter() - start
            facts = [loss.ce or 0.0, loss.rho or 0.0, float(loss.active_pairs or 0), float(tokens), seconds]
        self.facts.append(facts)
        if position + 1 < self.spec.accumulation and number < len(self.batches):
            return []
        return self.shared_update(number, len(pairs))

    def shared_update(self, number: int, pairs: int) -> list[TrainStepRow]:
        """Sum gradients and facts over the ranks, update, and say what the group's steps were."""
        size = len(self.facts)
        zero = tree_map(mx.zeros_like, self.loaded.model.trainable_parameters())
        total = zero
        for gradient in self.gradients:
            total = tree_map(mx.add, total, gradient)
        mean = tree_map(lambda value: value / size, self.ranks.total(total))
        facts = self.ranks.gathered(self.facts)
        self.gradients, self.facts = [], []
        if not np.isfinite(facts).all():
            raise TrainingDivergedError(number, "the loss")
        first, rate = number - size + 1, self.rate(number)
        norm = self.update(number, mean, rate)
        contrast = self.sampler is not None
        return [
            TrainStepRow(
                step=first + index,
                ce_loss=float(ce) if self.spec.use_sft else None,
                rho_loss=float(rho) if contrast else None,
                active_pairs=round(active) if contrast else None,
                pairs=pairs if contrast else None,
                lr=rate,
                grad_norm=norm if first + index == number else None,
                tokens=round(tokens),
                seconds=float(seconds),
            )
            for index, (ce, rho, active, tokens, seconds) in enumerate(facts)
        ]

    def check_finite(self, number: int, loss: StepLoss) -> None:
        for what, value in (("the SFT loss", loss.ce), ("the contrastive loss", loss.rho)):
            if value is not None and not math.isfinite(value):
                raise TrainingDivergedError(number, what)

    def accumulate(self, number: int, gradient: Any, rate: float) -> float | None:
        """Add a step's gradient; after the last step of a group, update and return the mean gradient's norm."""
        if self.accumulated is None:
            self.accumulated = gradient
        else:
            self.accumulated = tree_map(mx.add, self.accumulated, gradient)
            mx.eval(self.accumulated)
        size = (number - 1) % self.spec.accumulation + 1
        if size < self.spec.accumulation and number < len(self.batches):
            return None
        mean = tree_map(lambda value: value / size, self.accumulated)
        self.accumulated = None
        return self.update(number, mean, rate)

    def update(self, number: int, mean: Any, rate: float) -> float:
        """Move the adapter by a group's mean gradient, whose norm is returned."""
        norm = _norm(mean)
        if not math.isfinite(norm):
            raise TrainingDivergedError(number, "the gradient")
        self.optimizer.learning_rate = mx.array(rate)
        self.optimizer.update(self.loaded.model, mean)
        mx.eval(lora_weights(self.loaded.model), self.optimizer.state)
        return norm


def _norm(tree: Any) -> float:
    """Global L2 norm of a tree of arrays."""
    leaves: list[tuple[str, mx.array]] = tree_flatten(tree)  # type: ignore[assignment]
    return math.sqrt(sum(float(np.square(np.array(leaf.astype(mx.float32))).sum()) for _, leaf in leaves))


def _mean(values: Sequence[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present else None
