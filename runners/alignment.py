"""The session behind every training experiment: one model, one baseline, and arms trained for each seed.

An experiment (ablation, dose-response, ...) only says which arms it has. Arms of equal training identity are
the same run, whichever experiment asked for it.
"""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rhodb.records import (
    AlignmentRow,
    CheckpointScoreRow,
    Config,
    ModelRecord,
    ProbeScoreRow,
    ProbeSetRecord,
    RunIdentity,
    ScoreRow,
    canonical_json,
    digest,
)
from runners import metrics
from runners.arms import AlignmentConfig, Arm
from runners.backend.adapters import load_adapters, save_adapters
from runners.backend.data_parallel import launched_ranks
from runners.backend.generation import GENERATION_WORK
from runners.backend.lora import layer_keys, remove_lora
from runners.backend.models import LoadedModel, load_model
from runners.backend.scoring import PairScore, PairText, SideScore, score_pairs
from runners.backend.tokenizer import encode
from runners.backend.training import TrainResult, TrainSpec, train
from runners.cells import Cell, CellProgress, CellRows
from runners.generation_probes import GenerationProbes, load_questions
from runners.probes import ProbeUse, load_probe_sets, pair_behaviors, select_pairs
from runners.seeds import SFT_SELECTION, SeedStreams
from runners.sft_data import Instruction, build_pools, draw

if TYPE_CHECKING:
    from runners.landscape_split import ClusterSplit

BACKWARD_WORK: Final = 3.0
"""A trained token costs about as much as three in a forward pass."""


class AlignmentSession:
    """Loads the model and the probes, expands arms x seeds into cells, and executes them."""

    def __init__(
        self,
        config: AlignmentConfig,
        arms: Sequence[Arm],
        *,
        save_adapters: bool = True,
        checkpoints_per_epoch: int = 0,
    ) -> None:
        self.config, self.arms, self._save_adapters = config, list(dict.fromkeys(arms)), save_adapters
        self._checkpoints_per_epoch = checkpoints_per_epoch
        self._sets = load_probe_sets(config.probes)
        self._cluster_split: ClusterSplit | None = None
        as_split = self._sets
        if config.probe_split == "cluster":
            from runners.landscape_split import split_by_cluster  # it embeds the probes

            self._cluster_split = split_by_cluster(self._sets, config.probes)
            as_split = self._cluster_split.apply(self._sets)
        self._behaviors = config.behaviors or pair_behaviors(self._sets)
        limit = config.probes_per_behavior or None
        self._uses = select_pairs(as_split, behaviors=self._behaviors, split=config.probe_split, per_behavior=limit)
        self._contrast = [
            use
            for use in select_pairs(
                as_split, behaviors=config.contrast_behaviors, split=config.probe_split, per_behavior=None
            )
            if use.split in ("train", "none")
        ]
        self._generation = None
        if config.generation_probes:
            self._generation = GenerationProbes(
                questions=load_questions(config.probes, as_split, split=config.probe_split, per_behavior=limit),
                response_tokens=config.response_tokens,
            )
        self._pools = build_pools(
            as_split,
            split=config.probe_split,
            trap_behaviors=config.contrast_behaviors,
            data=config.sft_data,
        )
        self._loaded: LoadedModel = load_model(config.model)
        layer_keys(self._loaded.model, config.lora_targets)  # a wrong target is said before anything runs

    @property
    def model(self) -> ModelRecord:
        return self._loaded.record

    @cached_property
    def probe_sets(self) -> Mapping[str, ProbeSetRecord]:
        scored = {use.probe_set for use in self._uses}
        return {s.fingerprint: s for s in self._sets if s.fingerprint in scored}

    @cached_property
    def cells(self) -> list[Cell]:
        """The baseline, then every arm for every seed."""
        baseline = self._identity("baseline", 0, self._scoring_config)
        score_work = float(sum(self._lengths([use.probe.positive for use in self._uses])))
        score_work += sum(self._lengths([use.probe.negative or "" for use in self._uses]))
        if self._generation is not None:
            score_work += GENERATION_WORK * self.config.response_tokens * len(self._generation.questions)
        cells = [Cell(identity=baseline, label="baseline", baseline=None, train_work=0.0, score_work=score_work)]
        for seed in self.config.seeds:
            for arm in self.arms:
                cells.append(
                    Cell(
                        identity=self._identity("alignment", seed, self._training_config(arm)),
                        label=f"{arm.label} seed {seed}",
                        baseline=baseline,
                        train_work=self._train_work(arm),
                        score_work=score_work * (1 + len(self._checkpoints(arm))),
                    )
                )
        return cells

    def execute(self, cell: Cell, artefacts: Path, progress: CellProgress) -> CellRows:
        """Score the untouched model, or train the cell's arm and score what came of it."""
        if cell.baseline is None:
            return self._score(progress)
        try:
            arm, result, passed, texts = self._train(cell, progress)
            scored = self._score(progress)
            if self._save_adapters:
                self._save(arm, artefacts)
        finally:
            remove_lora(self._loaded)
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
                load_adapters(self._loaded, adapter)
            else:
                arm = self._train(cell, progress)[0]
                if self._save_adapters:
                    self._save(arm, adapter)
            yield self._loaded
        finally:
            remove_lora(self._loaded)

    @property
    def loaded(self) -> LoadedModel:
        """The model; it carries an adapter only inside `trained` and while a cell is executed."""
        return self._loaded

    def training_cell(self, arm: Arm, seed: int) -> Cell:
        """The cell that trains an arm of this session."""
        config = self._training_config(arm)
        return next(c for c in self.cells if c.identity.seed == seed and c.identity.config == config)

    def _save(self, arm: Arm, folder: Path) -> None:
        save_adapters(self._loaded, folder, self._spec(arm))

    def _train(
        self, cell: Cell, progress: CellProgress
    ) -> tuple[Arm, TrainResult, list[CheckpointScoreRow], Sequence[str]]:
        """Train the cell's arm, scoring at its checkpoints. The adapter stays on the model."""
        arm = next(a for a in self.arms if self._training_config(a) == cell.identity.config)
        streams = SeedStreams(cell.identity.seed)
        streams.seed_globals()
        spec = self._spec(arm)
        texts = self._sft_texts(arm, streams)
        total = self._steps(arm)
        passed: list[CheckpointScoreRow] = []
        result = train(
            self._loaded,
            texts,
            self._pair_pools() if spec.rho_weight > 0 else {},
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
        return [CheckpointScoreRow(step=step, epochs=epochs, **vars(row)) for row in self._score(progress).scores]

    def seconds_per_work(self) -> float:
        """Time a dozen pairs of the real mix."""
        sample = self._uses[:: max(1, len(self._uses) // 12)]
        texts = [_pair_text(use) for use in sample]
        score_pairs(self._loaded, texts[:2], max_tokens=self.config.max_length)  # first call: caches, compiled parts
        started = time.perf_counter()
        score_pairs(self._loaded, texts, max_tokens=self.config.max_length)
        tokens = sum(self._lengths([t.positive for t in texts] + [t.negative for t in texts]))
        return (time.perf_counter() - started) / max(tokens, 1)

    def _identity(self, kind: str, seed: int, config: Config) -> RunIdentity:
        return RunIdentity(
            kind=kind, model_key=self.model.key, model_fingerprint=self.model.fingerprint, seed=seed, config=config
        )

    @cached_property
    def _scoring_config(self) -> Config:
        """What a score depends on besides the weights; the whole configuration of a baseline."""
        used = sorted({use.probe_set for use in self._uses})
        config: Config = {
            "behaviors": list(self._behaviors),
            "max_length": self.config.max_length,
            "probe_split": self.config.probe_split,
            "probes": digest(canonical_json(used)),
            "probes_per_behavior": self.config.probes_per_behavior,
        }
        if self._generation is not None:
            config["generation"] = self._generation.config
        return config if self._cluster_split is None else config | {"cluster_split": self._cluster_split.config}

    def _training_config(self, arm: Arm) -> Config:
        """The identity of a training: only what has an effect under the arm's condition."""
        c = arm.applied(self.config)
        config: Config = self._scoring_config | {
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
        return [self._as_chat(instruction) for instruction in drawn]

    def _as_chat(self, item: Instruction) -> str:
        """The instruction as the model was trained to see one; without a chat template, plain text and its end."""
        tokenizer = self._loaded.tokenizer
        if not tokenizer.has_chat_template:
            return f"{item.instruction}\n\n{item.response}{tokenizer.eos_token or ''}"
        turns = [{"role": "user", "content": item.instruction}, {"role": "assistant", "content": item.response}]
        return str(tokenizer.apply_chat_template(turns, tokenize=False))

    def _pair_pools(self) -> dict[str, list[PairText]]:
        pools: dict[str, list[PairText]] = {}
        for use in self._contrast:
            pools.setdefault(use.behavior, []).append(_pair_text(use))
        return pools

    def _score(self, progress: CellProgress) -> CellRows:
        pairs = score_pairs(
            self._loaded,
            [_pair_text(use) for use in self._uses],
            max_tokens=self.config.max_length,
            on_progress=progress.scored,
        )
        rows = {behavior: list[ProbeScoreRow]() for behavior in self._behaviors}
        for use, pair in zip(self._uses, pairs, strict=True):
            rows[use.behavior] += _probe_rows(use, pair)
        scores: list[ScoreRow] = []
        for behavior, of_behavior in rows.items():
            scores += metrics.behavior_scores(behavior, of_behavior)
        flat = [row for of_behavior in rows.values() for row in of_behavior]
        generated, answers = self._generation.ask(self._loaded, progress.scored) if self._generation else ([], [])
        return CellRows(
            scores=[*scores, *generated],
            probe_scores=flat,
            family_rows=answers,
            notes={"scored_texts": len(flat), "scoring_truncated": sum(row.truncated for row in flat)},
        )

    def _lengths(self, texts: Sequence[str]) -> list[int]:
        return [min(len(encode(self._loaded.tokenizer, text)), self.config.max_length) for text in texts]

    def _steps(self, arm: Arm) -> int:
        c = arm.applied(self.config)
        return -(-max(1, round(c.sft_size * c.epochs)) // c.batch_size)

    def _train_work(self, arm: Arm) -> float:
        """Trained tokens, as passes: a step's texts and both sides of its pairs, forward and backward."""
        tokens = 0.0
        if arm.condition != "contrastive-only":
            texts = self._sft_texts(arm, SeedStreams(0))
            tokens += self.config.batch_size * _mean(self._lengths(texts))
        if arm.condition != "sft-only":
            tokens += 2 * self.config.pairs_per_step * _mean(self._lengths([u.probe.positive for u in self._contrast]))
        return BACKWARD_WORK * self._steps(arm) * tokens


def _pair_text(use: ProbeUse) -> PairText:
    assert use.probe.negative is not None, "only pairs are selected"
    return PairText(prompt=use.probe.prompt, positive=use.probe.positive, negative=use.probe.negative)


def _probe_rows(use: ProbeUse, pair: PairScore) -> list[ProbeScoreRow]:
    sides: Mapping[str, SideScore] = {"positive": pair.positive, "negative": pair.negative}
    return [
        ProbeScoreRow(
            probe_set=use.probe_set,
            probe_key=use.probe.key,
            side=side,
            split=use.split,
            tokens=score.tokens,
            ce=score.ce,
            answer_tokens=score.answer_tokens,
            answer_ce=score.answer_ce,
            truncated=score.truncated,
        )
        for side, score in sides.items()
    ]


def _mean(values: Sequence[int]) -> float:
    return sum(values) / len(values)
