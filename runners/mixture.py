"""Mixture: can the refusals among the instructions buffer what fine-tuning does to refusal?"""

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field

from runners.arms import AlignmentConfig, make_arm
from runners.cells import Session
from runners.config import Condition, Listed, Share


class MixtureConfig(AlignmentConfig):
    """Options of `rhodb run mixture`."""

    varied: ClassVar[Mapping[str, str]] = {"refusal_share": "refusal_shares"}

    refusal_shares: Annotated[tuple[Share, ...], Listed] = Field(
        (0.0, 0.1, 0.25, 0.5), min_length=1, description="shares of the general instructions answered by a refusal"
    )
    conditions: Annotated[tuple[Condition, ...], Listed] = Field(
        ("sft-only", "rho-guided"), min_length=1, description="conditions to train with each share"
    )


class Mixture:
    """Train and score each condition with each share of refusals for each seed, against one baseline."""

    config = MixtureConfig

    def prepare(self, config: MixtureConfig) -> Session:
        """Load model and probes, and expand shares x conditions x seeds."""
        from runners.alignment import AlignmentSession

        arms = [
            make_arm(condition, rho_weight=config.rho_weight, margin=config.margin, refusal_share=share)
            for share in config.refusal_shares
            for condition in config.conditions
        ]
        return AlignmentSession(config, arms, save_adapters=config.adapters)


MIXTURE = Mixture()
