"""A scoring session whose cells also fine-tune: the instruction texts, the contrast pairs, the training's identity."""

from collections.abc import Callable

from rhodb.errors import InputError
from rhodb.records import Config, TrainStepRow, canonical_json, digest
from runners.backend.freezing import n_frozen, train_above
from runners.backend.tokenizer import chat_text
from runners.backend.training import TrainResult, TrainSpec
from runners.config import TrainingConfig
from runners.probes import select_pairs
from runners.scoring_session import BACKWARD_WORK, ScoringSession, pairs_by_behavior
from runners.seeds import SFT_SELECTION, SeedStreams
from runners.sft_data import build_pools, draw

SEED_SEMANTICS = "selection and order of the training texts, pairs, LoRA init"
NOTHING_RANDOM = "none: nothing in this run is random, other seeds would be copies"


class TrainingSession(ScoringSession):
    """Adds a fine-tune of the layers above a frozen part to a scoring session."""

    def __init__(self, config: TrainingConfig) -> None:
        super().__init__(config)
        self.training = config
        self._contrast = [
            use
            for use in select_pairs(
                self.as_split, behaviors=config.contrast_behaviors, split=config.probe_split, per_behavior=None
            )
            if use.split in ("train", "none")
        ]
        self._pools = build_pools(
            self.as_split, split=config.probe_split, trap_behaviors=config.contrast_behaviors, data=config.sft_data
        )

    def fine_tune(
        self, frozen: int, rho_weight: float, seed: int, on_step: Callable[[TrainStepRow, int], None]
    ) -> TrainResult:
        """Train adapters above the `frozen` bottom layers; they stay on the model until `remove_lora`."""
        streams = SeedStreams(seed)
        streams.seed_globals()
        steps = self._steps()
        return train_above(
            self.loaded,
            self._texts(streams),
            pairs_by_behavior(self._contrast) if rho_weight > 0 else {},
            self._spec(rho_weight),
            streams,
            frozen=frozen,
            on_step=lambda row: on_step(row, steps),
        )

    def check_trainable(self, freeze: float) -> None:
        """Raises InputError where a freeze ratio leaves no layer to train."""
        if n_frozen(self.n_layers, freeze) >= self.n_layers:
            raise InputError(
                f"a freeze ratio of {freeze:g} freezes all {self.n_layers} layers of {self.model.key}, so nothing is "
                "left to fine-tune; give a smaller one"
            )

    def training_config(self, rho_weight: float) -> Config:
        """The identity of a fine-tune: only what has an effect at this λ."""
        c = self.training
        names = ["sft_size", "trap_share", "refusal_share", "epochs", "batch_size", "accumulation", "lr"]
        names += ["weight_decay", "warmup", "lora_rank", "lora_alpha"]
        config: Config = {name: getattr(c, name) for name in names} | {
            "sft_data": self._pools.fingerprint,
            "lora_targets": sorted(c.lora_targets),
            "rho_weight": rho_weight,
        }
        if rho_weight > 0:
            config |= {
                "margin": c.margin,
                "contrast": c.contrast,
                "contrast_behaviors": sorted(c.contrast_behaviors),
                "contrast_pairs": digest(canonical_json(sorted({use.probe_set for use in self._contrast}))),
                "pairs_per_step": c.pairs_per_step,
            }
        return config

    def train_work(self, rho_weight: float) -> float:
        """Trained tokens, as passes."""
        lengths = self.lengths(self._texts(SeedStreams(0)))
        tokens = self.training.batch_size * sum(lengths) / len(lengths)
        if rho_weight > 0:
            sides = self.lengths([use.probe.positive for use in self._contrast])
            tokens += 2 * self.training.pairs_per_step * sum(sides) / len(sides)
        return BACKWARD_WORK * self._steps() * tokens

    def _steps(self) -> int:
        c = self.training
        return -(-max(1, round(c.sft_size * c.epochs)) // c.batch_size)

    def _spec(self, rho_weight: float) -> TrainSpec:
        c = self.training
        return TrainSpec(
            rho_weight=rho_weight,
            margin=c.margin,
            epochs=c.epochs,
            batch_size=c.batch_size,
            accumulation=c.accumulation,
            lr=c.lr,
            weight_decay=c.weight_decay,
            warmup=c.warmup,
            lora_rank=c.lora_rank,
            lora_alpha=c.lora_alpha,
            lora_targets=tuple(sorted(c.lora_targets)),
            pairs_per_step=c.pairs_per_step,
            max_tokens=c.max_length,
            contrast=c.contrast,
        )

    def _texts(self, streams: SeedStreams) -> list[str]:
        c = self.training
        rng = streams.generator(SFT_SELECTION)
        drawn = draw(self._pools, size=c.sft_size, trap_share=c.trap_share, refusal_share=c.refusal_share, rng=rng)
        return [chat_text(self.loaded.tokenizer, item.instruction, item.response) for item in drawn]
