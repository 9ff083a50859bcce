"""LoRA layers on a loaded model: installed from the run's own random stream, and removed without a trace."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import mlx.core as mx
from mlx.nn.layers.base import Module
from mlx.nn.layers.linear import Linear
from mlx.nn.layers.quantized import QuantizedLinear
from mlx_lm.tuner.lora import LoRALinear
from mlx_lm.tuner.utils import linear_to_lora_layers, remove_lora_layers

from rhodb.errors import InputError
from runners.backend.anatomy import model_type
from runners.backend.models import LoadedModel
from runners.seeds import LORA_INIT, SeedStreams


def install_lora(
    loaded: LoadedModel, *, rank: int, alpha: float, targets: tuple[str, ...], streams: SeedStreams
) -> None:
    """Wrap the named projections of the layers not frozen; freeze everything else. The model's output is unchanged.

    A is uniform in ±1/sqrt(inputs) as in mlx_lm, drawn from the stream LORA_INIT alone; B is zero; the update is
    scaled by alpha / rank. Raises InputError where a projection does not exist or LoRA is installed already.
    """
    model = loaded.model
    if lora_layers(model):
        raise InputError("the model has LoRA layers already; call remove_lora first")
    keys = layer_keys(model, targets)
    try:
        model.freeze()
    except AttributeError as error:  # RecurrentGemma's class in mlx_lm 0.32 does not initialise its base class
        kind = model_type(model)
        raise InputError(f"model type {kind!r} cannot be trained: mlx_lm cannot freeze its weights") from error
    top = len(model.layers) - loaded.frozen_layers
    linear_to_lora_layers(model, top, {"rank": rank, "scale": alpha / rank, "dropout": 0.0, "keys": keys})
    rng = streams.generator(LORA_INIT)
    for _, layer in lora_layers(model):
        bound = 1 / math.sqrt(layer.lora_a.shape[0])
        layer.lora_a = mx.array(rng.uniform(-bound, bound, layer.lora_a.shape).astype("float32"))
    mx.eval(lora_weights(model))


def remove_lora(loaded: LoadedModel) -> None:
    """Put the untouched base layers back. Harmless without LoRA."""
    remove_lora_layers(loaded.model)


@contextmanager
def lora_installed(
    loaded: LoadedModel, *, rank: int, alpha: float, targets: tuple[str, ...], streams: SeedStreams
) -> Iterator[LoadedModel]:
    """`install_lora`, and `remove_lora` at the end of the block whatever happens in it."""
    install_lora(loaded, rank=rank, alpha=alpha, targets=targets, streams=streams)
    try:
        yield loaded
    finally:
        remove_lora(loaded)


def lora_layers(model: Module) -> list[tuple[str, LoRALinear]]:
    """The installed LoRA layers with their names, in the order of names."""
    return sorted(
        ((name, module) for name, module in _named_modules(model) if isinstance(module, LoRALinear)),
        key=lambda item: item[0],
    )


def lora_weights(model: Module) -> dict[str, mx.array]:
    """Name -> lora_a or lora_b, as mlx_lm stores them."""
    return {
        f"{name}.{leaf}": getattr(layer, leaf) for name, layer in lora_layers(model) for leaf in ("lora_a", "lora_b")
    }


def layer_keys(model: Module, targets: tuple[str, ...]) -> list[str]:
    """Names within a layer (`self_attn.q_proj`) of the projections whose last part is in `targets`."""
    linear = sorted(
        {
            name
            for layer in model.layers
            for name, module in _named_modules(layer)
            if isinstance(module, Linear | QuantizedLinear | LoRALinear) and not name.endswith(".linear")
        }
    )
    keys = [name for name in linear if name.rsplit(".", 1)[-1] in targets]
    missing = set(targets) - {name.rsplit(".", 1)[-1] for name in keys}
    if missing or not targets:
        choices = sorted({name.rsplit(".", 1)[-1] for name in linear})
        wrong = ", ".join(sorted(missing)) or "(none given)"
        raise InputError(f"no projection {wrong}; choose LoRA targets from {', '.join(choices)}")
    return keys


def _named_modules(module: Module) -> list[tuple[str, Module]]:
    modules: list[tuple[str, Module]] = module.named_modules()
    return modules
