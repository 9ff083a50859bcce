"""Freeze sweep: truncate q, k and o, freeze the bottom layers and the embeddings, fine-tune the rest, score.

Without the fine-tune freezing has no effect, and an earlier version of this experiment was that no-op: its runner
therefore refuses several freeze ratios there unless forced.
"""

from typing import Annotated

from pydantic import Field

from rhodb.errors import InputError
from runners.cells import Session
from runners.config import Listed, NonNegative, Share, TrainingConfig

Ratio = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]


class FreezeConfig(TrainingConfig):
    """Options of `rhodb run freeze-sweep`."""

    compress_ratios: Annotated[tuple[Ratio, ...], Listed] = Field(
        (0.7, 1.0), min_length=1, description="shares of the singular values of q, k and o to keep; 1: uncompressed"
    )
    freeze_ratios: Annotated[tuple[Share, ...], Listed] = Field(
        (0.0, 0.25, 0.5, 0.75, 0.9), min_length=1, description="shares of the layers, from the bottom, to freeze"
    )
    fine_tune: bool = Field(True, description="fine-tune what is not frozen; without it freezing changes nothing")
    rho_weight: NonNegative = Field(0.0, description="λ of the fine-tune; 0: instructions only")
    requantize: bool = Field(False, description="quantise compressed layers again where the model is quantised")
    force: bool = Field(False, description="run cells that are copies of each other, too")


class FreezeSweep:
    """Truncate q, k and o projections, freeze the bottom layers, fine-tune the rest, and score."""

    config = FreezeConfig

    def prepare(self, config: FreezeConfig) -> Session:
        """Load model and probes, and expand compression x freezing x seeds."""
        from runners.freeze_session import FreezeSession

        if not config.fine_tune and not config.force:
            refuse_copies(config)
        return FreezeSession(config)


def refuse_copies(config: FreezeConfig) -> None:
    """Raises InputError where cells without a fine-tune would differ in nothing but their labels."""
    for option, values in (("--freeze-ratios", config.freeze_ratios), ("--seeds", config.seeds)):
        if len(values) > 1:
            raise InputError(
                f"without a fine-tune {option} changes nothing, so its {len(values)} values would give copies of one "
                "result; give one value, leave out --no-fine-tune, or add --force"
            )


FREEZE_SWEEP = FreezeSweep()
