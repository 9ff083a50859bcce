"""Adapters of every kind for a tiny model, written by mlx_lm's own functions as `mlx_lm.lora` does."""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx_lm
import numpy as np
from mlx.nn.layers.quantized import quantize
from mlx.utils import tree_flatten, tree_map
from mlx_lm.tuner.utils import linear_to_lora_layers
from tiny_model import make_tiny_model, save_tiny_model

from runners.backend.models import LoadedModel

KEYS = ["self_attn.q_proj", "self_attn.v_proj", "mlp.down_proj"]
RANK, SCALE = 3, 0.7
KINDS: dict[str, dict[str, Any]] = {
    "lora": {"keys": KEYS},
    "lora of everything": {"num_layers": -1},
    "lora of one layer": {"num_layers": 1, "keys": KEYS},
    "lora of embeddings": {"keys": [*KEYS, "model.embed_tokens"]},
    "dora": {"fine_tune_type": "dora", "keys": KEYS},
    "full": {"fine_tune_type": "full", "num_layers": 1},
}
"""Name -> what its configuration says."""
TOKENS = mx.array([[5, 9, 2, 7, 1, 200, 31]])


def make_base(*, bits: int | None = None, mode: str = "affine", seed: int = 0, **changes: Any) -> LoadedModel:
    """A tiny model of two layers, quantised or not."""
    loaded = make_tiny_model(seed, **changes)
    if bits is not None:
        quantize(loaded.model, group_size=32, bits=bits, mode=mode)
        loaded.config["quantization"] = {"group_size": 32, "bits": bits, "mode": mode}
    return loaded


def save_adapter(folder: Path, kind: str, *, base: LoadedModel, seed: int = 7) -> Path:
    """Give a model (which is used up) random adapters of a kind, and save what `mlx_lm.lora` would."""
    told = {"fine_tune_type": "lora", "num_layers": 0} | KINDS[kind]
    keys = told.pop("keys", None)
    parameters = {"rank": RANK, "scale": SCALE, "dropout": 0.0} | ({} if keys is None else {"keys": keys})
    model, rng = base.model, np.random.default_rng(seed)
    model.freeze()
    if told["fine_tune_type"] == "full":
        for layer in model.layers[-max(told["num_layers"], 0) :]:
            layer.unfreeze()
        parameters = None
    else:
        linear_to_lora_layers(model, told["num_layers"], parameters, use_dora=told["fine_tune_type"] == "dora")
    moved = tree_map(
        lambda p: p + mx.array(rng.normal(0, 0.1, p.shape).astype("float32")), model.trainable_parameters()
    )
    folder.mkdir(parents=True)
    mx.save_safetensors(str(folder / "adapters.safetensors"), dict(tree_flatten(moved)))
    (folder / "adapter_config.json").write_text(json.dumps(told | {"lora_parameters": parameters, "model": "tiny"}))
    return folder


def logits_of_mlx_lm(model_folder: Path, adapter: Path | None = None) -> np.ndarray:
    """What mlx_lm itself computes with a model folder and an adapter folder."""
    model = mlx_lm.load(str(model_folder), adapter_path=None if adapter is None else str(adapter))[0]
    return np.array(model(TOKENS).astype(mx.float32))


def saved_base(folder: Path, **options: Any) -> Path:
    """A model folder of `make_base`."""
    folder.mkdir(parents=True, exist_ok=True)
    return save_tiny_model(folder, make_base(**options))


def rewrite(adapter: Path, change: Any = None, **config: Any) -> Path:
    """Change an adapter's tensors by a function of their dictionary, and its configuration."""
    path, told = adapter / "adapters.safetensors", adapter / "adapter_config.json"
    if change is not None:
        tensors = dict(mx.load(str(path)))
        mx.eval(tensors)
        mx.save_safetensors(str(path), change(tensors))
    told.write_text(json.dumps(json.loads(told.read_text()) | config))
    return adapter
