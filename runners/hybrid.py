"""Hybrid sweep: compression, freezing, guided fine-tuning and a sparse autoencoder in one pipeline."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator

from runners.attack_defense import SaeConfig
from runners.cells import Session
from runners.config import Behavior, Listed, NonNegative, Share, TrainingConfig
from runners.freeze_sweep import Ratio
from runners.steering import LayerRanges


class HybridConfig(TrainingConfig, SaeConfig):
    """Options of `rhodb run hybrid`."""

    varied: ClassVar[Mapping[str, str]] = {"rho_weight": "rho_weights"}

    compress_ratios: Annotated[tuple[Ratio, ...], Listed] = Field(
        (0.7, 1.0), min_length=1, description="shares of the singular values of q, k and o to keep; 1: uncompressed"
    )
    freeze_fractions: Annotated[tuple[Share, ...], Listed] = Field(
        (0.75,), min_length=1, description="shares of the layers, from the bottom, to freeze"
    )
    sae_layers: Annotated[tuple[Annotated[int, Field(ge=0)] | Literal["none"], ...], LayerRanges] = Field(
        ("none",), min_length=1, description="layers of the autoencoder: none, 4 or 10:20:5"
    )
    rho_weights: Annotated[tuple[NonNegative, ...], Listed] = Field(
        (0.0, 0.2), min_length=1, description="λ of the fine-tune; 0: instructions only"
    )
    sae_target: Behavior = Field("refusal", description="behavior whose features are scaled")
    sae_scale: NonNegative = Field(2.0, description="factor of these features")

    @field_validator("compress_ratios", "freeze_fractions", "sae_layers", "rho_weights")
    @classmethod
    def _once(cls, values: tuple[float | str, ...]) -> tuple[float | str, ...]:
        for value in values:
            if values.count(value) > 1:
                raise ValueError(f"{value} is given twice")
        return values


class Hybrid:
    """Compress, freeze and fine-tune, scale features of an autoencoder, and score, with a time for each phase."""

    config = HybridConfig

    def prepare(self, config: HybridConfig) -> Session:
        """Load model and probes, and expand compression x freezing x autoencoder x λ x seeds."""
        from runners.hybrid_session import HybridSession

        return HybridSession(config)


HYBRID = Hybrid()
