"""Weight merging: methods on single tensors, and a merge of whole models in place.

A task vector is a model's weights minus the base's. Weights of linear and slerp merges are shares and are divided by
their sum; those of the methods on task vectors are factors as they stand.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten, tree_unflatten
from numpy.typing import NDArray

from rhodb.errors import InputError
from rhodb.records import digest
from runners.backend.adapters import CONFIG, load_adapters
from runners.backend.lora import lora_layers, remove_lora
from runners.backend.models import LoadedModel, load_model

Method = Literal["linear", "slerp", "task-arithmetic", "ties", "dare-ties", "della"]
Array = NDArray[np.float32]
Weights = dict[str, mx.array]
RANDOM_METHODS: Final = ("dare-ties", "della")


@dataclass(frozen=True, kw_only=True)
class Merge:
    """How to merge."""

    method: Method
    weights: tuple[float, ...]
    """One a parent."""
    density: float = 0.5
    """Share of a task vector's entries kept by ties, dare-ties and della."""
    epsilon: float = 0.1
    """della: keep probabilities spread over density ± epsilon / 2."""

    def __post_init__(self) -> None:
        if not 0 <= self.density <= 1:
            raise InputError(f"density must be in [0, 1], got {self.density:g}")
        if self.method == "slerp" and len(self.weights) != 2:
            raise InputError(f"slerp merges exactly 2 models, got {len(self.weights)}")
        if self.method in ("linear", "slerp") and not sum(self.weights) > 0:
            raise InputError(f"the weights of a {self.method} merge must add up to more than 0")
        if self.method == "della" and not self.epsilon / 2 <= min(self.density, 1 - self.density):
            raise InputError("della needs density - epsilon/2 >= 0 and density + epsilon/2 <= 1")


def linear(parents: Sequence[Array], weights: Sequence[float]) -> Array:
    """Weighted mean."""
    return _sum([w / sum(weights) * p for w, p in zip(weights, parents, strict=True)])


def slerp(first: Array, second: Array, t: float) -> Array:
    """Along the great circle between the directions (Shoemake 1985); nearly parallel ones on the straight line."""
    a, b = first.ravel(), second.ravel()
    norms = float(np.linalg.norm(a)) * float(np.linalg.norm(b))
    cosine = float(np.clip(a @ b / norms, -1, 1)) if norms else 1.0
    angle = float(np.arccos(cosine))
    if np.sin(angle) < 1e-3:
        return linear([first, second], [1 - t, t])
    return _sum([np.sin((1 - t) * angle) / np.sin(angle) * first, np.sin(t * angle) / np.sin(angle) * second])


def trim(delta: Array, density: float) -> Array:
    """Keep the share `density` of the entries with the largest magnitude (ties; Yadav et al. 2023)."""
    keep = round(density * delta.size)
    if keep == 0:
        return np.zeros_like(delta)
    cut = np.partition(np.abs(delta).ravel(), delta.size - keep)[delta.size - keep]
    return np.where(np.abs(delta) >= cut, delta, np.float32(0))


def drop(delta: Array, keep: float | Array, rng: np.random.Generator) -> Array:
    """Keep each entry with its probability and divide it by that (DARE; Yu et al. 2024): unbiased."""
    kept = rng.random(delta.shape, dtype=np.float32) < keep
    return np.divide(delta, keep, out=np.zeros_like(delta), where=kept).astype(np.float32)


def keep_probabilities(delta: Array, density: float, epsilon: float) -> Array:
    """DELLA's (Deep et al. 2024): linear in the rank of the magnitude in its row, within density ± epsilon / 2."""
    ranks = np.argsort(np.argsort(np.abs(delta), axis=-1), axis=-1)
    share = ranks / max(delta.shape[-1] - 1, 1)
    probabilities: Array = (density + epsilon * (share - 0.5)).astype(np.float32)
    return probabilities


def elect(deltas: Sequence[Array], weights: Sequence[float]) -> Array:
    """The sign with the larger total, and the weighted mean of the entries that have it (ties, steps 2 and 3)."""
    weighted = [np.float32(w) * d for w, d in zip(weights, deltas, strict=True)]
    sign = np.sign(_sum(weighted))
    agreeing = [np.where(np.sign(d) == sign, d, 0) for d in weighted]
    mass = _sum(
        [
            np.where((np.sign(d) == sign) & (d != 0), np.float32(abs(w)), 0)
            for w, d in zip(weights, weighted, strict=True)
        ]
    )
    return np.divide(_sum(agreeing), mass, out=np.zeros_like(mass), where=mass > 0)


def merge_tensor(base: Array, parents: Sequence[Array], merge: Merge, rng: np.random.Generator) -> Array:
    """One tensor of the merged model."""
    if merge.method == "linear":
        return linear(parents, merge.weights)
    if merge.method == "slerp":
        return slerp(parents[0], parents[1], merge.weights[1] / sum(merge.weights))
    deltas = [parent - base for parent in parents]
    if merge.method == "task-arithmetic":
        return base + _sum([np.float32(w) * d for w, d in zip(merge.weights, deltas, strict=True)])
    sparse: dict[str, Callable[[Array], Array]] = {
        "ties": lambda d: trim(d, merge.density),
        "dare-ties": lambda d: drop(d, merge.density, rng),
        "della": lambda d: drop(d, keep_probabilities(d, merge.density, merge.epsilon), rng),
    }
    return base + elect([sparse[merge.method](d) for d in deltas], merge.weights)


def merge_weights(base: Weights, parents: Sequence[Weights], merge: Merge, rng: np.random.Generator) -> Weights:
    """Every tensor merged. One that is the very same object everywhere (untouched by an adapter) is handed on."""
    merged = {}
    for name, tensor in base.items():
        own = [parent[name] for parent in parents]
        if all(p is tensor for p in own):
            merged[name] = tensor
        else:
            arrays = [np.array(p.astype(mx.float32)) for p in (tensor, *own)]
            merged[name] = mx.array(merge_tensor(arrays[0], arrays[1:], merge, rng)).astype(tensor.dtype)
    return merged


def model_weights(loaded: LoadedModel) -> Weights:
    """Name -> tensor, shared with the model."""
    found: Any = tree_flatten(loaded.model.parameters())
    return dict(found)


def parent_weights(base: LoadedModel, key: str) -> Weights:
    """The weights of a parent: a model by name, folder or hub id, or a folder with an adapter for the base, fused.

    Raises InputError for a parent whose tensors differ from the base's in names or shapes.
    """
    own = model_weights(base)
    if (Path(key) / CONFIG).is_file():
        return own | _fused(base, Path(key))
    if key == base.record.key:
        return own
    weights = model_weights(load_model(key))
    wrong = sorted(
        n for n in own.keys() | weights.keys() if n not in own or n not in weights or own[n].shape != weights[n].shape
    )
    if wrong:
        raise InputError(
            f"{key!r} and {base.record.key!r} have different shapes (first at {wrong[0]}), so they cannot be merged"
        )
    return weights


def fingerprint(base: Weights, weights: Weights) -> str:
    """Identity of a model by its tensors that are not the base's own."""
    parts = [
        f"{name} {digest(np.array(tensor.astype(mx.float32)).tobytes())}"
        for name, tensor in sorted(weights.items())
        if tensor is not base[name]
    ]
    return digest("\n".join(parts))


def _fused(base: LoadedModel, folder: Path) -> Weights:
    load_adapters(base, folder)
    try:
        fused = {f"{name}.weight": layer.fuse().weight for name, layer in lora_layers(base.model)}
        mx.eval(fused)
        return fused
    finally:
        remove_lora(base)


@contextmanager
def weights_in_place(loaded: LoadedModel, weights: Mapping[str, mx.array]) -> Iterator[None]:
    """Inside the block the model computes with these weights."""
    before = model_weights(loaded)
    try:
        loaded.model.update(tree_unflatten(list(weights.items())))
        mx.eval(loaded.model.parameters())
        yield
    finally:
        loaded.model.update(tree_unflatten(list(before.items())))


def save_model_folder(loaded: LoadedModel, folder: Path) -> None:
    """Write the model as it is now to a folder that `mlx_lm.load` reads."""
    from mlx_lm.utils import save_model

    folder.mkdir(parents=True, exist_ok=True)
    save_model(folder, loaded.model)
    # A GGUF's quantisation is only a remark: its weights were expanded.
    config = {k: v for k, v in loaded.config.items() if not (k == "quantization" and isinstance(v, str))}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    loaded.tokenizer.save_pretrained(str(folder))


def _sum(arrays: Sequence[Any]) -> Array:
    total = arrays[0]
    for array in arrays[1:]:
        total = total + array
    result: Array = np.asarray(total, np.float32)
    return result
