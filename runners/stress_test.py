"""Stress test: does a trained model still refuse what it should, and answer what it may?

Baseline and trained models answer jailbreaks and benign controls; every answer is stored whole with its verdict. The
models are those of the alignment experiments: a condition x seed that is done is not trained again, its adapter is
loaded. One that is not done is trained and scored as an ablation does it.
"""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from runners.arms import AlignmentConfig
from runners.cells import Session
from runners.config import Listed
from runners.judge import judge_version

StressCondition = Literal["baseline", "sft-only", "rho-guided", "contrastive-only", "shuffled-pairs"]


class StressTestConfig(AlignmentConfig):
    """Options of `rhodb run stress-test`."""

    conditions: Annotated[tuple[StressCondition, ...], Listed] = Field(
        ("baseline", "sft-only", "contrastive-only", "rho-guided"), min_length=1, description="models that answer"
    )
    prompts: str | None = Field(
        None, description="JSONL file of prompts  [default: 25 jailbreaks and 15 benign controls]"
    )
    judge: str = Field("rules", description="who decides what is a refusal: rules or logprob")

    @field_validator("judge")
    @classmethod
    def _known(cls, name: str) -> str:
        judge_version(name)
        return name


class StressTest:
    """Let baseline and trained models answer jailbreaks and benign prompts, and judge which they refuse."""

    config = StressTestConfig

    def prepare(self, config: StressTestConfig) -> Session:
        """Load model, probes and prompts, and expand conditions x seeds."""
        from runners.stress_session import StressSession

        return StressSession(config)


STRESS_TEST = StressTest()
