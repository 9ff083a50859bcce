"""LoRA adapters on disk, in mlx_lm's format: `mlx_lm.load(model, adapter_path=folder)` reads them."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx_lm.tuner.utils import load_adapters as mlx_load_adapters

from rhodb.errors import InputError
from runners.backend.lora import layer_keys, lora_layers, lora_weights, remove_lora
from runners.backend.models import LoadedModel
from runners.backend.training import TrainSpec

WEIGHTS, CONFIG = "adapters.safetensors", "adapter_config.json"


def save_adapters(loaded: LoadedModel, folder: Path, spec: TrainSpec) -> Path:
    """Write the installed LoRA layers to `folder`, which appears complete or not at all, and replaces an older one.

    Raises InputError without LoRA layers.
    """
    model = loaded.model
    if not lora_layers(model):
        raise InputError("the model has no LoRA layers to save; train it first")
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        mx.save_safetensors(str(draft / WEIGHTS), lora_weights(model))
        (draft / CONFIG).write_text(json.dumps(_config(loaded, spec), indent=2) + "\n", encoding="utf-8")
        draft.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        draft.replace(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def load_adapters(loaded: LoadedModel, folder: Path) -> None:
    """Install saved LoRA layers on a model that has none. `remove_lora` switches them off again.

    Raises InputError where the folder or one of its files is missing, unreadable or made for another model.
    """
    if lora_layers(loaded.model):
        raise InputError("the model has LoRA layers already; call remove_lora first")
    for name in (WEIGHTS, CONFIG):
        if not (folder / name).is_file():
            raise InputError(f"{folder} is no adapter folder: it has no {name}")
    loaded.model.freeze()
    try:
        mlx_load_adapters(loaded.model, str(folder))
    except (ValueError, RuntimeError, KeyError, AttributeError, TypeError) as error:
        remove_lora(loaded)
        reason = " ".join(str(error).split())
        raise InputError(f"cannot load the adapters in {folder}: {reason}") from error
    mx.eval(lora_weights(loaded.model))
    loaded.model.eval()


def _config(loaded: LoadedModel, spec: TrainSpec) -> dict[str, Any]:
    return {
        "model": loaded.record.source,
        "fine_tune_type": "lora",
        "num_layers": len(loaded.model.layers),
        "lora_parameters": {
            "rank": spec.lora_rank,
            "scale": spec.lora_alpha / spec.lora_rank,
            "dropout": 0.0,
            "keys": layer_keys(loaded.model, spec.lora_targets),
        },
    }
