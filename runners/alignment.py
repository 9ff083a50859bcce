"""The session behind every training experiment: one model, one baseline, and arms trained for each seed.

An experiment (ablation, dose-response, ...) only says which arms it has. Arms of equal training identity are
the same run, whichever experiment asked for it.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from rhodb.records import AlignmentRow, CheckpointScoreRow, Config, canonical_json, digest
from runners.arms import AlignmentConfig, Arm
from runners.backend.adapters import load_adapters, save_adapters
from runners.backend.data_parallel import launched_ranks
from runners.backend.generation import GENERATION_WORK
from runners.backend.lora import layer_keys, remove_lora
from runners.backend.models import LoadedModel
from runners.backend.tokenizer import chat_text
from runners.backend.training import TrainResult, TrainSpec, train
from runners.cells import Cell, CellProgress, CellRows
from runners.generation_probes import GenerationProbes, load_questions
from runners.probes import ProbeUse, select_pairs
from runners.scoring_session import BACKWARD_WORK, ScoringSession, pairs_by_behavior
from runners.seeds import SFT_SELECTION, SeedStreams
from runners.sft_data import build_pools, draw


class AlignmentSession(ScoringSession):
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
        contrast = select_pairs(
            self.as_split, behaviors=config.contrast_behaviors, split=config.probe_split, per_behavior=None
        )
        self._contrast = [use for use in contrast if use.split in ("train", "none")]
        self._generation = None
        if config.generation_probes:
            limit = config.probes_per_behavior or None
            self._generation = GenerationProbes(
                questions=load_questions(config.probes, self.as_split, split=config.probe_split, per_behavior=limit),
                response_tokens=config.response_tokens,
            )
        self._pools = build_pools(
            self.as_split, split=config.probe_split, trap_behaviors=config.contrast_behaviors, data=config.sft_data
        )
        layer_keys(self.loaded.model, config.lora_targets)  # a wrong target is said before anything runs

    @cached_property
    def scoring_config(self) -> Config:
        config = super().scoring_config
        return config if self._generation is None else config | {"generation": self._generation.config}

    def grid(self) -> Iterator[Cell]:
        """Every arm for every seed."""
        score_work = self.work(self.uses)
        for seed in self.config.seeds:
            for arm in self.arms:
                yield self.cell(
                    arm.label,
                    seed,
                    self._training_config(arm),
                    train_work=self._train_work(arm),
                    score_work=score_work * (1 + len(self._checkpoints(arm))),
                )

    def work(self, uses: Sequence[ProbeUse]) -> float:
        """Tokens of both texts of these pairs, and the answers to the generation probes."""
        answers = 0.0
        if self._generation is not None:
            answers = GENERATION_WORK * self.config.response_tokens * len(self._generation.questions)
        return super().work(uses) + answers

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
        try:
            if adapter.is_dir():
                load_adapters(self.loaded, adapter)
            else:
                arm = self._train(cell, progress)[0]
                if self._save_adapters:
                    self._save(arm, adapter)
            yield self.loaded
        finally:
            remove_lora(self.loaded)

    def training_cell(self, arm: Arm, seed: int) -> Cell:
        """The cell that trains an arm of this session."""
        config = self.scoring_config | self._training_config(arm)
        return next(c for c in self.cells if c.identity.seed == seed and c.identity.config == config)

    def _save(self, arm: Arm, folder: Path) -> None:
        save_adapters(self.loaded, folder, self._spec(arm))

    def _train(
        self, cell: Cell, progress: CellProgress
    ) -> tuple[Arm, TrainResult, list[CheckpointScoreRow], Sequence[str]]:
        """Train the cell's arm, scoring at its checkpoints. The adapter stays on the model."""
        arm = next(a for a in self.arms if self.scoring_config | self._training_config(a) == cell.identity.config)
        streams = SeedStreams(cell.identity.seed)
        streams.seed_globals()
        spec = self._spec(arm)
        texts = self._sft_texts(arm, streams)
        total = self._steps(arm)
        passed: list[CheckpointScoreRow] = []
        result = train(
            self.loaded,
            texts,
            pairs_by_behavior(self._contrast) if spec.rho_weight > 0 else {},
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
        total, count = self._steps(arm), math.ceil(c.epochs * self._checkpoints_per_epoch)
        marks = [number / self._checkpoints_per_epoch for number in range(1, count)]
        steps = {max(1, round(c.sft_size * epochs / c.batch_size)): epochs for epochs in marks}
        return {step: epochs for step, epochs in steps.items() if step < total}

    def _checkpoint_rows(self, arm: Arm, step: int, progress: CellProgress) -> list[CheckpointScoreRow]:
        epochs = self._checkpoints(arm)[step]
        scores = self.score(self.uses, progress).scores
        return [CheckpointScoreRow(step=step, epochs=epochs, **vars(row)) for row in scores]

    def _training_config(self, arm: Arm) -> Config:
        """The identity of a training, beside what scores depend on: only what has an effect under the condition."""
        c = arm.applied(self.config)
        config: Config = {
            "condition": arm.condition,
            "rho_weight": arm.rho_weight,
            "sft_data": self._pools.fingerprint,
            "sft_size": c.sft_size,
            "trap_share": c.trap_share,
            "refusal_share": c.refusal_share,
            "epochs": c.epochs,
            "batch_size": c.batch_size,
            "accumulation": c.accumulation,
            "lr": c.lr,
            "weight_decay": c.weight_decay,
            "warmup": c.warmup,
            "lora_rank": c.lora_rank,
            "lora_alpha": c.lora_alpha,
            "lora_targets": sorted(c.lora_targets),
        }
        if arm.condition != "sft-only":
            config |= {
                "margin": arm.margin,
                "contrast": c.contrast,
                "contrast_behaviors": sorted(c.contrast_behaviors),
                "contrast_pairs": digest(canonical_json(sorted({use.probe_set for use in self._contrast}))),
                "pairs_per_step": c.pairs_per_step,
            }
        if checkpoints := self._checkpoints(arm):
            config["checkpoints"] = sorted(checkpoints)
        return config

    def _spec(self, arm: Arm) -> TrainSpec:
        c = arm.applied(self.config)
        return TrainSpec(
            use_sft=arm.condition != "contrastive-only",
            rho_weight=arm.rho_weight,
            margin=arm.margin,
            shuffle_pairs=arm.condition == "shuffled-pairs",
            epochs=c.epochs,
            batch_size=c.batch_size,
            accumulation=c.accumulation,
            lr=c.lr,
            weight_decay=c.weight_decay,
            warmup=c.warmup,
            lora_rank=c.lora_rank,
            lora_alpha=c.lora_alpha,
            lora_targets=tuple(sorted(c.lora_targets)),
            pairs_per_step=c.pairs_per_step,
            max_tokens=c.max_length,
            contrast=c.contrast,
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

    def _sft_texts(self, arm: Arm, streams: SeedStreams) -> list[str]:
        c = arm.applied(self.config)
        drawn = draw(
            self._pools,
            size=c.sft_size,
            trap_share=c.trap_share,
            refusal_share=c.refusal_share,
            rng=streams.generator(SFT_SELECTION),
        )
        return [chat_text(self.loaded.tokenizer, item.instruction, item.response) for item in drawn]

    def score(
        self, uses: Sequence[ProbeUse], progress: CellProgress | None = None, *, loaded: LoadedModel | None = None
    ) -> CellRows:
        """Scores of the pairs and, where asked for, the answers to the generation probes."""
        rows = super().score(uses, progress, loaded=loaded)
        if self._generation is None:
            return rows
        scores, answers = self._generation.ask(loaded or self.loaded, progress.scored if progress else None)
        return replace(rows, scores=[*rows.scores, *scores], family_rows=answers)

    def _steps(self, arm: Arm) -> int:
        c = arm.applied(self.config)
        return -(-max(1, round(c.sft_size * c.epochs)) // c.batch_size)

    def _train_work(self, arm: Arm) -> float:
        """Trained tokens, as passes: a step's texts and both sides of its pairs, forward and backward."""
        tokens = 0.0
        if arm.condition != "contrastive-only":
            texts = self._sft_texts(arm, SeedStreams(0))
            tokens += self.config.batch_size * _mean(self.lengths(texts))
        if arm.condition != "sft-only":
            tokens += 2 * self.config.pairs_per_step * _mean(self.lengths([u.probe.positive for u in self._contrast]))
        return BACKWARD_WORK * self._steps(arm) * tokens


def _mean(values: Sequence[int]) -> float:
    return sum(values) / len(values)
