"""The cells of a leaderboard: the base, every model named, and every merge of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from rhodb.errors import InputError
from rhodb.family_records import LeaderboardRow
from rhodb.records import Config
from runners.backend.adapters import Adapter, is_adapter, read_adapter
from runners.backend.merging import (
    RANDOM_METHODS,
    Merge,
    ModelSource,
    Source,
    check_same_architecture,
    merge_models,
    save_model_folder,
)
from runners.backend.models import LoadedModel, load_model
from runners.backend.weights import Changes, Packed, in_place, model_tensors, tensor_bytes
from runners.cells import Cell, CellProgress, CellRows
from runners.leaderboard import LeaderboardConfig
from runners.scoring_session import NOTHING_RANDOM, ScoringSession, with_family
from runners.seeds import SeedStreams


@dataclass(frozen=True, kw_only=True)
class Parent:
    """A model of the leaderboard: one of its own, the base itself, or an adapter for the base."""

    loaded: LoadedModel
    adapter: Adapter | None

    @property
    def fingerprint(self) -> str:
        """Identity of its weights; of an adapter that of its changes."""
        return self.loaded.record.fingerprint if self.adapter is None else self.adapter.fingerprint


class LeaderboardSession(ScoringSession):
    """Holds every model named; adapters and merges are computed for their cell alone."""

    kind: ClassVar[str] = "leaderboard"

    def __init__(self, config: LeaderboardConfig) -> None:
        super().__init__(config)
        self.config = config
        names = config.models or (config.model,)
        if config.merge and len(names) < 2:
            raise InputError(f"a merge needs at least two --models, got {len(names)}")
        weights = config.weights or tuple(1 / len(names) for _ in names)
        if len(weights) != len(names):
            raise InputError(f"--weights has {len(weights)} values for {len(names)} --models; give one a model")
        self._merges = {
            method: Merge(method=method, weights=weights, density=config.density, epsilon=config.epsilon)
            for method in config.merge
        }
        self._parents = {name: self._parent(name) for name in names}
        self._base = model_tensors(self.loaded.model)
        for parent in self._parents.values() if config.merge else ():
            check_same_architecture(self.loaded, parent.loaded)
        packed = any(isinstance(tensor, Packed) for tensor in self._base.values())
        if config.requantize and not packed:
            raise InputError(f"--requantize: nothing in {config.model} is quantised; leave it out")
        self._requantized: Config = {"requantize": config.requantize} if packed else {}

    def _parent(self, name: str) -> Parent:
        c, folder = self.config, Path(name).expanduser()
        if is_adapter(folder):
            adapter = read_adapter(self.loaded, folder, partial=c.partial_adapters, any_base=c.any_base)
            return Parent(loaded=self.loaded, adapter=adapter)
        return Parent(loaded=self.loaded if name == c.model else load_model(name), adapter=None)

    def grid(self) -> Iterator[Cell]:
        c = self.config
        work = self.work(self.uses)
        for name, parent in self._parents.items():
            entry: Config = {"entry": name, "weights_fingerprint": parent.fingerprint}
            if parent.adapter is not None:
                entry |= self._requantized
            yield self.cell(short(name), c.seeds[0], entry, score_work=work)
        for method, merge in self._merges.items():
            axes: Config = self._requantized | {
                "merge_method": method,
                "parents": [parent.fingerprint for parent in self._parents.values()],
                "weights": list(merge.weights),
                "written": c.write_models,
            }
            if method not in ("linear", "slerp", "task-arithmetic"):
                axes |= {"density": merge.density} | ({"epsilon": merge.epsilon} if method == "della" else {})
            for seed in c.seeds if method in RANDOM_METHODS else c.seeds[:1]:
                yield self.cell(method, seed, axes, score_work=work)

    def work_bytes(self) -> int:
        """The other models, and the changed tensors of one adapter or merge, beside scoring."""
        others = {id(p.loaded): p.loaded for p in self._parents.values() if p.loaded is not self.loaded}
        held = sum(tensor_bytes(model_tensors(model.model)) for model in others.values())
        changed = [tensor_bytes(self._base, p.adapter.names()) for p in self._parents.values() if p.adapter]
        if self._merges:
            changed.append(tensor_bytes(self._base, {n for s in self._sources() for n in s.names()}))
        return self.shape.scoring() + held + max(changed, default=0)

    def run_cell(self, cell: Cell, artefacts: Path, progress: CellProgress) -> CellRows:
        axes = cell.identity.config
        if "entry" in axes:
            return self._audit(axes["entry"], progress)
        return self._merged(self._merges[axes["merge_method"]], cell.identity.seed, artefacts, progress)

    def _audit(self, name: str, progress: CellProgress) -> CellRows:
        """Score a model that was named."""
        parent = self._parents[name]
        notes: dict[str, object] = {"seed_semantics": NOTHING_RANDOM}
        told = None
        if parent.adapter is None:
            rows = self.score(self.uses, progress, loaded=parent.loaded)
        else:
            changes = parent.adapter.fused(requantize=self.config.requantize)
            with in_place(self.loaded, changes.tensors):
                rows = self.score(self.uses, progress)
            notes |= parent.adapter.facts() | change_notes(changes)
            told = "; ".join([*parent.adapter.told(), *change_told(changes)])
        row = LeaderboardRow(label=short(name), model_type="original", description=told)
        return with_family(rows, row, entry=name, **notes)

    def _merged(self, merge: Merge, seed: int, artefacts: Path, progress: CellProgress) -> CellRows:
        rng = SeedStreams(seed).generator(f"merge {merge.method}")
        changes = merge_models(self._base, self._sources(), merge, rng, requantize=self.config.requantize)
        with in_place(self.loaded, changes.tensors):
            rows = self.score(self.uses, progress)
            if self.config.write_models:
                save_model_folder(self.loaded, artefacts)
        row = LeaderboardRow(
            label=f"{merge.method} of {', '.join(map(short, self._parents))}",
            model_type="merged",
            merge_method=merge.method,
            parents=tuple(self._parents),
            weights=merge.weights,
            description="; ".join(change_told(changes)) or None,
        )
        return with_family(
            rows,
            row,
            base=self.model.key,
            model_folder=str(artefacts) if self.config.write_models else None,
            seed_semantics="entries dropped" if merge.method in RANDOM_METHODS else NOTHING_RANDOM,
            **change_notes(changes),
        )

    def _sources(self) -> list[Source]:
        """The parents as a merge takes them; the base itself differs in nothing."""
        return [
            parent.adapter or ModelSource({} if parent.loaded is self.loaded else model_tensors(parent.loaded.model))
            for parent in self._parents.values()
        ]


def change_notes(changes: Changes) -> dict[str, object]:
    """How the changed weights are kept, and the share of their change that rounding takes."""
    return {"requantized_matrices": changes.requantized, "change_rounded_away": changes.lost}


def change_told(changes: Changes) -> list[str]:
    """The same for people, where it matters."""
    if not changes.requantized or changes.lost is None:
        return []
    share = min(changes.lost, 9.99)
    return [f"quantised again: rounding is {share:.0%} of the change"]


def short(name: str) -> str:
    """A model's name for people: the last part of a path, shortened where it is a long identifier."""
    last = Path(name).name
    return last if len(last) <= 24 else last[:8]
