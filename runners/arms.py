"""Arms: what an alignment experiment trains for each seed. A condition under its proper name, with its dose."""

from dataclasses import dataclass

from pydantic import Field

from rhodb.errors import InputError
from runners.config import Condition, TrainingConfig


class AlignmentConfig(TrainingConfig):
    """Options that all alignment experiments share."""

    adapters: bool = Field(True, description="save the trained adapters beside the warehouse")


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One trained condition with its dose, and where an experiment varies them its mixture and duration."""

    condition: Condition
    rho_weight: float
    margin: float
    refusal_share: float | None = None
    epochs: float | None = None
    """None: as the configuration says."""

    @property
    def label(self) -> str:
        parts: list[str] = [self.condition]
        if self.condition != "sft-only":
            parts += [f"λ={self.rho_weight:g}", f"γ={self.margin:g}"]
        if self.refusal_share is not None:
            parts.append(f"refusals={self.refusal_share:g}")
        if self.epochs is not None:
            parts.append(f"epochs={self.epochs:g}")
        return " ".join(parts)

    def applied(self, config: TrainingConfig) -> TrainingConfig:
        """The configuration with this arm's dose, and its own mixture and duration."""
        own = {name: getattr(self, name) for name in ("rho_weight", "margin", "refusal_share", "epochs")}
        return config.model_copy(update={name: value for name, value in own.items() if value is not None})


def make_arm(
    condition: Condition,
    *,
    rho_weight: float,
    margin: float,
    refusal_share: float | None = None,
    epochs: float | None = None,
) -> Arm:
    """An arm under its proper name: without a contrastive term, rho-guided and shuffled-pairs are sft-only.

    Raises InputError for contrastive-only at λ = 0, which has no loss at all.
    """
    if condition == "sft-only" or (rho_weight == 0 and condition != "contrastive-only"):
        return Arm(condition="sft-only", rho_weight=0.0, margin=0.0, refusal_share=refusal_share, epochs=epochs)
    if rho_weight == 0:
        raise InputError(
            "contrastive-only with --rho-weight 0 would train nothing; give a weight above 0 or leave it out"
        )
    return Arm(condition=condition, rho_weight=rho_weight, margin=margin, refusal_share=refusal_share, epochs=epochs)
