"""The cells of a freeze sweep and of CF90: compress, fine-tune above the frozen layers, score."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from rhodb.family_records import Cf90Row, FreezeRow
from rhodb.records import TrainStepRow
from runners.backend.freezing import n_frozen
from runners.backend.lora import remove_lora
from runners.backend.svd import Compression, compressed, rank_of
from runners.backend.training import TrainResult
from runners.cells import Cell, CellProgress, CellRows
from runners.cf90 import Cf90Config
from runners.freeze_sweep import FreezeConfig
from runners.scoring_session import NOTHING_RANDOM, score_value, with_family
from runners.training_session import SEED_SEMANTICS, TrainingSession


class _CompressionSession(TrainingSession):
    def tuned(
        self, ratio: float, freeze: float, seed: int, *, tune: bool, requantize: bool, progress: CellProgress
    ) -> tuple[CellRows, Compression, TrainResult | None]:
        """Scores of the compressed (and fine-tuned) model; the model is as before afterwards."""
        rho_weight = self.training.rho_weight
        with compressed(self.loaded, ratio, requantize=requantize) as compression:
            try:
                result = None
                if tune:
                    result = self.fine_tune(n_frozen(self.n_layers, freeze), rho_weight, seed, progress.step)
                rows = self.score(self.uses, progress)
            finally:
                remove_lora(self.loaded)
        steps: tuple[TrainStepRow, ...] = result.rows if result else ()
        return replace(rows, train_steps=steps), compression, result


def compression_notes(compression: Compression, *, random: bool) -> dict[str, object]:
    """Facts of a compressed run that have no column."""
    return {
        "compression_error": compression.relative_error,
        "requantized": compression.requantized,
        "change_rounded_away": compression.lost,
        "seed_semantics": SEED_SEMANTICS if random else NOTHING_RANDOM,
    }


class FreezeSession(_CompressionSession):
    """Compression x freezing x seeds."""

    kind: ClassVar[str] = "freeze"

    def __init__(self, config: FreezeConfig) -> None:
        super().__init__(config)
        self.config = config
        if config.fine_tune:
            for share in config.freeze_ratios:
                self.check_trainable(share)

    def grid(self) -> Iterator[Cell]:
        c = self.config
        for ratio in c.compress_ratios:
            for freeze in c.freeze_ratios:
                axes = {
                    "compress_ratio": ratio,
                    "freeze_ratio": freeze,
                    "fine_tuned": c.fine_tune,
                    "requantize": c.requantize,
                }
                tuning = self.training_identity(self.recipe(c.rho_weight)) if c.fine_tune else {}
                for seed in c.seeds:
                    yield self.cell(
                        f"keep {ratio:g} freeze {freeze:g}",
                        seed,
                        axes | tuning,
                        train_work=self.train_work(self.recipe(c.rho_weight)) if c.fine_tune else 0.0,
                        score_work=self.work(self.uses),
                    )

    def run_cell(self, cell: Cell, artefacts: Path, progress: CellProgress) -> CellRows:
        axes = cell.identity.config
        rows, compression, result = self.tuned(
            axes["compress_ratio"],
            axes["freeze_ratio"],
            cell.identity.seed,
            tune=axes["fine_tuned"],
            requantize=axes["requantize"],
            progress=progress,
        )
        row = FreezeRow(
            compress_ratio=axes["compress_ratio"],
            freeze_ratio=axes["freeze_ratio"],
            fine_tuned=axes["fine_tuned"],
            n_compressed=compression.n_matrices,
            n_frozen=n_frozen(self.n_layers, axes["freeze_ratio"]),
            train_ce_loss=result.ce_loss if result else None,
        )
        return with_family(rows, row, **compression_notes(compression, random=axes["fine_tuned"]))


class Cf90Session(_CompressionSession):
    """One compression for several seeds of the calibration."""

    kind: ClassVar[str] = "cf90"

    def __init__(self, config: Cf90Config) -> None:
        super().__init__(config)
        self.config = config
        rank_of((1, 1), config.ratio)
        if config.calibrate:
            self.check_trainable(config.freeze_ratio)

    def grid(self) -> Iterator[Cell]:
        c = self.config
        axes = {"ratio": c.ratio, "calibrated": c.calibrate, "requantize": c.requantize}
        if c.calibrate:
            axes |= {"freeze_ratio": c.freeze_ratio} | self.training_identity(self.recipe(c.rho_weight))
        for seed in c.seeds:
            work = self.train_work(self.recipe(c.rho_weight)) if c.calibrate else 0.0
            yield self.cell(f"keep {c.ratio:g}", seed, axes, train_work=work, score_work=self.work(self.uses))

    def run_cell(self, cell: Cell, artefacts: Path, progress: CellProgress) -> CellRows:
        c = self.config
        rows, compression, _ = self.tuned(
            c.ratio,
            c.freeze_ratio,
            cell.identity.seed,
            tune=c.calibrate,
            requantize=c.requantize,
            progress=progress,
        )
        before = score_value(self.untouched.scores, "factual", "truth_corr")
        after = score_value(rows.scores, "factual", "truth_corr")
        row = Cf90Row(
            ratio=c.ratio,
            n_compressed=compression.n_matrices,
            retention=score_value(rows.scores, "factual", "pair_accuracy"),
            rho_drop=None if before is None or after is None else before - after,
        )
        return with_family(
            rows,
            row,
            retention_before=score_value(self.untouched.scores, "factual", "pair_accuracy"),
            **compression_notes(compression, random=c.calibrate),
        )
