"""Every experiment on weights or activations in a form that takes the tiny model about a second."""

from pathlib import Path
from typing import Any

from rhodb.records import TrainStepRow
from runners.cells import Session
from runners.config import resolve
from runners.registry import load_runner

_SAE = {"sae_features": "64", "sae_epochs": "2", "sae_batch": "64", "features": "8", "sae_tokens": "1500"}
_TRAINING = {"sft_size": "4"}

EXPERIMENTS: dict[str, dict[str, str]] = {
    "freeze-sweep": {"compress_ratios": "0.5,1", "freeze_ratios": "0.5", **_TRAINING},
    "cf90": {"ratio": "0.5", "freeze_ratio": "0.5", "seeds": "1,2", **_TRAINING},
    "steering": {"layers": "0:2", "controls": "1"},
    "attack-defense": {"scales": "0,1,3", "behaviors": "refusal", **_SAE},
    "hybrid": {
        "compress_ratios": "0.5",
        "freeze_fractions": "0.5",
        "sae_layers": "none,1",
        "rho_weights": "0.2",
        **_TRAINING,
        **_SAE,
    },
    "leaderboard": {"merge": "linear,slerp,task-arithmetic,ties,dare-ties,della"},
    "fidelity-bench": {"behaviors": "factual"},
}
"""Runner -> its options, beside model and probes."""

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "qwen2": {"model_type": "qwen2", "tie_word_embeddings": False},
    "qwen3": {"model_type": "qwen3", "head_dim": 8},
    "mistral": {"model_type": "mistral", "num_key_value_heads": 1, "tie_word_embeddings": False},
    "llama of quantised layers": {"num_key_value_heads": 4, "quantized": True},
}
"""Name -> what differs from the tiny Llama. Qwen 2 has biases at q, k and v, Qwen 3 norms of q and k."""


class Silent:
    """Shows nothing of a cell's progress, but counts what it was told."""

    def __init__(self) -> None:
        self.steps = 0
        self.texts = 0

    def step(self, row: TrainStepRow, total: int) -> None:
        assert 1 <= row.step <= total
        self.steps += 1

    def scored(self, done: int, total: int) -> None:
        assert 1 <= done <= total
        self.texts = done


def options_of(runner: str, model: Path, probes: Path, other: Path | None = None) -> dict[str, str]:
    """The options of an experiment on a tiny model. `other`: a second model, for the leaderboard to merge."""
    shared = {"model": str(model), "probes": str(probes), "max_length": "64"}
    models = {"models": f"{model},{other}"} if runner == "leaderboard" else {}
    return shared | models | EXPERIMENTS[runner]


def session_of(runner: str, options: dict[str, str]) -> Session:
    """The experiment made ready, as the command line does it."""
    declared = load_runner(runner)
    session: Session = declared.prepare(resolve(declared.config, preset="quick", options=options))
    return session
