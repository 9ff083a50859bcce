"""Inserts and reads of the warehouse against plain sqlite3, SQLAlchemy and MLflow.

    python benchmarks/bench_inserts.py [--scores 1000000] [--runs 200] [--metrics 40] [--repeats 3]
                                       [--mlflow-python PATH]

1. `--scores` rows into behavior_scores, same table and indexes, one transaction: sqlite3's executemany, rhodb's
   bulk insert, SQLAlchemy Core with dicts, ORM add_all (a hundredth of the rows, scaled)
2. whole runs, durable (synchronous=FULL), `--runs` runs with `--metrics` scores each: those that wait in one
   transaction (`insert_outcomes`), one transaction a run (`insert_outcome`, as a runner does), and the same without
   waiting for the disk (synchronous=OFF), which no durable way can beat; against MLflow's SQLite store by log_batch
   (`--mlflow-python`: an interpreter that has mlflow). Beside them the time of one fsync of a run's pages
3. a tidy frame of all scores: `wh.scores` against plain SQL through sqlite3 and pandas

Variants take turns; the fastest of the repeats counts. Prints one JSON object. Busy neighbours lower all figures.
"""

import argparse
import json
import os
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from sqlalchemy import insert
from sqlalchemy.orm import Session

from rhodb.family_records import AlignmentRow
from rhodb.records import ModelRecord, Outcome, Provenance, RunIdentity, ScoreRow
from rhodb.rows import bulk_insert, run_uuid
from rhodb.schema.core import BehaviorScore
from rhodb.store import insert_outcome, insert_outcomes
from rhodb.warehouse import Warehouse

COLUMNS = ("run_id", "behavior", "metric", "split", "value", "se", "n")
BEHAVIORS = ("factual", "toxicity", "bias", "sycophancy", "reasoning", "refusal", "deception", "overrefusal")
METRICS = ("gap", "answer_gap", "rho", "auc", "pair_accuracy")
PER_RUN = len(BEHAVIORS) * len(METRICS)
MODEL = ModelRecord(
    key="m", source="s", revision=None, fingerprint="f", architecture="a", n_layers=1, n_parameters=1, quantization=None
)
PROVENANCE = Provenance(
    host="h", pid=1, device="cpu", platform="p", python="3", git_commit=None, git_dirty=None, versions={}, blas="b"
)
MLFLOW = """
import sys, time, tempfile
import mlflow
from mlflow.entities import Metric
from mlflow.tracking import MlflowClient
runs, metrics = int(sys.argv[1]), int(sys.argv[2])
with tempfile.TemporaryDirectory() as folder:
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.create_experiment("x", artifact_location=folder)
    client.create_run(experiment)
    started = time.perf_counter()
    for i in range(runs):
        run = client.create_run(experiment)
        client.log_batch(run.info.run_id, metrics=[Metric(f"m{j}", j / 100, 0, 0) for j in range(metrics)])
        client.set_terminated(run.info.run_id)
    print(runs / (time.perf_counter() - started))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scores", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--metrics", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--mlflow-python", help="interpreter that has mlflow")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = {
            "score_rows_per_s": compare_inserts(Path(folder), options.scores, options.repeats),
            "runs_per_s": compare_runs(Path(folder), options),
            "frame_s": compare_frames(Path(folder) / "rhodb.db", options.repeats),
        }
    print(json.dumps(report, indent=2))


def rows_of(n: int) -> list[tuple[object, ...]]:
    """Score rows as a warehouse holds them: sorted by run."""
    runs = n // PER_RUN
    return [
        (run, behavior, metric, "eval", (run * 37 % 101) / 101, 0.01, 100)
        for run in range(1, runs + 1)
        for behavior in BEHAVIORS
        for metric in METRICS
    ]


def fresh(path: Path, runs: int) -> Path:
    """A new warehouse with so many runs that have no scores yet."""
    for ending in ("", "-wal", "-shm"):
        path.with_name(path.name + ending).unlink(missing_ok=True)
    with Warehouse.open(path) as wh, wh.write() as connection:
        connection.exec_driver_sql("INSERT INTO models (id, key, source, fingerprint) VALUES (1, 'm', 's', 'f')")
        columns = "id, uuid, kind, model_id, seed, config, config_hash, state, attempt, planned_at, finished_at, notes"
        bulk_insert(
            connection,
            "runs",
            columns.split(", "),
            [(i, f"u{i}", "baseline", 1, i, "{}", "h", "done", 1, "t", "t", "{}") for i in range(1, runs + 1)],
        )
    return path


def compare_inserts(folder: Path, n: int, repeats: int) -> dict[str, float]:
    rows = rows_of(n)
    few = rows[: max(PER_RUN, len(rows) // 100 // PER_RUN * PER_RUN)]
    variants: dict[str, tuple[Callable[[Path, list[tuple[object, ...]]], None], list[tuple[object, ...]]]] = {
        "sqlite3_executemany": (plain, rows),
        "rhodb": (ours, rows),
        "sqlalchemy_core_dicts": (core, rows),
        "sqlalchemy_orm": (orm, few),
    }
    best = dict.fromkeys(variants, float("inf"))
    for _ in range(repeats):
        for name, (insert_all, given) in variants.items():
            path = fresh(folder / f"{name.split('_')[0]}.db", n // PER_RUN)
            started = time.perf_counter()
            insert_all(path, given)
            best[name] = min(best[name], (time.perf_counter() - started) / len(given))
    speeds = {name: round(1 / seconds) for name, seconds in best.items()}
    return speeds | {"rhodb_to_sqlite3": round(best["sqlite3_executemany"] / best["rhodb"], 2)}


SQL = f"INSERT INTO behavior_scores ({', '.join(COLUMNS)}) VALUES (?, ?, ?, ?, ?, ?, ?)"


def plain(path: Path, rows: list[tuple[object, ...]]) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("PRAGMA foreign_keys = ON")
        raw.execute("PRAGMA synchronous = FULL")
        raw.execute("BEGIN IMMEDIATE")
        raw.executemany(SQL, rows)
        raw.execute("COMMIT")


def ours(path: Path, rows: list[tuple[object, ...]]) -> None:
    with Warehouse.open(path) as wh, wh.write() as connection:
        bulk_insert(connection, "behavior_scores", COLUMNS, rows)


def core(path: Path, rows: list[tuple[object, ...]]) -> None:
    with Warehouse.open(path) as wh, wh.write() as connection:
        connection.execute(insert(BehaviorScore), [dict(zip(COLUMNS, row, strict=True)) for row in rows])


def orm(path: Path, rows: list[tuple[object, ...]]) -> None:
    with Warehouse.open(path) as wh, wh.write() as connection, Session(connection) as session:
        session.add_all(BehaviorScore(**dict(zip(COLUMNS, row, strict=True))) for row in rows)
        session.flush()


def together(wh: Warehouse, outcomes: list[Outcome]) -> None:
    insert_outcomes(wh, [(outcome, {}) for outcome in outcomes])


def one_by_one(wh: Warehouse, outcomes: list[Outcome]) -> None:
    for outcome in outcomes:
        insert_outcome(wh, outcome, {})


def without_sync(wh: Warehouse, outcomes: list[Outcome]) -> None:
    with wh.engine.connect() as connection:
        connection.exec_driver_sql("ROLLBACK")
        connection.exec_driver_sql("PRAGMA synchronous = OFF")  # the pool holds this one connection
        connection.exec_driver_sql("BEGIN")
    one_by_one(wh, outcomes)


WAYS = {"one_transaction": together, "transaction_a_run": one_by_one, "transaction_a_run_unsynced": without_sync}


def compare_runs(folder: Path, options: argparse.Namespace) -> dict[str, float]:
    """Whole runs: rhodb in each way, MLflow one batch a run; and how often they are as fast as MLflow."""
    outcomes = [whole_run(seed, options.metrics) for seed in range(options.runs)]
    best: dict[str, float] = {}
    for i in range(options.repeats):
        for name, insert_all in WAYS.items():
            with Warehouse.open(folder / f"{name}{i}.db") as wh:
                insert_outcome(wh, whole_run(10**6, options.metrics), {})
                started = time.perf_counter()
                insert_all(wh, outcomes)
                best[name] = max(best.get(name, 0.0), len(outcomes) / (time.perf_counter() - started))
        if options.mlflow_python:
            command = [options.mlflow_python, "-c", MLFLOW, str(options.runs), str(options.metrics)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            best["mlflow"] = max(best.get("mlflow", 0.0), float(done.stdout.split()[-1]))
    found = {name: round(speed, 1) for name, speed in best.items()}
    if theirs := best.get("mlflow"):
        found |= {f"{name}_to_mlflow": round(best[name] / theirs, 1) for name in WAYS}
    return found | {"fsync_ms": round(fsync_ms(folder / "fsync"), 2)}


def fsync_ms(path: Path) -> float:
    """Time to append and flush what a run's transaction writes (170 kB of pages), ms."""
    with path.open("wb") as file:
        started = time.perf_counter()
        for _ in range(100):
            file.write(b"x" * 170_000)
            file.flush()
            os.fsync(file.fileno())
        return (time.perf_counter() - started) * 10


def whole_run(seed: int, n_metrics: int) -> Outcome:
    names = [(behavior, metric) for behavior in BEHAVIORS for metric in METRICS]
    of = RunIdentity(kind="alignment", model_key="m", model_fingerprint="f", seed=seed, config={"rho_weight": 0.2})
    return Outcome(
        uuid=run_uuid(of),
        identity=of,
        model=MODEL,
        attempt=1,
        started_at="2026-01-01T00:00:00+00:00",
        finished_at="2026-01-01T00:01:00+00:00",
        seconds=60.0,
        provenance=PROVENANCE,
        baseline=None,
        scores=tuple(
            ScoreRow(behavior=behavior, metric=metric, split="eval", value=0.5, se=0.1, n=10)
            for behavior, metric in names[:n_metrics]
        ),
        alignment=AlignmentRow(
            condition="rho-guided", rho_weight=0.2, margin=0.1, sft_size=8, lora_rank=8, lora_alpha=16.0, epochs=1.0,
            lr=2e-4, train_ce_loss=2.0, train_rho_loss=0.1, steps=1, updates=1, swapped_share=None, adapter_path=None,
        ),
    )  # fmt: skip


def compare_frames(path: Path, repeats: int) -> dict[str, float]:
    """The view's rows as a frame: our way and the plainest one."""
    import pandas as pd

    best = {"plain": float("inf"), "rhodb": float("inf")}
    n = 0
    with Warehouse.open(path, read_only=True) as wh, closing(sqlite3.connect(path)) as raw:
        for _ in range(repeats):
            started = time.perf_counter()
            n = len(pd.read_sql_query("SELECT * FROM v_scores", raw))
            middle = time.perf_counter()
            assert len(wh.scores()) == n
            best["plain"] = min(best["plain"], middle - started)
            best["rhodb"] = min(best["rhodb"], time.perf_counter() - middle)
    seconds = {name: round(value, 2) for name, value in best.items()}
    return seconds | {"rows": n, "rhodb_to_plain": round(best["rhodb"] / best["plain"], 2)}


if __name__ == "__main__":
    main()
