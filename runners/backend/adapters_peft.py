"""Which tensors a LoRA or DoRA adapter in PEFT's format has, by its `adapter_config.json`."""

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from mlx.nn.layers.base import Module
from mlx.nn.layers.linear import Linear
from mlx.nn.layers.quantized import QuantizedLinear

from rhodb.errors import InputError
from runners.backend.adapter_changes import Layout, low_rank_slot
from runners.backend.models import LoadedModel
from runners.backend.weights import model_tensors, named_modules

_PREFIX: Final = "base_model.model."
_READ: Final = {
    *("peft_type", "r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern", "use_dora", "target_modules"),
    *("exclude_modules", "layers_to_transform", "layers_pattern", "base_model_name_or_path"),
}
_WITHOUT_EFFECT: Final = {
    *("task_type", "auto_mapping", "peft_version", "revision", "inference_mode", "lora_dropout", "megatron_core"),
    *("qalora_group_size", "runtime_config", "eva_config", "ensure_weight_tying", "parent_library"),
    # MLX's linear layers hold (out, in), whatever the original's held, as B A is.
    "fan_in_fan_out",
}
_PLAIN_STARTS: Final = (True, False, "gaussian", "orthogonal", "eva")
"""`init_lora_weights` that leave the base as it is; others (pissa, olora, ...) train against a changed base."""


def layout(loaded: LoadedModel, config: dict[str, Any], folder: Path) -> Layout:
    """Raises InputError for an adapter of another method than LoRA, or a setting whose effect is not known here."""
    _check_settings(config, folder)
    model, tensors = loaded.model, model_tensors(loaded.model)
    rank, alpha = config.get("r", 8), config.get("lora_alpha", 8)
    dora = bool(config.get("use_dora"))
    slots = []
    for path, module in _targets(model, config, folder):
        if type(module) not in (Linear, QuantizedLinear):
            raise InputError(
                f"adapter {folder}: its target {path} is a {type(module).__name__} here; of PEFT adapters those of "
                "linear layers are read"
            )
        rows, columns = tensors[f"{path}.weight"].shape
        own_rank = int(_pattern(config.get("rank_pattern"), path, rank))
        own_alpha = float(_pattern(config.get("alpha_pattern"), path, alpha))
        in_file: dict[str, tuple[str, tuple[int, ...]]] = {
            "a": (f"{_PREFIX}{path}.lora_A.weight", (own_rank, columns)),
            "b": (f"{_PREFIX}{path}.lora_B.weight", (rows, own_rank)),
        }
        if dora:
            in_file["m"] = (f"{_PREFIX}{path}.lora_magnitude_vector", (rows,))
        scale = own_alpha / (math.sqrt(own_rank) if config.get("use_rslora") else own_rank)
        slots.append(low_rank_slot(f"{path}.weight", in_file, scale=scale))
    base = config.get("base_model_name_or_path")
    return Layout(kind="dora" if dora else "lora", written_by="PEFT", base=base, slots=tuple(slots))


def _check_settings(config: Mapping[str, Any], folder: Path) -> None:
    if config["peft_type"] != "LORA":
        raise InputError(f"adapter {folder}: its peft_type is {config['peft_type']!r}; of PEFT's methods LORA is read")
    start = config.get("init_lora_weights", True)
    if start not in _PLAIN_STARTS:
        raise InputError(f"adapter {folder}: init_lora_weights {start!r} changes the base itself; save the adapter as "
                         "plain LoRA (PEFT's path_initial_model_for_weight_conversion)")  # fmt: skip
    for name, value in config.items():
        if name in _READ | _WITHOUT_EFFECT | {"init_lora_weights"} or not value or (name, value) == ("bias", "none"):
            continue
        raise InputError(f"adapter {folder}: rhodb does not read PEFT adapters with {name} = {value!r}")


def _targets(model: Module, config: Mapping[str, Any], folder: Path) -> list[tuple[str, Module]]:
    """The layers that PEFT would adapt in a model of the same names."""
    wanted = config.get("target_modules")
    if not wanted:
        raise InputError(f"adapter {folder}: its configuration names no target_modules")
    by_name = not isinstance(wanted, str) or wanted.lower() == "all-linear"
    if by_name and isinstance(wanted, str):
        linear: list[tuple[str, Module]] = [
            (p, m) for p, m in named_modules(model) if isinstance(m, Linear | QuantizedLinear)
        ]
        found = [(path, module) for path, module in linear if path != "lm_head"]
    else:
        # lists are of names or their ends, a text is an expression for the whole name
        found = [(p, m) for p, m in named_modules(model) if _matches(wanted, p)]
    excluded = config.get("exclude_modules") or ()
    found = [
        (path, m) for path, m in found if not _matches(excluded, path) and (not by_name or _in_layers(config, path))
    ]
    if not found:
        raise InputError(f"adapter {folder}: the model has none of its target_modules {wanted!r}")
    return found


def _matches(wanted: str | Iterable[str], path: str) -> bool:
    if isinstance(wanted, str):
        return re.fullmatch(wanted, path) is not None
    return any(path == name or path.endswith(f".{name}") for name in wanted)


def _in_layers(config: Mapping[str, Any], path: str) -> bool:
    """Whether the layer's number is among `layers_to_transform`, which PEFT heeds where targets are a list."""
    layers = config.get("layers_to_transform")
    if layers is None or layers == []:
        return True
    patterns = config.get("layers_pattern") or [r"[^.]*"]
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        if match := re.match(rf"(?:^|.*?\.){pattern}\.(\d+)\.", path):
            return int(match[1]) in ([layers] if isinstance(layers, int) else layers)
    return False


def _pattern(patterns: Mapping[str, Any] | None, path: str, default: Any) -> Any:
    """The value of the first pattern that the end of the path matches."""
    return next((v for key, v in (patterns or {}).items() if re.match(rf"(.*\.)?({key})$", path)), default)
