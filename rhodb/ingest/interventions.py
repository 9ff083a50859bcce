"""Formats of interventions on activations: steering sweeps, attack and defense."""

from collections.abc import Iterator
from typing import Any

from rhodb.ingest import fields as f
from rhodb.ingest.drafts import RunDraft, add_score
from rhodb.ingest.fields import Field, FormatError, Object, step
from rhodb.ingest.formats import AUDIT_METRICS, Entry, Format, audit_entries, known, listed

STEERING_HEAD = (
    Field(name="model", key="model_id", type=f.name, required=True, also=("model",)),
    Field(name="experiment", key="experiment", type=f.text),
    Field(name="alpha", key="alpha", type=f.number),
    Field(name="device", key="device", type=f.text),
    Field(name="baselines", key="baselines", type=f.mapping),
    Field(name="norms", key="vector_norms", type=f.mapping),
    Field(name="sweep", key="sweep", type=f.items),
)
STEERING_ENTRY = (
    Field(name="layer", key="layer", type=f.count, required=True),
    Field(name="depth", key="depth_pct", type=f.share),
    Field(name="alpha", key="alpha", type=f.number),
    Field(name="seconds", key="elapsed_s", type=f.maybe_duration),
    Field(name="results", key="results", type=f.mapping, required=True),
)


def steering_head(head: dict[str, Any], stem: str) -> dict[str, Any]:
    """The audit of the unsteered model, shared by all layers; norms of other layers stay with the file."""
    swept = {str(entry.get("layer")) for entry in head.pop("sweep") or () if type(entry) is dict}
    norms = {layer: norm for layer, norm in (head["norms"] or {}).items() if layer not in swept}
    before = None
    if head["baselines"] is not None:
        before = RunDraft(
            kind="baseline", model=head["model"], seed=0, config={"format": "steering"}, place="$.baselines"
        )
        audit_entries(before, head["baselines"], ".baselines")
    return {**head, "stem": stem, "before": before, "unread": {"vector_norms": norms} if norms else {}}


def steering_run(head: Object, entry: Object, place: str) -> RunDraft:
    """A layer with a steering vector added."""
    norm = (head["norms"] or {}).get(str(entry["layer"]))
    if norm is not None:
        try:
            norm = f.not_negative(norm)
        except FormatError as error:
            raise error.under(f".vector_norms{step(str(entry['layer']))}") from None
    alpha = head["alpha"] if entry["alpha"] is None else entry["alpha"]
    overruled = head["alpha"] if head["alpha"] not in (None, alpha) else None
    draft = RunDraft(
        kind="steering",
        model=head["model"],
        seed=0,
        config=known({"format": "steering", "layer": entry["layer"], "alpha": alpha}),
        place=place,
        table="steering_heatmap",
        family={"layer": entry["layer"], "depth": entry["depth"], "alpha": alpha, "vector_norm": norm},
        outcomes=("vector_norm",),
        baseline=head["before"],
        experiment=head["experiment"] or head["stem"],
        seconds=entry["seconds"],
        device=head["device"],
        extra=known({"alpha of the file": overruled}),
    )
    audit_entries(draft, entry["results"], ".results")
    return draft


STEERING = Format(
    name="steering",
    fits=lambda value: "sweep" in value and ("baselines" in value or "vector_norms" in value or "model_id" in value),
    head=STEERING_HEAD,
    prepare=steering_head,
    entries=listed("sweep"),
    entry=STEERING_ENTRY,
    run=steering_run,
    files=("heatmap_*.json",),
)

ATTACK_HEAD = (
    Field(name="model", key="model", type=f.name, required=True),
    Field(name="layer", key="layer", type=f.count, required=True),
    Field(name="device", key="device", type=f.text),
    Field(name="refusal", key="refusal", type=f.mapping),
    Field(name="deception", key="deception", type=f.mapping),
)
ATTACK_PART = (
    Field(name="n_features", key="n_features", type=f.count),
    Field(name="results", key="results", type=f.items),
)
ATTACK_ENTRY = (
    Field(name="behavior", key="behavior", type=f.name, required=True),
    Field(name="n_features", key="n_features", type=f.count),
    Field(name="scale", key="scale", type=f.number, required=True),
    Field(name="rho", key="rho", type=f.maybe_number),
    Field(name="delta", key="delta", type=f.maybe_number),
    Field(name="n_regressed", key="n_regressed", type=f.count),
    Field(name="mean_collateral", key="mean_collateral", type=f.maybe_number),
)
ATTACKED = ("refusal", "deception")


def attack_head(head: dict[str, Any], stem: str) -> dict[str, Any]:
    """What a part says beside its results, its status above all, is kept with the file."""
    declared = {field.key for field in ATTACK_PART}
    parts = {behavior: head[behavior] or {} for behavior in ATTACKED}
    beside = {
        f"{behavior}.{key}": value for behavior, part in parts.items() for key, value in part.items()
        if key not in declared
    }  # fmt: skip
    return {**head, "stem": stem, "unread": beside}


def attack_entries(head: Object, value: Object) -> Iterator[Entry]:
    """Results of both behaviors, each with the number of its features."""
    for behavior in ATTACKED:
        if value.get(behavior) is None:
            continue
        try:
            part, _ = f.read(ATTACK_PART, value[behavior])
        except FormatError as error:
            raise error.under(step(behavior)) from None
        for i, result in enumerate(part["results"] or ()):
            place = f"{step(behavior)}.results[{i}]"
            try:
                yield place, {**f.mapping(result), "behavior": behavior, "n_features": part["n_features"]}
            except FormatError as error:
                raise error.under(place) from None


def attack_run(head: Object, entry: Object, place: str) -> RunDraft:
    """Features of one behavior scaled."""
    behavior = entry["behavior"]
    family = {"layer": head["layer"], "target_behavior": behavior, "scale": entry["scale"]}
    outcomes = ("n_features", "n_regressed", "mean_collateral")
    draft = RunDraft(
        kind="attack_defense",
        model=head["model"],
        seed=0,
        config={"format": "attack_defense", **family},
        place=place,
        table="attack_defense",
        family={**family, **{name: entry[name] for name in outcomes}},
        outcomes=outcomes,
        device=head["device"],
    )
    if entry["rho"] is None:
        draft.missing += 1
        return draft
    metric = AUDIT_METRICS[behavior]
    add_score(draft, behavior, metric, entry["rho"], None)
    if entry["delta"] is not None:
        draft.baseline = RunDraft(
            kind="baseline",
            model=head["model"],
            seed=0,
            config={"format": "attack_defense"},
            place=f"{place}.delta",
        )
        add_score(draft.baseline, behavior, metric, round(entry["rho"] - entry["delta"], 12), None)
    return draft


def attack_baselines(runs: list[RunDraft]) -> list[RunDraft]:
    """One untouched model: its scores of both behaviors belong to one run, where the differences agree."""
    before: RunDraft | None = None
    for run in runs:
        if run.baseline is None:
            continue
        if before is None:
            before = run.baseline
            continue
        if all(abs(before.scores.get(key, found)[0] - found[0]) < 1e-6 for key, found in run.baseline.scores.items()):
            before.scores |= {key: found for key, found in run.baseline.scores.items() if key not in before.scores}
            run.baseline = before
    return runs


ATTACK = Format(
    name="attack_defense",
    fits=lambda value: any(type(value.get(name)) is dict and "results" in value[name] for name in ATTACKED),
    head=ATTACK_HEAD,
    entries=attack_entries,
    entry=ATTACK_ENTRY,
    run=attack_run,
    finish=attack_baselines,
    prepare=attack_head,
    used=ATTACKED,
    files=("steering_sweep.json",),
)
