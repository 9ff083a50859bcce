"""Ablation: which part of the loss does what? Four conditions for each seed, against one baseline.

sft-only has no contrastive term; contrastive-only has no SFT term; shuffled-pairs swaps the labels of a random
half of the pairs; rho-guided is the full loss.
"""

from typing import Annotated

from pydantic import Field

from rhodb.vocabulary import CONDITIONS
from runners.arms import AlignmentConfig, make_arm
from runners.cells import Session
from runners.config import Condition, Listed


class AblationConfig(AlignmentConfig):
    """Options of `rhodb run ablation`."""

    conditions: Annotated[tuple[Condition, ...], Listed] = Field(
        CONDITIONS, min_length=1, description="conditions to train"
    )


class Ablation:
    """Train and score each condition for each seed, against one baseline."""

    config = AblationConfig

    def prepare(self, config: AblationConfig) -> Session:
        """Load model and probes, and expand conditions x seeds."""
        # Imported here: `rhodb run ablation --help` shows the options without loading MLX.
        from runners.alignment import AlignmentSession

        arms = [make_arm(c, rho_weight=config.rho_weight, margin=config.margin) for c in config.conditions]
        return AlignmentSession(config, arms, save_adapters=config.adapters)


ABLATION = Ablation()
