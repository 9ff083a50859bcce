"""Small records for the warehouse's tests: a model, probe sets, identities and outcomes with random scores."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sqlalchemy import select

from rhodb.family_records import AlignmentRow
from rhodb.records import (
    Config,
    ModelRecord,
    Outcome,
    ProbeRecord,
    ProbeScoreRow,
    ProbeSetRecord,
    Provenance,
    RunIdentity,
    ScoreRow,
    TrainStepRow,
    canonical_json,
    digest,
)
from rhodb.schema import Base
from rhodb.store import run_uuid
from rhodb.warehouse import Warehouse

MODEL = ModelRecord(
    key="tiny",
    source="made for a test",
    revision=None,
    fingerprint=digest("weights"),
    architecture="llama",
    n_layers=2,
    n_parameters=12_345,
    quantization=None,
)
PROVENANCE = Provenance(
    host="here",
    pid=1,
    device="cpu",
    platform="Linux x86_64",
    python="3.11.7",
    git_commit=None,
    git_dirty=False,
    versions={"rhodb": "0.1.0"},
    blas="OpenBLAS 0.3.29",
)


def identity(seed: int = 42, kind: str = "alignment", **config: object) -> RunIdentity:
    resolved: Config = {"condition": "rho-guided", **config}
    return RunIdentity(kind=kind, model_key=MODEL.key, model_fingerprint=MODEL.fingerprint, seed=seed, config=resolved)


BASELINE = identity(seed=0, kind="baseline", condition=None)


def probe_set(behavior: str = "toxicity", pairs: int = 6) -> ProbeSetRecord:
    probes = tuple(
        ProbeRecord(
            key=f"{behavior}-{i}",
            split="eval" if i % 2 else "train",
            kind="pair",
            category=None,
            positive=f"a kind text {i}",
            negative=f"an unkind text {i}",
            prompt=None,
        )
        for i in range(pairs)
    )
    return ProbeSetRecord(
        behavior=behavior,
        name=f"{behavior}.json",
        package="tests",
        package_version=None,
        fingerprint=digest(canonical_json([p.key for p in probes])),
        probes=probes,
    )


def probe_scores(
    record: ProbeSetRecord, rng: np.random.Generator, *, decimals: int = 6, answers: bool = False
) -> list[ProbeScoreRow]:
    """Random CEs for both sides; few decimals make ties."""
    return [
        ProbeScoreRow(
            probe_set=record.fingerprint,
            probe_key=probe.key,
            side=side,
            split=probe.split,
            tokens=int(rng.integers(1, 40)),
            ce=round(float(rng.normal(3 + 0.3 * (side == "negative"), 0.5)), decimals),
            answer_tokens=3 if answers else None,
            answer_ce=round(float(rng.normal(2, 0.5)), decimals) if answers else None,
        )
        for probe in record.probes
        for side in ("positive", "negative")
    ]


def outcome(
    of: RunIdentity | None = None,
    *,
    baseline: RunIdentity | None = None,
    attempt: int = 1,
    error: str | None = None,
    probe_rows: Sequence[ProbeScoreRow] = (),
    scores: Sequence[ScoreRow] | None = None,
    value: float = 0.25,
) -> Outcome:
    of = of or identity()
    if scores is None:
        scores = [ScoreRow(behavior="toxicity", metric="gap", split="eval", value=value, se=0.1, n=3)]
    return Outcome(
        uuid=run_uuid(of),
        identity=of,
        model=MODEL,
        attempt=attempt,
        started_at="2026-01-01T00:00:00+00:00",
        finished_at="2026-01-01T00:01:00+00:00",
        seconds=60.0,
        provenance=PROVENANCE,
        baseline=baseline,
        probe_sets=tuple(sorted({row.probe_set for row in probe_rows})),
        scores=() if error else tuple(scores),
        probe_scores=tuple(probe_rows),
        train_steps=()
        if error or of.kind == "baseline"
        else (
            TrainStepRow(
                step=1,
                ce_loss=2.0,
                rho_loss=0.1,
                active_pairs=3,
                pairs=4,
                lr=2e-4,
                grad_norm=None,
                tokens=64,
                seconds=0.5,
            ),
        ),
        alignment=None if error or of.kind == "baseline" else ALIGNMENT,
        error=error,
        notes={"truncated": 0},
    )


ALIGNMENT = AlignmentRow(
    condition="rho-guided",
    rho_weight=0.2,
    margin=0.1,
    sft_size=8,
    lora_rank=8,
    lora_alpha=16.0,
    epochs=1.0,
    lr=2e-4,
    train_ce_loss=2.0,
    train_rho_loss=0.1,
    steps=1,
    updates=1,
    swapped_share=None,
    adapter_path=None,
)


def dump(path: Path) -> list[str]:
    """The whole database as SQL text, for comparing."""
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


def held(wh: Warehouse) -> dict[str, list[tuple[object, ...]]]:
    """Every row of every table, on either kind of server."""
    with wh.read() as connection:
        return {
            table.name: sorted(map(tuple, connection.execute(select(table))), key=repr)
            for table in Base.metadata.sorted_tables
        }


def address(wh: Warehouse) -> str:
    """What another process opens the warehouse by."""
    return str(wh.location.path or wh.location.url.render_as_string(hide_password=False))
