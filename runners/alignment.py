"""The session behind every training experiment: one model, one baseline, and arms trained for each seed.

An experiment (ablation, dose-response, ...) only says which arms it has. Arms of equal training identity are
the same run, whichever experiment asked for it.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rhodb.family_records import AlignmentRow, CheckpointScoreRow
from rhodb.records import Config
from runners.arms import AlignmentConfig, Arm
from runners.backend.adapters import adapter_on, read_adapter, save_adapters
from runners.backend.data_parallel import launched_ranks
from runners.backend.lora import remove_lora
from runners.backend.models import LoadedModel
from runners.backend.training import TrainResult, TrainSpec, train
from runners.cells import Cell, CellProgress, CellRows
from runners.seeds import SeedStreams
from runners.training_session import TrainingSession, n_steps, train_spec


class AlignmentSession(TrainingSession):
    """Expands arms x seeds into cells; trains each arm and scores what came of it."""

    kind = "alignment"

    def __init__(
        self,
        config: AlignmentConfig,
        arms: Sequence[Arm],
        *,
        save_adapters: bool = True,
        checkpoints_per_epoch: int = 0,
    ) -> None:
        super().__init__(config)
        self.config, self.arms, self._save_adapters = config, list(dict.fromkeys(arms)), save_adapters
        self._checkpoints_per_epoch = checkpoints_per_epoch

    def grid(self) -> Iterator[Cell]:
        """Every arm for every seed."""
        score_work = self.work(self.uses)
        for seed in self.config.seeds:
            for arm in self.arms:
                yield self.cell(
                    arm.label,
                    seed,
                    self._arm_identity(arm),
                    train_work=self.train_work(arm.applied(self.config), use_sft=arm.condition != "contrastive-only"),
                    score_work=score_work * (1 + len(self._checkpoints(arm))),
                )

    def run_cell(self, cell: Cell, artefacts: Path, progress: CellProgress) -> CellRows:
        """Train the cell's arm and score what came of it."""
        try:
            arm, result, passed, texts = self._train(cell, progress)
            scored = self.score(self.uses, progress)
            if self._save_adapters:
                self._save(arm, artefacts)
        finally:
            remove_lora(self.loaded)
        return CellRows(
            scores=scored.scores,
            probe_scores=scored.probe_scores,
            train_steps=result.rows,
            alignment=self._row(arm, result, str(artefacts) if self._save_adapters else None),
            family_rows=[*passed, *scored.family_rows],
            notes={
                **scored.notes,
                "sft_texts_distinct": len(set(texts)),
                "sft_texts": len(texts),
                "training_truncated": result.truncated,
                "seed_semantics": "everything random: data selection and order, pairs, label swaps, LoRA init",
            },
        )

    @contextmanager
    def trained(self, cell: Cell, adapter: Path, progress: CellProgress) -> Iterator[LoadedModel]:
        """The model with the adapter of a training cell: loaded if it was saved, else trained again."""
        if adapter.is_dir():
            with adapter_on(self.loaded, read_adapter(self.loaded, adapter)):
                yield self.loaded
            return
        try:
            arm = self._train(cell, progress)[0]
            if self._save_adapters:
                self._save(arm, adapter)
            yield self.loaded
        finally:
            remove_lora(self.loaded)

    def training_cell(self, arm: Arm, seed: int) -> Cell:
        """The cell that trains an arm of this session."""
        config = self.scoring_config | self._arm_identity(arm)
        return next(c for c in self.cells if c.identity.seed == seed and c.identity.config == config)

    def _save(self, arm: Arm, folder: Path) -> None:
        save_adapters(self.loaded, folder, self._spec(arm))

    def _train(
        self, cell: Cell, progress: CellProgress
    ) -> tuple[Arm, TrainResult, list[CheckpointScoreRow], Sequence[str]]:
        """Train the cell's arm, scoring at its checkpoints. The adapter stays on the model."""
        arm = next(a for a in self.arms if self.scoring_config | self._arm_identity(a) == cell.identity.config)
        streams = SeedStreams(cell.identity.seed)
        streams.seed_globals()
        spec, recipe = self._spec(arm), arm.applied(self.config)
        texts = self.sft_texts(recipe, streams)
        total = n_steps(recipe)
        passed: list[CheckpointScoreRow] = []
        result = train(
            self.loaded,
            texts,
            self.contrast_pools if spec.rho_weight > 0 else {},
            spec,
            streams,
            on_step=lambda row: progress.step(row, total),
            ranks=launched_ranks(),
            checkpoints=self._checkpoints(arm),
            on_checkpoint=lambda step: passed.extend(self._checkpoint_rows(arm, step, progress)),
        )
        return arm, result, passed, texts

    def _checkpoints(self, arm: Arm) -> dict[int, float]:
        """Step -> epochs passed, for each score on the way."""
        c = arm.applied(self.config)
        if self._checkpoints_per_epoch == 0:
            return {}
        total, count = n_steps(c), math.ceil(c.epochs * self._checkpoints_per_epoch)
        marks = [number / self._checkpoints_per_epoch for number in range(1, count)]
        steps = {max(1, round(c.sft_size * epochs / c.batch_size)): epochs for epochs in marks}
        return {step: epochs for step, epochs in steps.items() if step < total}

    def _checkpoint_rows(self, arm: Arm, step: int, progress: CellProgress) -> list[CheckpointScoreRow]:
        epochs = self._checkpoints(arm)[step]
        scores = self.score(self.uses, progress).scores
        return [CheckpointScoreRow(step=step, epochs=epochs, **vars(row)) for row in scores]

    def _arm_identity(self, arm: Arm) -> Config:
        """The identity of an arm's training, beside what scores depend on."""
        config = self.training_identity(arm.applied(self.config)) | {"condition": arm.condition}
        if checkpoints := self._checkpoints(arm):
            config["checkpoints"] = sorted(checkpoints)
        return config

    def _spec(self, arm: Arm) -> TrainSpec:
        return train_spec(
            arm.applied(self.config),
            use_sft=arm.condition != "contrastive-only",
            shuffle_pairs=arm.condition == "shuffled-pairs",
        )

    def _row(self, arm: Arm, result: TrainResult, folder: str | None) -> AlignmentRow:
        c = arm.applied(self.config)
        return AlignmentRow(
            condition=arm.condition,
            rho_weight=arm.rho_weight,
            margin=None if arm.condition == "sft-only" else arm.margin,
            sft_size=c.sft_size,
            lora_rank=c.lora_rank,
            lora_alpha=c.lora_alpha,
            epochs=c.epochs,
            lr=c.lr,
            train_ce_loss=result.ce_loss,
            train_rho_loss=result.rho_loss,
            steps=result.steps,
            updates=result.updates,
            swapped_share=result.swapped_share,
            adapter_path=folder,
        )
