"""A scoring session whose cells also train: the instruction texts, the contrast pairs, the training's identity.

A *recipe* is a training configuration that leaves nothing open: the session's own, or what an experiment makes of it.
"""

from collections.abc import Callable

from rhodb.errors import InputError
from rhodb.records import Config, TrainStepRow, canonical_json, digest
from runners.backend.freezing import n_frozen, train_above
from runners.backend.lora import layer_keys
from runners.backend.tokenizer import chat_text
from runners.backend.training import TrainResult, TrainSpec
from runners.config import TrainingConfig
from runners.probes import select_pairs
from runners.scoring_session import BACKWARD_WORK, ScoringSession, pairs_by_behavior
from runners.seeds import SFT_SELECTION, SeedStreams
from runners.sft_data import build_pools, draw

SEED_SEMANTICS = "selection and order of the training texts, pairs, LoRA init"

_IDENTITY = (
    *("rho_weight", "sft_size", "trap_share", "refusal_share", "epochs", "batch_size", "accumulation"),
    *("lr", "weight_decay", "warmup", "lora_rank", "lora_alpha"),
)
_CONTRAST_IDENTITY = ("margin", "contrast", "pairs_per_step")
_SPEC = (
    *("rho_weight", "margin", "epochs", "batch_size", "accumulation", "lr", "weight_decay", "warmup"),
    *("lora_rank", "lora_alpha", "pairs_per_step", "contrast"),
)


class TrainingSession(ScoringSession):
    """Adds training to a scoring session: of all layers, or of those above a frozen part."""

    def __init__(self, config: TrainingConfig) -> None:
        super().__init__(config)
        self.training = config
        contrast = select_pairs(
            self.as_split, behaviors=config.contrast_behaviors, split=config.probe_split, per_behavior=None
        )
        self._contrast = [use for use in contrast if use.split in ("train", "none")]
        self.contrast_pools = pairs_by_behavior(self._contrast)
        self._pools = build_pools(
            self.as_split, split=config.probe_split, trap_behaviors=config.contrast_behaviors, data=config.sft_data
        )
        layer_keys(self.loaded.model, config.lora_targets)  # a wrong target is said before anything runs

    def fine_tune(
        self, frozen: int, rho_weight: float, seed: int, on_step: Callable[[TrainStepRow, int], None]
    ) -> TrainResult:
        """Train adapters above the `frozen` bottom layers; they stay on the model until `remove_lora`."""
        recipe, streams = self.recipe(rho_weight), SeedStreams(seed)
        streams.seed_globals()
        steps = n_steps(recipe)
        return train_above(
            self.loaded,
            self.sft_texts(recipe, streams),
            self.contrast_pools if rho_weight > 0 else {},
            train_spec(recipe),
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

    def recipe(self, rho_weight: float) -> TrainingConfig:
        """The session's own training at this λ."""
        return self.training.model_copy(update={"rho_weight": rho_weight})

    def training_identity(self, recipe: TrainingConfig) -> Config:
        """What a training is known by: only what has an effect at its λ."""
        config: Config = {name: getattr(recipe, name) for name in _IDENTITY}
        config |= {"sft_data": self._pools.fingerprint, "lora_targets": sorted(recipe.lora_targets)}
        if recipe.rho_weight > 0:
            config |= {name: getattr(recipe, name) for name in _CONTRAST_IDENTITY} | {
                "contrast_behaviors": sorted(recipe.contrast_behaviors),
                "contrast_pairs": digest(canonical_json(sorted({use.probe_set for use in self._contrast}))),
            }
        return config

    def train_work(self, recipe: TrainingConfig, *, use_sft: bool = True) -> float:
        """Trained tokens, as passes: a step's texts and both sides of its pairs, forward and backward."""
        tokens = 0.0
        if use_sft:
            lengths = self.lengths(self.sft_texts(recipe, SeedStreams(0)))
            tokens += recipe.batch_size * sum(lengths) / len(lengths)
        if recipe.rho_weight > 0:
            sides = self.lengths([use.probe.positive for use in self._contrast])
            tokens += 2 * recipe.pairs_per_step * sum(sides) / len(sides)
        return BACKWARD_WORK * n_steps(recipe) * tokens

    def work_bytes(self) -> int:
        """A training step, whose largest part is the longest pair or text."""
        pairs = [sum(self.lengths([use.probe.positive, use.probe.negative])) for use in self._contrast]
        return self.shape.training(max([self.training.max_length, *pairs]))

    def sft_texts(self, recipe: TrainingConfig, streams: SeedStreams) -> list[str]:
        """The texts of an epoch, in the chat form of the model."""
        drawn = draw(
            self._pools,
            size=recipe.sft_size,
            trap_share=recipe.trap_share,
            refusal_share=recipe.refusal_share,
            rng=streams.generator(SFT_SELECTION),
        )
        return [chat_text(self.loaded.tokenizer, item.instruction, item.response) for item in drawn]


def n_steps(recipe: TrainingConfig) -> int:
    """Micro-batches of a training."""
    return -(-max(1, round(recipe.sft_size * recipe.epochs)) // recipe.batch_size)


def train_spec(recipe: TrainingConfig, *, use_sft: bool = True, shuffle_pairs: bool = False) -> TrainSpec:
    """A recipe as the backend takes it."""
    return TrainSpec(
        use_sft=use_sft,
        shuffle_pairs=shuffle_pairs,
        max_tokens=recipe.max_length,
        lora_targets=tuple(sorted(recipe.lora_targets)),
        **{name: getattr(recipe, name) for name in _SPEC},
    )
