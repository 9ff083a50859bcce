"""Dose-response: how do the behaviors move with λ, the weight of the contrastive term?

λ = 0 is sft-only under its own name, so it is the run that an ablation trains.
"""

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field

from runners.arms import AlignmentConfig, make_arm
from runners.cells import Session
from runners.config import Listed, NonNegative


class DoseResponseConfig(AlignmentConfig):
    """Options of `rhodb run dose-response`."""

    varied: ClassVar[Mapping[str, str]] = {"rho_weight": "rho_weights"}

    rho_weights: Annotated[tuple[NonNegative, ...], Listed] = Field(
        (0.0, 0.1, 0.2, 0.5), min_length=1, description="weights λ of the contrastive term; 0 is sft-only"
    )


class DoseResponse:
    """Train and score rho-guided at each weight λ for each seed, against one baseline."""

    config = DoseResponseConfig

    def prepare(self, config: DoseResponseConfig) -> Session:
        """Load model and probes, and expand weights x seeds."""
        from runners.alignment import AlignmentSession

        arms = [make_arm("rho-guided", rho_weight=weight, margin=config.margin) for weight in config.rho_weights]
        return AlignmentSession(config, arms, save_adapters=config.adapters)


DOSE_RESPONSE = DoseResponse()
