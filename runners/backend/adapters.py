"""Adapters: written in mlx_lm's format, read from mlx_lm's folders and PEFT's, checked, and put on a model for a while.

An adapter is read into *changes*, one a parameter: a low-rank update (LoRA, DoRA) or a whole tensor (full fine-tuning).
mlx_lm's own loader is not used: it takes a file that lacks half of its layers, or holds NaN, without a word, and
writes full fine-tunes over the model's weights for good.
"""

import json
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import mlx.core as mx
from mlx.nn.layers.linear import Linear
from mlx.nn.layers.quantized import QuantizedLinear
from mlx.utils import tree_unflatten
from mlx_lm.tuner.lora import LoRALinear

import rhodb
from rhodb.errors import InputError
from rhodb.place import replace_folder
from rhodb.records import digest
from runners.backend import adapters_mlx, adapters_peft
from runners.backend.adapter_changes import Change, Layout, LowRank, numbers
from runners.backend.lora import layer_keys, lora_layers, lora_weights
from runners.backend.models import LoadedModel
from runners.backend.training import TrainSpec
from runners.backend.weights import (
    Array,
    Changes,
    Tensors,
    check_floats,
    dense,
    in_place,
    model_tensors,
    named_modules,
    not_finite,
)

WEIGHTS, PEFT_WEIGHTS, CONFIG = "adapters.safetensors", "adapter_model.safetensors", "adapter_config.json"
BASE: Final = "base_fingerprint"
"""Key of rhodb's own adapters: the weights' fingerprint of the model that they were trained on."""


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """An adapter read for a model."""

    folder: Path
    layout: Layout
    changes: Mapping[str, Change]
    """Parameter -> change."""
    expected: int
    """Tensors that the configuration asks for."""
    missing: tuple[str, ...]
    """Those that the file lacks; the changes that they belong to are left out."""
    base_fingerprint: str | None
    fingerprint: str
    """Identity: a hash of the changes themselves, whatever the folder and its file are called."""
    base: Tensors
    """Of the model that it was read for."""

    def names(self) -> Collection[str]:
        """The parameters that it changes."""
        return self.changes.keys()

    def dense(self, name: str) -> Array:
        """A changed parameter, computed in float32 from the base's expanded one."""
        return self.changes[name].applied(dense(self.base[name]))

    def fused(self, *, requantize: bool = False) -> Changes:
        """The base's changed tensors."""
        changes = Changes(requantize=requantize)
        for name, change in self.changes.items():
            own = dense(self.base[name])
            changes.add(name, self.base[name], own, change.applied(own))
        return changes

    def told(self) -> list[str]:
        """What a reader of its scores should know."""
        lacks = [f"{len(self.missing)} of {self.expected} tensors missing"] if self.missing else []
        return [
            f"{self.layout.kind} by {self.layout.written_by}, trained on {self.layout.base or 'a base unknown'}",
            *lacks,
        ]

    def facts(self) -> dict[str, Any]:
        """For a run's notes."""
        return {
            "adapter": f"{self.layout.kind} by {self.layout.written_by}",
            "adapter_base": self.layout.base,
            "adapter_tensors": self.expected - len(self.missing),
            "adapter_tensors_missing": len(self.missing),
        }


def save_adapters(loaded: LoadedModel, folder: Path, spec: TrainSpec) -> Path:
    """Write the installed LoRA layers to `folder`, which appears complete or not at all, and replaces an older one.

    Raises InputError without LoRA layers, or where anything but an older adapter stands.
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
        replace_folder(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def is_adapter(folder: Path) -> bool:
    """Whether it is a folder with an adapter's configuration."""
    return (folder / CONFIG).is_file()


def read_adapter(loaded: LoadedModel, folder: Path, *, partial: bool = False, any_base: bool = False) -> Adapter:
    """Read an adapter for a model, which stays as it is.

    `partial`: take one that lacks tensors, and leave the parameters concerned as they are. `any_base`: take one that
    rhodb trained on other weights. Raises InputError (one sentence) for what is missing, unreadable, not finite, made
    for another model, or of a kind unknown here.
    """
    config = _read_config(folder)
    peft = "peft_type" in config
    layout = (adapters_peft if peft else adapters_mlx).layout(loaded, config, folder)
    if (trained_on := config.get(BASE)) not in (None, loaded.record.fingerprint) and not any_base:
        raise InputError(
            f"adapter {folder} was trained on other weights ({layout.base}, fingerprint {str(trained_on)[:12]}) than "
            f"{loaded.record.key!r} ({loaded.record.fingerprint[:12]}); --any-base takes it nevertheless"
        )
    tensors = _read_tensors(folder / (PEFT_WEIGHTS if peft else WEIGHTS))
    expected = {name: shape for slot in layout.slots for name, shape in slot.tensors.values()}
    missing = tuple(n for n in expected if n not in tensors and n not in layout.optional)
    _check(folder, layout, expected, tensors, missing=() if partial else missing)
    changes = {
        slot.parameter: slot.build({part: tensors[name] for part, (name, _) in slot.tensors.items()})
        for slot in layout.slots
        if all(name in tensors for name, _ in slot.tensors.values())
    }
    if not changes:
        raise InputError(f"adapter {folder} changes nothing: no tensor of its {len(expected)} is there")
    base = model_tensors(loaded.model)
    for name in changes:
        check_floats(name, base[name])
    return Adapter(
        folder=folder,
        layout=layout,
        changes=changes,
        expected=len(expected.keys() - (layout.optional - tensors.keys())),
        missing=missing,
        base_fingerprint=trained_on,
        fingerprint=_fingerprint(changes),
        base=base,
    )


@contextmanager
def adapter_on(loaded: LoadedModel, adapter: Adapter) -> Iterator[None]:
    """Inside the block the model has the adapter: LoRA as layers beside the projections, as training leaves them;
    everything else fused in float32. Afterwards the model is bit for bit as before."""
    model, modules = loaded.model, dict(named_modules(loaded.model))
    layers = {name.removesuffix(".weight"): change for name, change in adapter.changes.items()}
    if adapter.layout.kind != "lora" or any(type(modules[path]) not in _LINEAR for path in layers):
        with in_place(loaded, adapter.fused().tensors):
            yield
        return
    with ExitStack() as undo:
        for path, change in layers.items():
            assert isinstance(change, LowRank)
            layer = LoRALinear.from_base(modules[path], r=change.a.shape[0], scale=change.scale)
            layer.lora_a, layer.lora_b = mx.contiguous(change.a.T), mx.contiguous(change.b.T)
            undo.callback(model.update_modules, tree_unflatten([(path, modules[path])]))
            model.update_modules(tree_unflatten([(path, layer)]))
        mx.eval(lora_weights(model))
        yield


_LINEAR: Final = (Linear, QuantizedLinear)


def _check(
    folder: Path,
    layout: Layout,
    expected: Mapping[str, tuple[int, ...]],
    tensors: Mapping[str, mx.array],
    *,
    missing: tuple[str, ...],
) -> None:
    """Raises InputError for tensors that have no place, another shape, no finite values, or are missing."""
    have = f"adapter {folder} ({layout.kind} by {layout.written_by}): "
    if unknown := sorted(tensors.keys() - expected.keys()):
        raise InputError(f"{have}{_listed(unknown)} has no place in this model by the adapter's configuration")
    if wrong := [n for n, t in tensors.items() if tuple(t.shape) != tuple(expected[n])]:
        n = wrong[0]
        told = f"{_listed(wrong)} has the shape {tuple(tensors[n].shape)}, expected {tuple(expected[n])}"
        raise InputError(f"{have}{told}; it was made for another model or rank")
    if bad := not_finite(tensors):
        raise InputError(f"{have}{_listed(bad)} holds NaN or infinity")
    if missing:
        raise InputError(
            f"{have}{len(missing)} of {len(expected)} tensors are missing: {_listed(missing)}; --partial-adapters "
            "leaves the layers concerned as they are in the base"
        )


def _listed(names: Collection[str]) -> str:
    first, *others = names
    return f"{first} (and {len(others)} more)" if others else first


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    if not path.is_file():
        raise InputError(f"{folder} is no adapter folder: it has no {CONFIG}")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    if not isinstance(config, dict):
        raise InputError(f"{path} holds no object of settings")
    return config


def _read_tensors(path: Path) -> dict[str, mx.array]:
    if not path.is_file():
        others = ", ".join(sorted(p.name for p in path.parent.glob("adapter*.*") if p.name != CONFIG))
        beside = f" (but {others}: save it as safetensors)" if others else ""
        raise InputError(f"{path.parent} is no adapter folder: it has no {path.name}{beside}")
    try:
        tensors: Any = mx.load(str(path))
        mx.eval(tensors)
    except (RuntimeError, ValueError) as error:
        raise InputError(f"cannot read {path}: {' '.join(str(error).split())}") from error
    return dict(sorted(tensors.items()))


def _config(loaded: LoadedModel, spec: TrainSpec) -> dict[str, Any]:
    return {
        "model": loaded.record.source,
        BASE: loaded.record.fingerprint,
        "written_by": f"rhodb {rhodb.__version__}",
        "fine_tune_type": "lora",
        "num_layers": len(loaded.model.layers) - loaded.frozen_layers,
        "lora_parameters": {
            "rank": spec.lora_rank,
            "scale": spec.lora_alpha / spec.lora_rank,
            "dropout": 0.0,
            "keys": layer_keys(loaded.model, spec.lora_targets),
        },
    }


def _fingerprint(changes: Mapping[str, Change]) -> str:
    lines = []
    for name, change in sorted(changes.items()):
        lines.append(f"{name} {getattr(change, 'scale', '')}")
        for part, value in vars(change).items():
            if isinstance(value, mx.array):
                lines.append(f"{part} {value.dtype} {value.shape} {digest(numbers(value).tobytes())}")
    return digest("\n".join(lines))
