"""The cells of a leaderboard: the base, every model named, and every merge of them."""

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from rhodb.errors import InputError
from rhodb.family_records import LeaderboardRow
from rhodb.records import Config
from runners.backend.memory import weight_bytes
from runners.backend.merging import (
    RANDOM_METHODS,
    Merge,
    fingerprint,
    merge_weights,
    model_weights,
    parent_weights,
    save_model_folder,
    weights_in_place,
)
from runners.cells import Cell, CellProgress, CellRows
from runners.leaderboard import LeaderboardConfig
from runners.scoring_session import NOTHING_RANDOM, ScoringSession, with_family
from runners.seeds import SeedStreams


class LeaderboardSession(ScoringSession):
    """Holds the weights of every model (tensors that an adapter does not touch are shared with the base)."""

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
        self._parents = {name: parent_weights(self.loaded, name) for name in names}
        base = model_weights(self.loaded)
        self._prints = {name: fingerprint(base, parent) for name, parent in self._parents.items()}

    def grid(self) -> Iterator[Cell]:
        c = self.config
        work = self.work(self.uses)
        for name in self._parents:
            entry: Config = {"entry": name, "weights_fingerprint": self._prints[name]}
            yield self.cell(short(name), c.seeds[0], entry, score_work=work)
        for method, merge in self._merges.items():
            axes: Config = {
                "merge_method": method,
                "parents": [self._prints[name] for name in self._parents],
                "weights": list(merge.weights),
                "written": c.write_models,
            }
            if method not in ("linear", "slerp", "task-arithmetic"):
                axes |= {"density": merge.density} | ({"epsilon": merge.epsilon} if method == "della" else {})
            for seed in c.seeds if method in RANDOM_METHODS else c.seeds[:1]:
                yield self.cell(method, seed, axes, score_work=work)

    def work_bytes(self) -> int:
        """The models' own tensors, and one merge of them, beside scoring."""
        base = model_weights(self.loaded)
        own = [
            weight_bytes({name: tensor for name, tensor in weights.items() if tensor is not base[name]})
            for weights in self._parents.values()
        ]
        return self.shape.scoring() + sum(own) + (max(own) if self._merges else 0)

    def run_cell(self, cell: Cell, artefacts: Path, progress: CellProgress) -> CellRows:
        axes = cell.identity.config
        if "entry" in axes:
            with weights_in_place(self.loaded, self._parents[axes["entry"]]):
                rows = self.score(self.uses, progress)
            row = LeaderboardRow(label=short(axes["entry"]), model_type="original")
            return with_family(rows, row, entry=axes["entry"], seed_semantics=NOTHING_RANDOM)
        merge = self._merges[axes["merge_method"]]
        rng = SeedStreams(cell.identity.seed).generator(f"merge {merge.method}")
        parents = list(self._parents.values())
        with weights_in_place(self.loaded, merge_weights(model_weights(self.loaded), parents, merge, rng)):
            rows = self.score(self.uses, progress)
            if self.config.write_models:
                save_model_folder(self.loaded, artefacts)
        row = LeaderboardRow(
            label=f"{merge.method} of {', '.join(map(short, self._parents))}",
            model_type="merged",
            merge_method=merge.method,
            parents=tuple(self._parents),
            weights=merge.weights,
        )
        return with_family(
            rows,
            row,
            base=self.model.key,
            model_folder=str(artefacts) if self.config.write_models else None,
            seed_semantics="entries dropped" if merge.method in RANDOM_METHODS else NOTHING_RANDOM,
        )


def short(name: str) -> str:
    """A model's name for people: the last part of a path, shortened where it is a long identifier."""
    last = Path(name).name
    return last if len(last) <= 24 else last[:8]
