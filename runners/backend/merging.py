"""Weight merging: methods on single tensors, and a merge of whole models in place.

A task vector is a model's weights minus the base's. Weights of linear and slerp merges are shares and are divided by
their sum; those of the methods on task vectors are factors as they stand.
"""

import json
import shutil
import tempfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import numpy as np

from rhodb.errors import InputError
from rhodb.place import replace_folder
from runners.backend.models import LoadedModel
from runners.backend.weights import Array, Changes, Packed, Tensors, check_floats, dense, model_tensors

Method = Literal["linear", "slerp", "task-arithmetic", "ties", "dare-ties", "della"]
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


class Source(Protocol):
    """A parent of a merge: which tensors differ from the base's, and their numbers."""

    def names(self) -> Collection[str]: ...

    def dense(self, name: str) -> Array: ...


@dataclass(frozen=True)
class ModelSource:
    """A parent that is a model of its own."""

    tensors: Tensors

    def names(self) -> Collection[str]:
        return self.tensors.keys()

    def dense(self, name: str) -> Array:
        return dense(self.tensors[name])


def merge_models(
    base: Tensors, sources: Sequence[Source], merge: Merge, rng: np.random.Generator, *, requantize: bool = False
) -> Changes:
    """Every tensor that a parent has otherwise than the base, merged in float32.

    Quantised matrices are expanded and stay so, unless `requantize`. Raises InputError for tensors of integers.
    """
    changes = Changes(requantize=requantize)
    differ = set().union(*(source.names() for source in sources))
    for name, tensor in base.items():
        if name not in differ:
            continue
        check_floats(name, tensor)
        own = dense(tensor)
        parents = [source.dense(name) if name in source.names() else own for source in sources]
        changes.add(name, tensor, own, merge_tensor(own, parents, merge, rng))
    return changes


def check_same_architecture(base: LoadedModel, parent: LoadedModel) -> None:
    """Raises InputError where the parent's tensors, configuration or tokens do not allow a merge with the base."""
    pair = f"{parent.record.key!r} and {base.record.key!r}"
    shapes, others = ({n: tuple(t.shape) for n, t in model_tensors(m.model).items()} for m in (base, parent))
    if wrong := sorted(n for n in shapes.keys() | others.keys() if shapes.get(n) != others.get(n)):
        raise InputError(f"{pair} have different shapes (first at {wrong[0]}), so they cannot be merged")
    ours, theirs = (computing_arguments(m) for m in (base, parent))
    if wrong := sorted(n for n in ours.keys() | theirs.keys() if ours.get(n) != theirs.get(n)):
        told = ", ".join(f"{n} {theirs.get(n)!r} and {ours.get(n)!r}" for n in wrong)
        raise InputError(f"{pair} compute differently from their weights ({told}), so they cannot be merged")
    ours, theirs = ({i: t for t, i in m.tokenizer.get_vocab().items()} for m in (base, parent))
    if wrong := sorted(i for i in ours.keys() & theirs.keys() if ours[i] != theirs[i]):
        i = wrong[0]
        raise InputError(f"{pair} have different tokens (id {i} is {theirs[i]!r} and {ours[i]!r}): no merge of them")


_NO_ARITHMETIC: Final = ("max_position_embeddings", "quantization", "quantization_config")


def computing_arguments(loaded: LoadedModel) -> dict[str, Any]:
    """What a model's class was told of its configuration, but for what changes no number."""
    arguments: dict[str, Any] = vars(loaded.model.args) if hasattr(loaded.model, "args") else loaded.config
    return {name: value for name, value in arguments.items() if name not in _NO_ARITHMETIC}


def save_model_folder(loaded: LoadedModel, folder: Path) -> None:
    """Write the model as it is now to a folder that `mlx_lm.load` reads, whole or not at all; an older one is replaced.

    Raises InputError where anything but an older copy of the model stands.
    """
    from mlx_lm.utils import save_model

    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        save_model(draft, loaded.model)
        (draft / "config.json").write_text(json.dumps(_config_as_it_is(loaded), indent=2) + "\n", encoding="utf-8")
        loaded.tokenizer.save_pretrained(str(draft))
        draft.chmod(0o755)
        replace_folder(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _config_as_it_is(loaded: LoadedModel) -> dict[str, Any]:
    """The configuration; what it says of quantisation holds for the layers that are quantised now."""
    config = dict(loaded.config)
    packed = [n for n, t in model_tensors(loaded.model).items() if isinstance(t, Packed)]
    for key in ("quantization", "quantization_config"):
        told = config.get(key)
        if not packed or isinstance(told, str):  # a GGUF's quantisation is only a remark: its weights were expanded
            config.pop(key, None)
        elif isinstance(told, dict):
            # An entry for a single layer would quantise it again, whatever its weights are.
            own = {n.removesuffix(".weight") for n in packed}
            config[key] = {n: v for n, v in told.items() if not isinstance(v, dict) or n in own}
    return config


def _sum(arrays: Sequence[Any]) -> Array:
    total = arrays[0]
    for array in arrays[1:]:
        total = total + array
    result: Array = np.asarray(total, np.float32)
    return result
