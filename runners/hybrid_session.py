"""The cells of a hybrid sweep: one pipeline of timed phases over one model, which is as before afterwards."""

import itertools
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from rhodb.family_records import HybridPhaseRow, HybridRow
from rhodb.records import Config
from runners.attack_session import fit_sae, rank_for, sae_config
from runners.backend.activations import changed
from runners.backend.freezing import n_frozen
from runners.backend.lora import remove_lora
from runners.backend.svd import compressed
from runners.cells import Cell, CellProgress, CellRows
from runners.hybrid import HybridConfig
from runners.scoring_session import with_family
from runners.seeds import SeedStreams
from runners.training_session import SEED_SEMANTICS, TrainingSession


class _Clock:
    """Times of the phases of a run, in their order."""

    def __init__(self) -> None:
        self.rows: list[HybridPhaseRow] = []

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.rows.append(HybridPhaseRow(position=len(self.rows), phase=name, seconds=time.perf_counter() - start))


class HybridSession(TrainingSession):
    """Compression x freezing x autoencoder x λ x seeds."""

    kind: ClassVar[str] = "hybrid"

    def __init__(self, config: HybridConfig) -> None:
        super().__init__(config)
        self.config = config
        for fraction in config.freeze_fractions:
            self.check_trainable(fraction)
        for layer in config.sae_layers:
            if isinstance(layer, int):
                self.check_layer(layer)
                self.train_pairs(config.sae_target)

    def grid(self) -> Iterator[Cell]:
        c = self.config
        axes = itertools.product(c.compress_ratios, c.freeze_fractions, c.sae_layers, c.rho_weights, c.seeds)
        for ratio, fraction, layer, rho_weight, seed in axes:
            config: Config = self.training_identity(self.recipe(rho_weight)) | {
                "compress_ratio": ratio,
                "freeze_fraction": fraction,
                "sae_layer": None if layer == "none" else layer,
            }
            if layer != "none":
                config |= sae_config(c) | {"sae_target": c.sae_target, "sae_scale": c.sae_scale}
            yield self.cell(
                f"keep {ratio:g} freeze {fraction:g} sae {layer} λ={rho_weight:g}",
                seed,
                config,
                train_work=self.train_work(self.recipe(rho_weight)),
                score_work=self.work(self.uses),
            )

    def run_cell(self, cell: Cell, artefacts: Path, progress: CellProgress) -> CellRows:
        axes, seed, clock = cell.identity.config, cell.identity.seed, _Clock()
        layer, rho_weight = axes["sae_layer"], axes["rho_weight"]
        notes: dict[str, object] = {}
        with ExitStack() as stack:
            with clock.phase("compress"):
                compression = stack.enter_context(compressed(self.loaded, axes["compress_ratio"]))
            stack.callback(remove_lora, self.loaded)
            with clock.phase("fine_tune"):
                frozen = n_frozen(self.n_layers, axes["freeze_fraction"])
                tuned = self.fine_tune(frozen, rho_weight, seed, progress.step)
            if layer is not None:
                with clock.phase("autoencoder"):
                    notes = self._scale_features(stack, layer, SeedStreams(seed))
            with clock.phase("score"):
                rows = self.score(self.uses, progress)
        row = HybridRow(
            compress_ratio=axes["compress_ratio"],
            freeze_fraction=axes["freeze_fraction"],
            sae_layer=layer,
            rho_weight=rho_weight,
            margin=axes.get("margin"),
        )
        return with_family(
            replace(rows, train_steps=tuned.rows),
            row,
            *clock.rows,
            compression_error=compression.relative_error,
            train_ce_loss=tuned.ce_loss,
            train_rho_loss=tuned.rho_loss,
            seed_semantics=SEED_SEMANTICS + ("" if layer is None else ", the autoencoder"),
            **notes,
        )

    def work_bytes(self) -> int:
        """Training, or after it the autoencoder."""
        c = self.config
        return max(super().work_bytes(), self.shape.scoring() + self.shape.autoencoder(c.sae_features, c.sae_tokens))

    def _scale_features(self, stack: ExitStack, layer: int, streams: SeedStreams) -> dict[str, object]:
        """Fit an autoencoder to the model as it is now, and let it scale the target's features until the stack ends."""
        c = self.config
        fitted = fit_sae(self, c, layer, streams)
        ranking = rank_for(self, c, layer, fitted.sae, c.sae_target, streams)
        change = fitted.sae.scaled(ranking.chosen, c.sae_scale)
        stack.enter_context(changed(self.loaded.model, {layer: change}))
        return {
            "sae_features_scaled": len(ranking.chosen),
            "sae_features_beyond_null": ranking.n_significant,
            "sae_reconstruction_error": fitted.quality.reconstruction_error,
            "sae_l0": fitted.quality.l0,
            "sae_dead_features": fitted.quality.dead_features,
        }
