"""Leaderboard: audits of models, and of merges of them that are made here.

A model is a name, a folder in MLX format, a hub id, or a folder with an adapter for `--model`: mlx_lm's (LoRA, DoRA,
full), PEFT's (LoRA, DoRA), or one that an ablation saved under results/adapters/. `--model` is also the base of the
task vectors.
"""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from runners.cells import Session
from runners.config import Listed, RunConfig, Share

MergeMethod = Literal["linear", "slerp", "task-arithmetic", "ties", "dare-ties", "della"]


class LeaderboardConfig(RunConfig):
    """Options of `rhodb run leaderboard`."""

    models: Annotated[tuple[str, ...], Listed] = Field(
        (), description="models or adapter folders to audit and to merge  [default: none but --model]"
    )
    merge: Annotated[tuple[MergeMethod, ...], Listed] = Field(
        (), description="merges of --models: linear, slerp, task-arithmetic, ties, dare-ties, della"
    )
    weights: Annotated[tuple[Annotated[float, Field(allow_inf_nan=False)], ...], Listed] | None = Field(
        None, description="one a model: shares (linear, slerp) or factors of task vectors  [default: equal, sum 1]"
    )
    density: Share = Field(0.5, description="share of a task vector kept by ties, dare-ties and della")
    epsilon: Share = Field(0.1, description="della: keep probabilities spread over density ± epsilon / 2")
    requantize: bool = Field(
        False,
        description="quantise changed matrices again as the base's were; else they stay expanded, so that no small "
        "change is rounded away",
    )
    partial_adapters: bool = Field(
        False, description="take adapters that lack tensors; the layers concerned stay as they are in the base"
    )
    any_base: bool = Field(False, description="take adapters that rhodb trained on other weights than --model's")
    write_models: bool = Field(False, description="write the merged models beside the warehouse")

    @field_validator("models", "merge")
    @classmethod
    def _once(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        for value in values:
            if values.count(value) > 1:
                raise ValueError(f"{value!r} is given twice")
        return values


class Leaderboard:
    """Score models and merges of them, made here from their weights."""

    config = LeaderboardConfig

    def prepare(self, config: LeaderboardConfig) -> Session:
        """Load the base, its probes and every model named."""
        from runners.leaderboard_session import LeaderboardSession

        return LeaderboardSession(config)


LEADERBOARD = Leaderboard()
