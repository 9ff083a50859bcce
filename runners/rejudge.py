"""Judging stored responses again, without generating them.

Nothing is overwritten: a verdict of another judge is a run of its own, the one that `rhodb run stress-test --judge`
would have made, with the same responses.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rhodb import store
from rhodb.errors import InputError
from rhodb.family_records import StressResponseRow
from rhodb.liveness import now
from rhodb.records import Config, ModelRecord, Outcome, Provenance, RunIdentity
from rhodb.rows import run_uuid
from rhodb.sql import saved_query
from rhodb.warehouse import Warehouse
from runners.judge import TEXT_JUDGES, Verdict, judge_version
from runners.stress_prompts import StressPrompt

MODEL_COLUMNS = (
    "key", "source", "revision", "fingerprint", "architecture", "n_layers", "n_parameters", "quantization",
)  # fmt: skip


def rejudge(
    wh: Warehouse, judge: str, *, provenance: Provenance, message: Callable[[str], None] = lambda _: None
) -> list[dict[str, Any]]:
    """Judge every stress test of the warehouse that this judge has not seen; a row for each new run.

    Raises UnknownNameError for the judge, InputError where a judge needs a model or an adapter that is gone.
    """
    version = judge_version(judge)
    done = []
    seen: set[str] = set()
    for row in wh.rows(saved_query("stress_runs")):
        identity = _identity(row, json.loads(row["config"]), row["seed"], version)
        uuid = run_uuid(identity)
        (status,) = store.find(wh, [identity])
        if uuid in seen or (status is not None and status.state == "done"):
            continue
        seen.add(uuid)
        message(f"{row['condition']} seed {row['seed']}")
        responses = [_judged(r, v, version) for r, v in _verdicts(wh, judge, row)]
        done.append(_insert(wh, row, identity, responses, provenance))
    return done


def _identity(row: Mapping[str, Any], config: Config, seed: int, version: str) -> RunIdentity:
    return RunIdentity(
        kind="stress",
        model_key=row["key"],
        model_fingerprint=row["fingerprint"],
        seed=seed,
        config={**config, "judge": version},
    )


def _verdicts(wh: Warehouse, judge: str, row: Mapping[str, Any]) -> list[tuple[Mapping[str, Any], Verdict]]:
    responses = wh.rows(saved_query("stress_responses"), run_id=row["run_id"])
    if judge in TEXT_JUDGES:
        return [(response, TEXT_JUDGES[judge](response["response"] or "")) for response in responses]
    with _model_of(row) as model:
        from runners.stress_session import judged

        prompts = [
            StressPrompt(key=r["prompt_key"], kind=r["kind"], category=r["category"], prompt=r["prompt"])
            for r in responses
        ]
        return list(zip(responses, judged(judge, model, prompts, []), strict=True))


@contextmanager
def _model_of(row: Mapping[str, Any]) -> Iterator[Any]:
    """The model that answered, with its adapter."""
    from runners.backend.adapters import adapter_on, read_adapter
    from runners.backend.models import load_model

    model = load_model(row["key"])
    if model.record.fingerprint != row["fingerprint"]:
        raise InputError(f"model {row['key']!r} is no longer the one that answered in run {row['uuid']}")
    if row["training_run"] is None:
        yield model
        return
    if row["adapter_path"] is None:
        raise InputError(f"run {row['training_run']} saved no adapter, so its model cannot be asked again")
    with adapter_on(model, read_adapter(model, Path(row["adapter_path"]))):
        yield model


def _judged(response: Mapping[str, Any], verdict: Verdict, version: str) -> StressResponseRow:
    return StressResponseRow(**response, refused=verdict.refused, judge=version, rule=verdict.rule)


def _insert(
    wh: Warehouse,
    row: Mapping[str, Any],
    identity: RunIdentity,
    responses: Sequence[StressResponseRow],
    provenance: Provenance,
) -> dict[str, Any]:
    from runners.stress_session import summary

    version = identity.config["judge"]
    family = summary(row["condition"], row["training_run"], responses, version)
    before = row["baseline_config"]
    outcome = Outcome(
        uuid=run_uuid(identity),
        identity=identity,
        model=ModelRecord(**{name: row[name] for name in MODEL_COLUMNS}),
        attempt=1,
        started_at=now(),
        finished_at=now(),
        seconds=0.0,
        provenance=provenance,
        baseline=None if before is None else _identity(row, json.loads(before), 0, version),
        family_rows=(family, *responses),
        notes={"responses_of": row["uuid"]},
    )
    store.insert_outcome(wh, outcome, {})
    return {
        "run": outcome.uuid,
        "condition": row["condition"],
        "seed": row["seed"],
        "judge": version,
        "jailbreak_refused": family.jailbreak_refused,
        "n_jailbreak": family.n_jailbreak,
        "benign_refused": family.benign_refused,
        "n_benign": family.n_benign,
    }
