"""Fidelity-Bench: an audit of true and false statements, one row a category of probes.

Categories are the probe files of the behaviors factual and bench (default, mandela, medical, ..., clinical, logic,
social). All their probes are scored: nothing here is trained, so no split is needed.
"""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from runners.cells import Session
from runners.config import Behavior, Listed, RunConfig


class FidelityConfig(RunConfig):
    """Options of `rhodb run fidelity-bench`."""

    behaviors: Annotated[tuple[Behavior, ...], Listed] | None = Field(
        ("factual", "bench"), min_length=1, description="behaviors whose probe files are categories"
    )
    categories: Annotated[tuple[str, ...], Listed] | None = Field(
        None, min_length=1, description="probe files to audit, e.g. mandela,logic  [default: all of these behaviors]"
    )
    probe_split: Literal["hash", "cluster", "none"] = Field(
        "none", description="none: score all probes; hash or cluster: only the half that training leaves out"
    )
    probes_per_behavior: Annotated[int, Field(ge=0)] = Field(0, description="pairs to score per category; 0 for all")

    @field_validator("categories")
    @classmethod
    def _once(cls, values: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for value in values or ():
            if values is not None and values.count(value) > 1:
                raise ValueError(f"{value!r} is given twice")
        return values


class FidelityBench:
    """Score true against false statements by category: truth correlation with p, mean difference, accuracy."""

    config = FidelityConfig

    def prepare(self, config: FidelityConfig) -> Session:
        """Load the model and the probes of the categories."""
        from runners.fidelity_session import FidelitySession

        return FidelitySession(config)


FIDELITY_BENCH = FidelityBench()
