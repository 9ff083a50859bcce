"""CF90: truncate q, k and o, calibrate with a gentle fine-tune above frozen layers; what is left of factual knowledge?

The seed changes the calibration: its texts, their order and the adapters' start. Without calibration nothing is
random, and further seeds would be copies.
"""

from typing import Annotated

from pydantic import Field

from rhodb.errors import InputError
from runners.cells import Session
from runners.config import NonNegative, Share, TrainingConfig


class Cf90Config(TrainingConfig):
    """Options of `rhodb run cf90`."""

    ratio: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = Field(
        0.7, description="share of the singular values of q, k and o to keep"
    )
    calibrate: bool = Field(True, description="fine-tune gently after the compression")
    freeze_ratio: Share = Field(0.75, description="share of the layers, from the bottom, that calibration leaves alone")
    rho_weight: NonNegative = Field(0.0, description="λ of the calibration; 0: instructions only")
    requantize: bool = Field(False, description="quantise compressed layers again where the model is quantised")


class Cf90:
    """Compress, calibrate for each seed, and compare factual retention and correlation with before."""

    config = Cf90Config

    def prepare(self, config: Cf90Config) -> Session:
        """Load model and probes, one cell a seed."""
        from runners.freeze_session import Cf90Session

        if not config.calibrate and len(config.seeds) > 1:
            raise InputError(
                f"without calibration nothing is random, so the {len(config.seeds)} seeds would be copies of one "
                "result; give one seed or leave out --no-calibrate"
            )
        if config.behaviors is not None and "factual" not in config.behaviors:
            raise InputError("cf90 measures factual retention; add factual to --behaviors")
        return Cf90Session(config)


CF90 = Cf90()
