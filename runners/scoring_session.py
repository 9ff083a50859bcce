"""What every experiment on weights or activations shares: model, probes, one baseline, and scoring.

An experiment adds its cells and what happens to the model before it is scored. The baseline has the identity that
training experiments give it, so that all of them point to one run.
"""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Final

from rhodb.errors import InputError
from rhodb.family_records import FamilyRow
from rhodb.records import (
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
from runners.backend.generation import GENERATION_WORK
from runners.backend.memory import MemoryPeak, Shape
from runners.backend.models import LoadedModel, load_model
from runners.backend.proof import forward_notes
from runners.backend.scoring import PairScore, PairText, SideScore, score_pairs
from runners.backend.tokenizer import encode
from runners.backend.weights import model_tensors, not_finite
from runners.cells import Cell, CellProgress, CellRows
from runners.config import RunConfig
from runners.generation_probes import GenerationProbes, load_questions
from runners.probes import ProbeUse, load_probe_sets, pair_behaviors, select_pairs

Scorer = Callable[[Sequence[PairText]], Sequence[PairScore]]

BACKWARD_WORK: Final = 3.0
"""A trained token costs about as much as three in a forward pass."""

NOTHING_RANDOM: Final = "none: nothing in this run is random, other seeds would be copies"


class ScoringSession:
    """Model and probes of a run; subclasses give `grid()` and `run_cell()`."""

    kind: ClassVar[str]
    """Kind of the runs."""

    def __init__(self, config: RunConfig, *, score_all: bool = False) -> None:
        """`score_all`: every behavior that has pairs is scored, whatever the configuration's `behaviors` are for."""
        self.base_config = config
        self.sets = load_probe_sets(config.probes)
        self.split_config: Config = {}
        self.as_split = self.sets
        if config.probe_split == "cluster":
            from runners.landscape_split import split_by_cluster  # it embeds the probes

            clusters = split_by_cluster(self.sets, config.probes)
            self.split_config = {"cluster_split": clusters.config}
            self.as_split = clusters.apply(self.sets)
        self.behaviors = (None if score_all else config.behaviors) or pair_behaviors(self.sets)
        self.uses = select_pairs(
            self.as_split,
            behaviors=self.behaviors,
            split=config.probe_split,
            per_behavior=config.probes_per_behavior or None,
        )
        self.loaded: LoadedModel = load_model(config.model)
        self.generation: GenerationProbes | None = None
        if config.generation_probes:
            limit = config.probes_per_behavior or None
            self.generation = GenerationProbes(
                questions=load_questions(config.probes, self.as_split, split=config.probe_split, per_behavior=limit),
                response_tokens=config.response_tokens,
            )

    @property
    def model(self) -> ModelRecord:
        return self.loaded.record

    @property
    def n_layers(self) -> int:
        return len(self.loaded.model.layers)

    @cached_property
    def probe_sets(self) -> Mapping[str, ProbeSetRecord]:
        scored = {use.probe_set for use in self.uses}
        return {s.fingerprint: s for s in self.sets if s.fingerprint in scored}

    @cached_property
    def scoring_config(self) -> Config:
        """What a score depends on besides the weights; the whole configuration of a baseline."""
        config: Config = {
            "behaviors": list(self.behaviors),
            "max_length": self.base_config.max_length,
            "probe_split": self.base_config.probe_split,
            "probes": digest(canonical_json(sorted({use.probe_set for use in self.uses}))),
            "probes_per_behavior": self.base_config.probes_per_behavior,
        }
        asked: Config = {} if self.generation is None else {"generation": self.generation.config}
        return config | self.split_config | asked

    @cached_property
    def baseline(self) -> RunIdentity:
        return self.identity("baseline", 0, self.scoring_config)

    @cached_property
    def cells(self) -> list[Cell]:
        """The baseline, then the grid."""
        untouched = Cell(
            identity=self.baseline, label="baseline", baseline=None, train_work=0.0, score_work=self.work(self.uses)
        )
        return [untouched, *self.grid()]

    def grid(self) -> Iterable[Cell]:
        """The experiment's own cells."""
        raise NotImplementedError

    def run_cell(self, cell: Cell, artefacts: Path, progress: CellProgress) -> CellRows:
        """Execute one of them."""
        raise NotImplementedError

    def execute(self, cell: Cell, artefacts: Path, progress: CellProgress) -> CellRows:
        with MemoryPeak() as peak:
            untouched = cell.baseline is None and cell.identity == self.baseline
            rows = self.score(self.uses, progress) if untouched else self.run_cell(cell, artefacts, progress)
        return replace(rows, notes={**rows.notes, **forward_notes(self.loaded), "mlx_peak_mib": peak.mib})

    @cached_property
    def shape(self) -> Shape:
        return Shape.of(self.loaded)

    def peak_bytes(self) -> int:
        """MLX's memory at the peak of the largest cell, estimated; the process itself takes some 400 MiB more."""
        return self.shape.weights + max(self.shape.scoring(), self.work_bytes())

    def work_bytes(self) -> int:
        """What the experiment's own work takes beside the weights."""
        return 0

    def cell(self, label: str, seed: int, config: Config, *, train_work: float = 0.0, score_work: float) -> Cell:
        """A cell of this experiment, compared with the baseline. `config`: its axes, beside what scores depend on."""
        return Cell(
            identity=self.identity(self.kind, seed, self.scoring_config | config),
            label=f"{label} seed {seed}",
            baseline=self.baseline,
            train_work=train_work,
            score_work=score_work,
        )

    def identity(self, kind: str, seed: int, config: Config) -> RunIdentity:
        return RunIdentity(
            kind=kind, model_key=self.model.key, model_fingerprint=self.model.fingerprint, seed=seed, config=config
        )

    def score(
        self, uses: Sequence[ProbeUse], progress: CellProgress | None = None, *, loaded: LoadedModel | None = None
    ) -> CellRows:
        """Score pairs with the model as it is now (or another one), and let it answer the generation probes."""
        return self.answered(self._score_pairs(uses, progress, loaded), progress, loaded=loaded)

    def answered(
        self, rows: CellRows, progress: CellProgress | None = None, *, loaded: LoadedModel | None = None
    ) -> CellRows:
        """Scored rows with the model's answers to the generation probes, where these are asked for."""
        if self.generation is None:
            return rows
        scores, answers = self.generation.ask(loaded or self.loaded, progress.scored if progress else None)
        return replace(rows, scores=[*rows.scores, *scores], family_rows=[*rows.family_rows, *answers])

    def _score_pairs(
        self, uses: Sequence[ProbeUse], progress: CellProgress | None = None, loaded: LoadedModel | None = None
    ) -> CellRows:
        model, limit = loaded or self.loaded, self.base_config.max_length
        report = progress.scored if progress else None
        return self.scored_by(
            uses, lambda texts: score_pairs(model, texts, max_tokens=limit, on_progress=report), model
        )

    def scored_by(self, uses: Sequence[ProbeUse], scorer: Scorer, loaded: LoadedModel | None = None) -> CellRows:
        """Rows of the pairs' scores and every metric of each behavior.

        Raises InputError for a cross-entropy that is no number, which names the probe and the model's first bad tensor.
        """
        rows: dict[str, list[ProbeScoreRow]] = {}
        for use, pair in zip(uses, scorer([pair_text(use) for use in uses]), strict=True):
            if not (math.isfinite(pair.positive.ce) and math.isfinite(pair.negative.ce)):
                raise InputError(not_finite_sentence(use, loaded or self.loaded))
            rows.setdefault(use.behavior, []).extend(probe_rows(use, pair))
        scores = [s for behavior, own in rows.items() for s in metrics.behavior_scores(behavior, own)]
        flat = [row for own in rows.values() for row in own]
        return CellRows(
            scores=scores,
            probe_scores=flat,
            notes={"scored_texts": len(flat), "scoring_truncated": sum(row.truncated for row in flat)},
        )

    @cached_property
    def untouched(self) -> CellRows:
        """Eval scores of the untouched model, for outcomes that compare with them; computed once a process."""
        return self._score_pairs(self.eval_uses)

    @cached_property
    def eval_uses(self) -> list[ProbeUse]:
        """The pairs that nothing was fitted on."""
        return [use for use in self.uses if use.split in ("eval", "none")]

    def train_pairs(self, behavior: str) -> list[PairText]:
        """All pairs of a behavior's train split (all of them where probes are not split)."""
        own = select_pairs(self.as_split, behaviors=(behavior,), split=self.base_config.probe_split, per_behavior=None)
        found = [pair_text(use) for use in own if use.split in ("train", "none")]
        if not found:
            raise InputError(f"behavior {behavior!r} has no pairs in the train split; give more probes")
        return found

    def work(self, uses: Sequence[ProbeUse]) -> float:
        """Tokens of both texts of these pairs, and the answers to the generation probes."""
        asked = 0 if self.generation is None else len(self.generation.questions)
        return self._pair_work(uses) + GENERATION_WORK * self.base_config.response_tokens * asked

    def _pair_work(self, uses: Sequence[ProbeUse]) -> float:
        return float(sum(self.lengths([text for use in uses for text in (use.probe.positive, use.probe.negative)])))

    def lengths(self, texts: Sequence[str | None]) -> list[int]:
        limit = self.base_config.max_length
        return [min(len(encode(self.loaded.tokenizer, text)), limit) for text in texts if text is not None]

    def check_layer(self, layer: int) -> None:
        """Raises InputError for a layer that the model does not have."""
        if not 0 <= layer < self.n_layers:
            raise InputError(f"layer {layer} is out of range: {self.model.key} has layers 0 to {self.n_layers - 1}")

    def seconds_per_work(self) -> float:
        """Time a dozen pairs of the real mix."""
        sample = self.uses[:: max(1, len(self.uses) // 12)]
        texts = [pair_text(use) for use in sample]
        # Before the clock runs: caches, compiled parts, and the proof of the fast way, which wants the longest texts.
        longest = sorted(sample, key=lambda use: max(self.lengths([use.probe.positive, use.probe.negative])))[-2:]
        score_pairs(self.loaded, [pair_text(use) for use in longest], max_tokens=self.base_config.max_length)
        started = time.perf_counter()
        score_pairs(self.loaded, texts, max_tokens=self.base_config.max_length)
        return (time.perf_counter() - started) / max(self._pair_work(sample), 1)


def not_finite_sentence(use: ProbeUse, loaded: LoadedModel) -> str:
    """Which probe has no finite cross-entropy, and which of the model's tensors explains it."""
    bad = not_finite(model_tensors(loaded.model))
    why = f"tensor {bad[0]} holds NaN or infinity" if bad else "all weights are finite, so its activations overflow"
    more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
    probe = f"{use.probe.key!r} ({use.behavior})"
    return f"model {loaded.record.key!r} gives probe {probe} no finite cross-entropy: {why}{more}"


def pair_text(use: ProbeUse) -> PairText:
    """A selected pair as the scorer takes it."""
    assert use.probe.negative is not None, "only pairs are selected"
    return PairText(prompt=use.probe.prompt, positive=use.probe.positive, negative=use.probe.negative)


def pairs_by_behavior(uses: Sequence[ProbeUse]) -> dict[str, list[PairText]]:
    """Selected pairs as the pools that training samples from."""
    pools: dict[str, list[PairText]] = {}
    for use in uses:
        pools.setdefault(use.behavior, []).append(pair_text(use))
    return pools


def probe_rows(use: ProbeUse, pair: PairScore) -> list[ProbeScoreRow]:
    """The rows of a pair's two sides."""
    sides: Mapping[str, SideScore] = {"positive": pair.positive, "negative": pair.negative}
    return [
        ProbeScoreRow(probe_set=use.probe_set, probe_key=use.probe.key, side=side, split=use.split, **vars(score))
        for side, score in sides.items()
    ]


def score_value(scores: Sequence[ScoreRow], behavior: str, metric: str) -> float | None:
    """A score on the split that reports show (eval, or none), or None where it is absent."""
    found = [s.value for s in scores if (s.behavior, s.metric) == (behavior, metric) and s.split in ("eval", "none")]
    return found[0] if found else None


def with_family(rows: CellRows, *family: FamilyRow, **notes: object) -> CellRows:
    """Scored rows together with the experiment's own."""
    return replace(rows, family_rows=[*rows.family_rows, *family], notes={**rows.notes, **notes})
