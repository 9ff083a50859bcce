"""Margin sweep: which γ holds the behaviors that plain fine-tuning loses? γ = 0 is the control without a margin.

With several weights it is the grid γ x λ of the phase diagram. λ = 0 has no margin: one sft-only run a seed.
"""

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field

from runners.arms import AlignmentConfig, make_arm
from runners.cells import Session
from runners.config import Listed, NonNegative


class MarginSweepConfig(AlignmentConfig):
    """Options of `rhodb run margin-sweep`."""

    varied: ClassVar[Mapping[str, str]] = {"rho_weight": "rho_weights", "margin": "margins"}

    margins: Annotated[tuple[NonNegative, ...], Listed] = Field(
        (0.0, 0.02, 0.03, 0.05, 0.1), min_length=1, description="hinge margins γ in nats/token"
    )
    rho_weights: Annotated[tuple[NonNegative, ...], Listed] = Field(
        (0.2,), min_length=1, description="weights λ that every margin is trained with"
    )


class MarginSweep:
    """Train and score rho-guided at each margin γ and weight λ for each seed, against one baseline."""

    config = MarginSweepConfig

    def prepare(self, config: MarginSweepConfig) -> Session:
        """Load model and probes, and expand margins x weights x seeds."""
        from runners.alignment import AlignmentSession

        arms = [
            make_arm("rho-guided", rho_weight=weight, margin=margin)
            for weight in config.rho_weights
            for margin in config.margins
        ]
        return AlignmentSession(config, arms, save_adapters=config.adapters)


MARGIN_SWEEP = MarginSweep()
