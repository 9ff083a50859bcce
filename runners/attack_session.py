"""The cells of attack and defense: one autoencoder a seed, one ranking a target, one run a scale."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from rhodb.errors import InputError
from rhodb.family_records import AttackDefenseRow
from rhodb.records import Config, ScoreRow
from runners.attack_defense import AttackDefenseConfig, SaeConfig
from runners.backend.activations import Floats, changed, residuals
from runners.backend.sae import GatedSae, Quality, Ranking, SaeSpec, rank_features, train_sae
from runners.backend.scoring import pair_sides
from runners.backend.steering import PrefixScorer
from runners.cells import Cell, CellProgress, CellRows
from runners.probes import pair_behaviors
from runners.scoring_session import ScoringSession, pair_text, score_value, with_family
from runners.seeds import SeedStreams

METRIC = "rho"
"""Rank correlation of confidence and label: bounded, so that behaviors can be averaged and compared."""


HELD_OUT = 0.1
"""Share of the activations that only measure the autoencoder."""


@dataclass(frozen=True, kw_only=True)
class FittedSae:
    """An autoencoder with what it is like on activations that it was not trained on."""

    sae: GatedSae
    quality: Quality
    tokens: int


def sae_config(config: SaeConfig) -> Config:
    """The identity of an autoencoder and its ranking."""
    names = (
        "features",
        "permutations",
        *(f"sae_{n}" for n in ("features", "epochs", "batch", "lr", "sparsity", "tokens")),
    )
    return {name: getattr(config, name) for name in names}


def fit_sae(session: ScoringSession, config: SaeConfig, layer: int, streams: SeedStreams) -> FittedSae:
    """Train on activations of all behaviors' train pairs. First tokens are left out: their norm is out of all scale."""
    pairs = [p for behavior in pair_behaviors(session.as_split) for p in session.train_pairs(behavior)]
    rng = streams.generator("sae data")
    order = rng.permutation(len(pairs))
    x: list[Floats] = []
    count = 0
    for start in range(0, len(order), 16):
        ids = [
            s.ids for s in pair_sides(session.loaded, [pairs[i] for i in order[start : start + 16]], config.max_length)
        ]
        x += [states[0][1:] for _, states in sorted(residuals(session.loaded, ids, [layer]), key=lambda item: item[0])]
        count = sum(map(len, x))
        if count >= config.sae_tokens:
            break
    every = np.concatenate(x)[: config.sae_tokens]
    cut = max(1, round(HELD_OUT * len(every)))  # whole texts but one: the order is by text
    data, held_out = every[:-cut], every[-cut:]
    spec = SaeSpec(
        features=config.sae_features,
        epochs=config.sae_epochs,
        batch=config.sae_batch,
        lr=config.sae_lr,
        sparsity=config.sae_sparsity,
    )
    sae = train_sae(data, spec, streams.generator("sae training"))
    return FittedSae(sae=sae, quality=sae.quality(held_out), tokens=len(data))


def rank_for(
    session: ScoringSession, config: SaeConfig, layer: int, sae: GatedSae, behavior: str, streams: SeedStreams
) -> Ranking:
    """Rank the features on a behavior's train pairs, by their mean activity over a text's tokens."""
    import mlx.core as mx

    ids = [s.ids for s in pair_sides(session.loaded, session.train_pairs(behavior), config.max_length)]
    activity = np.zeros((len(ids), config.sae_features), np.float32)
    for index, states in residuals(session.loaded, ids, [layer]):
        activity[index] = np.array(sae.features(mx.array(states[0][1:]))).mean(axis=0, dtype=np.float64)
    return rank_features(
        activity[::2],
        activity[1::2],
        take=config.features,
        permutations=config.permutations,
        rng=streams.generator(f"sae null {behavior}"),
    )


class AttackSession(ScoringSession):
    """Targets x scales x seeds."""

    kind: ClassVar[str] = "attack_defense"

    def __init__(self, config: AttackDefenseConfig) -> None:
        super().__init__(config, score_all=True)
        self.targets = config.behaviors or ()
        self.config = config
        self.layer = self.n_layers // 2 if config.layer is None else config.layer
        self.check_layer(self.layer)
        for target in self.targets:
            self.train_pairs(target)
        if config.features > config.sae_features:
            raise InputError(f"--features {config.features} is more than the {config.sae_features} of the autoencoder")
        self._fitted: dict[int, FittedSae] = {}
        self._rankings: dict[tuple[int, str], Ranking] = {}
        texts = [pair_text(use) for use in self.eval_uses]
        self._scorer = PrefixScorer(self.loaded, texts, max_tokens=config.max_length)

    def grid(self) -> Iterator[Cell]:
        c = self.config
        fixed = sae_config(c) | {"layer": self.layer, "scored_split": "eval"}
        for seed in c.seeds:
            for target in self.targets:
                for scale in c.scales:
                    work = self.work(self.eval_uses)
                    axes = fixed | {"target": target, "scale": scale, "regression": c.regression}
                    yield self.cell(f"{target} x {scale:g} layer {self.layer}", seed, axes, score_work=work)

    def run_cell(self, cell: Cell, artefacts: Path, progress: CellProgress) -> CellRows:
        axes, seed = cell.identity.config, cell.identity.seed
        target, scale = axes["target"], axes["scale"]
        fitted = self._fit(seed)
        ranking = self._rank(seed, target, fitted.sae)
        change = fitted.sae.scaled(ranking.chosen, scale)
        rows = self.scored_by(self.eval_uses, lambda _: self._scorer.score(self.layer, change, progress.scored))
        deltas = self._collateral(rows.scores, target)
        with changed(self.loaded.model, {self.layer: change}):
            rows = self.answered(rows, progress)
        row = AttackDefenseRow(
            layer=self.layer,
            target_behavior=target,
            scale=scale,
            n_features=len(ranking.chosen),
            n_regressed=int(sum(delta < -self.config.regression for delta in deltas)),
            mean_collateral=float(np.mean(deltas)) if deltas else None,
            reconstruction_error=fitted.quality.reconstruction_error,
            l0=fitted.quality.l0,
            dead_features=fitted.quality.dead_features,
        )
        return with_family(
            rows,
            row,
            collateral_metric=METRIC,
            features_chosen=list(ranking.chosen[:50]),
            features_beyond_null=ranking.n_significant,
            features_beyond_two=ranking.beyond_two,
            features_beyond_two_by_chance=ranking.expected_by_chance,
            null_threshold=ranking.threshold,
            sae_tokens=fitted.tokens,
            seed_semantics="activations drawn, the autoencoder's start and order, the null's swaps",
        )

    def work_bytes(self) -> int:
        """The kept prefixes and the autoencoder of each seed, beside scoring."""
        c = self.config
        kept = self.shape.residuals(round(self.work(self.eval_uses)))
        return self.shape.scoring() + kept + len(c.seeds) * self.shape.autoencoder(c.sae_features, c.sae_tokens)

    def _collateral(self, scores: Sequence[ScoreRow], target: str) -> list[float]:
        """Δ of every other behavior that has the metric before and after."""
        others = [b for b in self.behaviors if b != target]
        before = [score_value(self.untouched.scores, b, METRIC) for b in others]
        after = [score_value(scores, b, METRIC) for b in others]
        return [b - a for a, b in zip(before, after, strict=True) if a is not None and b is not None]

    def _fit(self, seed: int) -> FittedSae:
        if seed not in self._fitted:
            self._fitted[seed] = fit_sae(self, self.config, self.layer, SeedStreams(seed))
        return self._fitted[seed]

    def _rank(self, seed: int, target: str, sae: GatedSae) -> Ranking:
        if (seed, target) not in self._rankings:
            ranking = rank_for(self, self.config, self.layer, sae, target, SeedStreams(seed))
            self._rankings[seed, target] = ranking
        return self._rankings[seed, target]
