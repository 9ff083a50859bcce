"""Duration: does longer training amplify or saturate what one epoch does?

Each duration is a run with a learning-rate schedule of its own, scored at its end and on the way (table
`checkpoint_scores`). A run without a score on the way is the run that an ablation trains.
"""

from typing import Annotated

from pydantic import Field, field_validator

from runners.arms import AlignmentConfig, make_arm
from runners.cells import Session
from runners.config import Condition, Listed, Positive


class DurationConfig(AlignmentConfig):
    """Options of `rhodb run duration`."""

    epochs: Annotated[tuple[Positive, ...], Listed] = Field(  # type: ignore[assignment]  # a list takes its place
        (1.0, 2.0, 3.0), min_length=1, description="durations: passes over the SFT texts"
    )
    checkpoints_per_epoch: Annotated[int, Field(ge=0)] = Field(
        1, description="scores on the way, evenly spaced; 0 for none"
    )
    conditions: Annotated[tuple[Condition, ...], Listed] = Field(
        ("sft-only", "rho-guided"), min_length=1, description="conditions to train for each duration"
    )

    @field_validator("epochs")
    @classmethod
    def _different(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if len(set(values)) < len(values):
            raise ValueError("a duration is given twice")
        return values


class Duration:
    """Train each condition for each duration and seed, scored on the way, against one baseline."""

    config = DurationConfig

    def prepare(self, config: DurationConfig) -> Session:
        """Load model and probes, and expand durations x conditions x seeds."""
        from runners.alignment import AlignmentSession

        arms = [
            make_arm(condition, rho_weight=config.rho_weight, margin=config.margin, epochs=epochs)
            for epochs in config.epochs
            for condition in config.conditions
        ]
        return AlignmentSession(
            config, arms, save_adapters=config.adapters, checkpoints_per_epoch=config.checkpoints_per_epoch
        )


DURATION = Duration()
