"""Steering: a vector from one behavior's pairs is added after one layer, and every behavior is scored.

The vectors come from the train split, the scores from the eval split. Random vectors of equal norm are the controls:
what any push of that size does.
"""

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator

from runners.cells import Session
from runners.config import Behavior, Listed, RunConfig

Number = Annotated[float, Field(allow_inf_nan=False)]


def _expand_ranges(value: Any) -> Any:
    """`4,10:30:2` becomes 4, 10, 12, ..., 28: Python's ranges, the end not included."""
    if not isinstance(value, str):
        return [value] if isinstance(value, int) else value
    numbers: list[int | str] = []
    for part in filter(None, (piece.strip() for piece in value.split(","))):
        if re.fullmatch(r"\d+:\d+(:[1-9]\d*)?", part):
            numbers += range(*map(int, part.split(":")))
        else:
            numbers.append(part)
    return numbers


LayerRanges = BeforeValidator(_expand_ranges)


class SteeringConfig(RunConfig):
    """Options of `rhodb run steering`."""

    layers: Annotated[tuple[Annotated[int, Field(ge=0)], ...], LayerRanges] | None = Field(
        None, min_length=1, description="layers to steer after, from 0: 4,6 or 10:30:2  [default: ten spread evenly]"
    )
    alpha: Annotated[tuple[Number, ...], Listed] = Field((4.0,), min_length=1, description="factors of the vector")
    behavior: Behavior = Field("sycophancy", description="behavior whose pairs make the vector")
    method: Literal["mean-last", "mean-all", "pca"] = Field(
        "mean-last",
        description="mean difference at the last token; mean difference over all tokens; first principal component of "
        "the differences at the last token",
    )
    controls: Annotated[int, Field(ge=0)] = Field(
        0, description="random vectors of equal norm for each layer, α and seed"
    )

    @field_validator("layers", "alpha")
    @classmethod
    def _once(cls, values: tuple[float, ...] | None) -> tuple[float, ...] | None:
        for value in values or ():
            if values is not None and values.count(value) > 1:
                raise ValueError(f"{value:g} is given twice")
        return values


class Steering:
    """Add a steering vector after each layer in turn, and score every behavior on the eval split."""

    config = SteeringConfig

    def prepare(self, config: SteeringConfig) -> Session:
        """Load model and probes, and expand layers x α x (the vector, controls)."""
        from runners.steering_session import SteeringSession

        return SteeringSession(config)


STEERING = Steering()
