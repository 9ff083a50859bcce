"""Which tensors an adapter in mlx_lm's format has, by its `adapter_config.json`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlx.nn.layers.base import Module
from mlx.nn.layers.embedding import Embedding
from mlx.nn.layers.linear import Linear
from mlx.nn.layers.quantized import QuantizedEmbedding, QuantizedLinear
from mlx_lm.models.switch_layers import QuantizedSwitchLinear, SwitchLinear

from rhodb.errors import InputError
from runners.backend.adapter_changes import Kind, Layout, Slot, Whole, low_rank_slot
from runners.backend.models import LoadedModel
from runners.backend.weights import Tensors, layer_paths, model_tensors, named_modules

_LINEAR = (Linear, QuantizedLinear)
_EXPERTS = (SwitchLinear, QuantizedSwitchLinear)
_EMBEDDINGS = (Embedding, QuantizedEmbedding)


def layout(loaded: LoadedModel, config: dict[str, Any], folder: Path) -> Layout:
    """Raises InputError for a configuration that mlx_lm does not write, or layers whose adapters are not known here."""
    kind = config.get("fine_tune_type", "lora")
    if kind not in ("lora", "dora", "full"):
        raise InputError(f"adapter {folder}: fine_tune_type is {kind!r}; known are lora, dora and full")
    model, tensors = loaded.model, model_tensors(loaded.model)
    blocks = layer_paths(model)
    count = config.get("num_layers", 0)
    if not isinstance(count, int):
        raise InputError(f"adapter {folder}: num_layers is {count!r}, expected a number")
    blocks = blocks[-max(count, 0) :]  # as mlx_lm counts: 0 and -1 are all of them
    slots = _whole(tensors) if kind == "full" else _low_rank(model, blocks, tensors, kind, config, folder)
    # A full fine-tune trains what is in its blocks; a file may hold more.
    elsewhere = {name for name in tensors if not name.startswith(tuple(f"{block}." for block in blocks))}
    return Layout(
        kind=kind,
        written_by="rhodb" if str(config.get("written_by", "")).startswith("rhodb") else "mlx-lm",
        base=config.get("model"),
        slots=tuple(slots),
        optional=frozenset(elsewhere if kind == "full" else ()),
    )


def _whole(tensors: Tensors) -> list[Slot]:
    """A whole tensor for every parameter; for a quantised matrix an unquantised one."""
    return [
        Slot(parameter=n, tensors={"tensor": (n, tuple(t.shape))}, build=lambda parts: Whole(tensor=parts["tensor"]))
        for n, t in tensors.items()
    ]


def _low_rank(
    model: Module, blocks: list[str], tensors: Tensors, kind: Kind, config: dict[str, Any], folder: Path
) -> list[Slot]:
    parameters = config.get("lora_parameters")
    if not isinstance(parameters, dict):
        raise InputError(f"adapter {folder}: {kind} needs lora_parameters in its configuration")
    if lacking := [key for key in ("rank", "scale") if not isinstance(parameters.get(key), int | float)]:
        raise InputError(f"adapter {folder}: lora_parameters has no number for {' and '.join(lacking)}")
    rank, scale = int(parameters["rank"]), float(parameters["scale"])
    slots = []
    for path, module in _chosen(model, blocks, parameters.get("keys")):
        shape = tuple(tensors[f"{path}.weight"].shape) if f"{path}.weight" in tensors else ()
        shapes: dict[str, tuple[int, ...]]
        if type(module) in _EXPERTS and kind == "lora":
            experts, rows, columns = shape
            shapes, transposed = {"a": (experts, rank, columns), "b": (experts, rows, rank)}, ""
        elif type(module) in _LINEAR:
            rows, columns = shape
            shapes, transposed = {"a": (columns, rank), "b": (rank, rows)}, "ab"
        elif type(module) in _EMBEDDINGS and not (kind == "dora" and isinstance(module, QuantizedEmbedding)):
            rows, columns = shape  # lora_a has a row a token: it is the left factor here
            shapes, transposed = {"b": (rows, rank), "a": (rank, columns)}, ""
        else:
            raise InputError(f"adapter {folder}: {kind} of {path}, a {type(module).__name__}, is not known here")
        names = {"a": "lora_a", "b": "lora_b", "m": "m"}
        if type(module) in _EMBEDDINGS:
            names |= {"a": "lora_b", "b": "lora_a"}
        if kind == "dora":
            shapes["m"] = (rows,)
        in_file = {part: (f"{path}.{names[part]}", size) for part, size in shapes.items()}
        slots.append(low_rank_slot(f"{path}.weight", in_file, scale=scale, transposed=transposed))
    return slots


def _chosen(model: Module, blocks: list[str], keys: list[str] | None) -> Iterator[tuple[str, Module]]:
    """The layers that mlx_lm gives adapters: those of the keys, within the blocks or by their full name; without keys
    every layer of a suitable kind in the blocks."""
    for path, module in named_modules(model):
        block = next((b for b in blocks if path.startswith(f"{b}.")), None)
        within = path.removeprefix(f"{block}.") if block else None
        suitable = hasattr(module, "to_lora") or isinstance(module, _LINEAR + _EXPERTS + _EMBEDDINGS)
        if (within is not None and suitable) if keys is None else (within in keys or path in keys):
            yield path, module
