"""Runs of a (γ, λ) grid made for a test, with probe scores where asked for, inserted through `rhodb.store`."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from rhodb.family_records import AlignmentRow
from rhodb.records import (
    ModelRecord,
    Outcome,
    ProbeRecord,
    ProbeScoreRow,
    ProbeSetRecord,
    Provenance,
    RunIdentity,
    ScoreRow,
    digest,
)
from rhodb.store import insert_outcome, run_uuid
from rhodb.warehouse import Warehouse

MODEL = ModelRecord(
    key="tiny", source="made for a test", revision=None, fingerprint=digest("tiny"), architecture="llama", n_layers=2,
    n_parameters=1000, quantization=None,
)  # fmt: skip
HERE = Provenance(
    host="here", pid=1, device="cpu", platform="Linux", python="3.11.7", git_commit=None, git_dirty=None, versions={},
    blas="none",
)  # fmt: skip
BASE = 0.1
"""Score of every behavior before training."""


class GridWarehouse:
    """Fills a warehouse run by run."""

    def __init__(self, path: Path, behaviors: Sequence[str], gaps: Mapping[str, np.ndarray] | None = None) -> None:
        self.path = path
        self.gaps = gaps or {}
        """Behavior -> gap of each probe before training; none: no probe scores are stored."""
        self.sets = {behavior: _probe_set(behavior, len(values)) for behavior, values in self.gaps.items()}
        self.baseline = _identity("baseline", 0, {"max_length": 256})
        self._insert(self.baseline, dict.fromkeys(behaviors, BASE), None, self.gaps)

    def add(
        self,
        scores: Mapping[str, float],
        *,
        seed: int,
        weight: float = 0.2,
        margin: float | None = 0.1,
        gaps: Mapping[str, np.ndarray] | None = None,
        rank: int = 8,
    ) -> None:
        """One finished run: scores after training, and gaps of single probes. `margin` None: sft-only."""
        condition = "sft-only" if margin is None else "rho-guided"
        config: dict[str, object] = {"condition": condition, "lora_rank": rank}
        if margin is not None:
            config |= {"margin": margin, "rho_weight": weight}
        axes = AlignmentRow(
            condition=condition, rho_weight=0.0 if margin is None else weight, margin=margin, sft_size=8,
            lora_rank=rank,
            lora_alpha=16.0, epochs=1.0, lr=2e-4, train_ce_loss=2.0, train_rho_loss=None, steps=1, updates=1,
            swapped_share=None, adapter_path=None,
        )  # fmt: skip
        self._insert(_identity("alignment", seed, config), scores, axes, gaps or {})

    def _insert(
        self,
        identity: RunIdentity,
        scores: Mapping[str, float],
        axes: AlignmentRow | None,
        gaps: Mapping[str, np.ndarray],
    ) -> None:
        sizes = {behavior: len(gaps.get(behavior, np.zeros(20))) for behavior in scores}
        outcome = Outcome(
            uuid=run_uuid(identity), identity=identity, model=MODEL, attempt=1,
            started_at="2026-01-01T00:00:00+00:00", finished_at="2026-01-01T00:01:00+00:00", seconds=60.0,
            provenance=HERE, baseline=None if axes is None else self.baseline,
            probe_sets=tuple(self.sets[b].fingerprint for b in gaps),
            scores=tuple(
                ScoreRow(behavior=behavior, metric="gap", split="eval", value=value, se=0.01, n=sizes[behavior])
                for behavior, value in scores.items()
            ),
            probe_scores=tuple(row for b, values in gaps.items() for row in _probe_rows(self.sets[b], values)),
            alignment=axes,
        )  # fmt: skip
        with Warehouse.open(self.path) as wh:
            insert_outcome(wh, outcome, {one.fingerprint: one for one in self.sets.values()})


def _identity(kind: str, seed: int, config: dict[str, object]) -> RunIdentity:
    return RunIdentity(
        kind=kind, model_key=MODEL.key, model_fingerprint=MODEL.fingerprint, seed=seed, config=config
    )  # fmt: skip


def _probe_set(behavior: str, n: int) -> ProbeSetRecord:
    probes = tuple(
        ProbeRecord(key=f"p{i:04}", split="eval", kind="pair", category=None, positive=f"yes {i}", negative=f"no {i}")
        for i in range(n)
    )
    return ProbeSetRecord(
        behavior=behavior,
        name=behavior,
        package="test",
        package_version=None,
        fingerprint=digest(behavior),
        probes=probes,
    )


def _probe_rows(probes: ProbeSetRecord, gaps: np.ndarray) -> list[ProbeScoreRow]:
    return [
        ProbeScoreRow(
            probe_set=probes.fingerprint, probe_key=f"p{i:04}", side=side, split="eval", tokens=10, ce=3.0 + shift * gap
        )
        for i, gap in enumerate(gaps.tolist())
        for side, shift in (("positive", 0.0), ("negative", 1.0))
    ]
