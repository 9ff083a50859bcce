"""The cells of a steering sweep, in the order of layers, so that what lies below a layer is computed once."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np

from rhodb.family_records import SteeringRow
from rhodb.records import Config, digest
from runners.backend.activations import Floats, changed
from runners.backend.steering import PrefixScorer, added, difference_vectors, random_vector
from runners.cells import Cell, CellProgress, CellRows
from runners.scoring_session import NOTHING_RANDOM, ScoringSession, pair_text, with_family
from runners.seeds import SeedStreams
from runners.steering import SteeringConfig

DEFAULT_LAYERS = 10


class SteeringSession(ScoringSession):
    """Layers x α x (vector, controls). The vector does not depend on a seed: it is run under the first one only."""

    kind: ClassVar[str] = "steering"

    def __init__(self, config: SteeringConfig) -> None:
        super().__init__(config)
        self.config = config
        count = self.n_layers
        spread = {round(i * (count - 1) / (DEFAULT_LAYERS - 1)) for i in range(DEFAULT_LAYERS)}
        self.layers = sorted(config.layers if config.layers is not None else spread)
        for layer in self.layers:
            self.check_layer(layer)
        self._pairs = self.train_pairs(config.behavior)

    def grid(self) -> Iterator[Cell]:
        c = self.config
        vector_source = digest("\n".join(f"{p.positive}\n{p.negative}" for p in self._pairs))
        for layer in self.layers:
            for alpha in c.alpha:
                axes: Config = {
                    "layer": layer,
                    "alpha": alpha,
                    "behavior": c.behavior,
                    "method": c.method,
                    "vector_pairs": vector_source,
                    "scored_split": "eval",
                }
                for seed, control in self._vectors():
                    what = f"layer {layer} α={alpha:g}" + ("" if control is None else f" control {control}")
                    share = 1 - layer / self.n_layers
                    work = self.work(self.eval_uses) * share
                    yield self.cell(what, seed, axes | {"control": control}, score_work=work)

    def _vectors(self) -> Iterator[tuple[int, int | None]]:
        """(seed, number of the control or None)."""
        yield self.config.seeds[0], None
        yield from ((seed, control) for seed in self.config.seeds for control in range(self.config.controls))

    def run_cell(self, cell: Cell, artefacts: Path, progress: CellProgress) -> CellRows:
        axes = cell.identity.config
        layer, alpha, control = axes["layer"], axes["alpha"], axes["control"]
        vector = self._difference[layer]
        norm = float(np.linalg.norm(vector))
        if control is not None:
            rng = SeedStreams(cell.identity.seed).generator(f"steering control {layer} {control}")
            vector = random_vector(norm, len(vector), rng)
        change = added(vector, alpha)
        rows = self.scored_by(self.eval_uses, lambda _: self._scorer.score(layer, change, progress.scored))
        with changed(self.loaded.model, {layer: change}):
            rows = self.answered(rows, progress)
        row = SteeringRow(
            layer=layer,
            depth=layer / self.n_layers,
            alpha=alpha,
            vector_norm=norm,
            steered_behavior=axes["behavior"],
            method=axes["method"],
            control=control,
        )
        return with_family(
            rows,
            row,
            vector_pairs=len(self._pairs),
            prefix_cache_mib=round(self._scorer.cached_bytes / 2**20, 1),
            seed_semantics="direction of the random control" if control is not None else NOTHING_RANDOM,
        )

    def work_bytes(self) -> int:
        """The kept prefixes, beside scoring."""
        return self.shape.scoring() + self.shape.residuals(round(self.work(self.eval_uses)))

    @cached_property
    def _difference(self) -> dict[int, Floats]:
        """All layers' vectors from one pass over the train pairs."""
        limit = self.config.max_length
        return difference_vectors(self.loaded, self._pairs, self.layers, self.config.method, max_tokens=limit)

    @cached_property
    def _scorer(self) -> PrefixScorer:
        texts = [pair_text(use) for use in self.eval_uses]
        return PrefixScorer(self.loaded, texts, max_tokens=self.config.max_length)
