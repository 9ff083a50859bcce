"""Warehouses with runs made for a test, and frames of the shape that `Effects.query` returns."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sample_tree import SHARED

from rhodb.family_records import AlignmentRow
from rhodb.records import ModelRecord, Outcome, Provenance, RunIdentity, ScoreRow, canonical_json, digest

SEEDS = (42, 123, 456, 789, 1337)


@pytest.fixture(scope="session")
def truth() -> dict[str, Any]:
    """What a correct analysis finds on the sample of legacy files."""
    assert SHARED is not None
    document: dict[str, Any] = json.loads((SHARED / "reference" / "sample_truth.json").read_text())
    return document


@dataclass(frozen=True, kw_only=True)
class FakeRun:
    """One finished run and its scores per behavior (metric gap, split eval unless told otherwise)."""

    condition: str
    seed: int
    scores: Mapping[str, float]
    rho_weight: float = 0.2
    margin: float = 0.1
    model: str = "tiny"
    metric: str = "gap"
    split: str = "eval"
    n: int = 20
    weights: str = ""
    """Of the model; two runs of one key may differ in it."""
    settings: Mapping[str, object] = field(default_factory=dict)

    @property
    def config(self) -> dict[str, object]:
        config: dict[str, object] = {"condition": self.condition, "rho_weight": self.rho_weight, "lora_rank": 8}
        if self.condition != "sft-only":
            config |= {"margin": self.margin, "pairs_per_step": 4}
        return config | dict(self.settings)

    @property
    def fingerprint(self) -> str:
        return digest(self.model + self.weights)

    @property
    def identity(self) -> RunIdentity:
        return RunIdentity(
            kind="alignment",
            model_key=self.model,
            model_fingerprint=self.fingerprint,
            seed=self.seed,
            config=self.config,
        )


def arm(
    condition: str, values: Mapping[str, Sequence[float]], seeds: Sequence[int] = SEEDS, **rest: object
) -> list[FakeRun]:
    """Runs of one condition: value i of every behavior belongs to seed i."""
    count = len(next(iter(values.values())))
    return [
        FakeRun(condition=condition, seed=seeds[i], scores={b: v[i] for b, v in values.items()}, **rest)  # type: ignore[arg-type]
        for i in range(count)
    ]


def frame(runs: Sequence[FakeRun], baseline: float | None = 0.1) -> pd.DataFrame:
    """The rows that the warehouse would return for these runs."""
    rows = [
        {
            "run": digest(canonical_json([i, run.condition, run.seed])),
            "kind": "alignment",
            "model": run.model,
            "model_fingerprint": run.fingerprint,
            "seed": run.seed,
            "config": canonical_json(run.config),
            "condition": run.condition,
            "rho_weight": 0.0 if run.condition == "sft-only" else run.rho_weight,
            "margin": None if run.condition == "sft-only" else run.margin,
            "behavior": behavior,
            "metric": run.metric,
            "split": run.split,
            "value": value,
            "se": 0.01,
            "n": run.n,
            "baseline_value": baseline,
            "delta": None if baseline is None else value - baseline,
        }
        for i, run in enumerate(runs)
        for behavior, value in run.scores.items()
    ]
    return pd.DataFrame(rows)


def store_runs(db: Path, runs: Sequence[FakeRun], baseline: float = 0.1, max_length: int = 256) -> None:
    """Insert the runs, and one baseline a model, into a real warehouse."""
    from rhodb.store import insert_outcome
    from rhodb.warehouse import Warehouse

    with Warehouse.open(str(db)) as wh:
        for model, weights in {(run.model, run.fingerprint) for run in runs}:
            own = [run for run in runs if (run.model, run.fingerprint) == (model, weights)]
            looks = {(b, run.metric, run.split, run.n) for run in own for b in run.scores}
            scores = [ScoreRow(behavior=b, metric=m, split=s, value=baseline, se=0.01, n=n) for b, m, s, n in looks]
            insert_outcome(wh, _outcome(_baseline(model, weights, max_length), scores, None, None), {})
        for run in runs:
            scores = [
                ScoreRow(behavior=b, metric=run.metric, split=run.split, value=v, se=0.01, n=run.n)
                for b, v in run.scores.items()
            ]
            untouched = _baseline(run.model, run.fingerprint, max_length)
            insert_outcome(wh, _outcome(run.identity, scores, _axes(run), untouched), {})


def _baseline(model: str, weights: str, max_length: int) -> RunIdentity:
    return RunIdentity(
        kind="baseline", model_key=model, model_fingerprint=weights, seed=0, config={"max_length": max_length}
    )


def _axes(run: FakeRun) -> AlignmentRow:
    plain = run.condition == "sft-only"
    return AlignmentRow(
        condition=run.condition, rho_weight=0.0 if plain else run.rho_weight, margin=None if plain else run.margin,
        sft_size=8, lora_rank=8, lora_alpha=16.0, epochs=1.0, lr=2e-4, train_ce_loss=2.0, train_rho_loss=None,
        steps=1, updates=1, swapped_share=None, adapter_path=None,
    )  # fmt: skip


def _outcome(
    identity: RunIdentity,
    scores: Sequence[ScoreRow],
    alignment: AlignmentRow | None,
    baseline: RunIdentity | None,
) -> Outcome:
    from rhodb.store import run_uuid

    return Outcome(
        uuid=run_uuid(identity),
        identity=identity,
        model=ModelRecord(
            key=identity.model_key, source="made for a test", revision=None, fingerprint=identity.model_fingerprint,
            architecture="llama", n_layers=2, n_parameters=1000, quantization=None,
        ),
        attempt=1,
        started_at="2026-01-01T00:00:00+00:00",
        finished_at="2026-01-01T00:01:00+00:00",
        seconds=60.0,
        provenance=Provenance(
            host="here", pid=1, device="cpu", platform="Linux", python="3.11.7", git_commit=None,
            git_dirty=None, versions={}, blas="none",
        ),
        baseline=baseline,
        scores=tuple(scores),
        alignment=alignment,
    )  # fmt: skip


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def make_arm() -> Callable[..., list[FakeRun]]:
    return arm


@pytest.fixture
def make_frame() -> Callable[..., pd.DataFrame]:
    return frame


@pytest.fixture
def fill_warehouse() -> Callable[..., None]:
    return store_runs
