"""Formats of audits of whole models: freeze sweeps, leaderboards, categories of probes, compression by seed."""

from collections.abc import Iterator, Mapping

from rhodb.ingest import fields as f
from rhodb.ingest.drafts import RunDraft, add_score, check_difference
from rhodb.ingest.fields import Field, FormatError, Object, step
from rhodb.ingest.formats import Entry, Format, audit_entries, itself, keyed, known, listed

FREEZE_ENTRY = (
    Field(name="label", key="model", type=f.text),
    Field(name="model", key="model_id", type=f.name),
    Field(name="compress_ratio", key="compress_ratio", type=f.share, required=True),
    Field(name="freeze_ratio", key="freeze_ratio", type=f.share, required=True),
    Field(name="fine_tuned", key="fine_tuned", type=f.flag),
    Field(name="behaviors", key="behaviors", type=f.mapping, required=True),
    Field(name="finished_at", key="timestamp", type=f.text),
)


def freeze_run(head: Object, entry: Object, place: str) -> RunDraft:
    """A compressed model. Entries with a baseline of their own hold it beside every behavior's result."""
    model = entry["model"] or entry["label"]
    if not model:
        raise FormatError("neither model_id nor model is stated")
    family = {name: entry[name] for name in ("compress_ratio", "freeze_ratio", "fine_tuned")}
    untouched = entry["compress_ratio"] == 1 and entry["freeze_ratio"] == 0 and not entry["fine_tuned"]
    draft = RunDraft(
        kind="baseline" if untouched else "freeze",
        model=model,
        seed=0,
        config={"format": "freeze"} if untouched else known({"format": "freeze", **family}),
        place=place,
        table="freeze_sweep",
        family=family,
        finished_at=entry["finished_at"],
        notes={"label": entry["label"]} if entry["model"] and entry["label"] else {},
    )
    pairs = {name: result for name, result in entry["behaviors"].items() if _is_pair(result)}
    audit_entries(
        draft, {name: result["compressed"] if name in pairs else result for name, result in entry["behaviors"].items()},
        ".behaviors",
    )  # fmt: skip
    before = {name: result["baseline"] for name, result in pairs.items() if result.get("baseline") is not None}
    if before and not untouched:
        draft.baseline = RunDraft(
            kind="baseline", model=model, seed=0, config={"format": "freeze"}, place=f"{place}.behaviors"
        )
        audit_entries(draft.baseline, before, ".behaviors")
    elif before:
        draft.extra["baseline"] = before  # of an entry that is the baseline
    _beside_pairs(draft, pairs)
    return draft


def _is_pair(result: object) -> bool:
    return type(result) is dict and "compressed" in result


def _beside_pairs(draft: RunDraft, pairs: Mapping[str, Object]) -> None:
    """What stands beside the two results of a behavior: their difference, and what no format declares."""
    for name, result in pairs.items():
        rest = {key: value for key, value in result.items() if key not in ("baseline", "compressed")}
        delta = rest.pop("delta", None)
        if delta is not None:
            try:
                stated = f.maybe_number(delta)
            except FormatError as error:
                raise error.under(f".behaviors{step(name)}.delta") from None
            if stated is not None:
                both = (_rho(result.get("baseline")), _rho(result["compressed"]))
                check_difference(draft, f"delta_{name}", stated, *both)
        if rest:
            draft.extra[f"behaviors.{name} (beside)"] = rest


def _rho(result: object) -> float | None:
    return f.maybe_number(result["rho"]) if type(result) is dict and result.get("rho") is not None else None


def freeze_baselines(runs: list[RunDraft]) -> list[RunDraft]:
    """An entry without a baseline is compared with the model's untouched entry of the same file, if there is one."""
    untouched: dict[str, RunDraft] = {}
    for run in runs:
        if run.kind == "baseline":
            untouched.setdefault(run.model, run)
    for run in runs:
        if run.kind == "freeze" and run.baseline is None:
            run.baseline = untouched.get(run.model)
    return runs


FREEZE = Format(
    name="freeze",
    fits=lambda value: (
        any(type(entry) is dict and "compress_ratio" in entry for entry in value.values())
        and "audit_after" not in value
        and "config" not in value
    ),
    entries=keyed,
    entry=FREEZE_ENTRY,
    run=freeze_run,
    finish=freeze_baselines,
    files=("sweep_v2.json", "sweep.json"),
)

LEADERBOARD_ENTRY = (
    Field(name="key", key=" key", type=f.name, required=True),
    Field(name="model", key="model_id", type=f.name),
    Field(name="model_type", key="model_type", type=f.text),
    Field(name="description", key="description", type=f.text),
    Field(name="device", key="device", type=f.text),
    Field(name="finished_at", key="timestamp", type=f.text),
    Field(name="seconds", key="elapsed_seconds", type=f.maybe_duration),
    Field(name="behaviors", key="behaviors", type=f.mapping, required=True),
)


def leaderboard_entries(head: Object, value: Object) -> Iterator[Entry]:
    """The entries with their key, which is the label where a model is listed."""
    for key, entry in value.items():
        if type(entry) is dict and "behaviors" in entry:
            yield step(key), {**entry, " key": key}


def leaderboard_run(head: Object, entry: Object, place: str) -> RunDraft:
    """The audit of one model."""
    draft = RunDraft(
        kind="leaderboard",
        model=entry["model"] or entry["key"],
        seed=0,
        config=known({"format": "leaderboard", "label": entry["key"], "model_type": entry["model_type"]}),
        place=place,
        table="leaderboard",
        family={"label": entry["key"], "model_type": entry["model_type"], "description": entry["description"]},
        finished_at=entry["finished_at"],
        seconds=entry["seconds"],
        device=entry["device"],
    )
    audit_entries(draft, entry["behaviors"], ".behaviors")
    return draft


LEADERBOARD = Format(
    name="leaderboard",
    fits=lambda value: any(
        type(entry) is dict and type(entry.get("behaviors")) is dict and "compress_ratio" not in entry
        for entry in value.values()
    ),
    entries=leaderboard_entries,
    entry=LEADERBOARD_ENTRY,
    run=leaderboard_run,
    files=("merged_audit.json",),
)

FIDELITY_ENTRY = (
    Field(name="model", key="model", type=f.name, required=True),
    Field(name="seconds", key="elapsed_seconds", type=f.maybe_duration),
    Field(name="categories", key="categories", type=f.items, required=True),
)
CATEGORY = (
    Field(name="category", key="category", type=f.name, required=True),
    Field(name="n_probes", key="n_probes", type=f.count),
    Field(name="truth_corr", key="rho", type=f.maybe_number),
    Field(name="p", key="rho_p", type=f.maybe_number),
    Field(name="mean_delta", key="mean_delta", type=f.maybe_number),
    Field(name="pair_accuracy", key="accuracy", type=f.maybe_number),
)
CATEGORY_RANGES = {"truth_corr": -1.0, "p": 0.0, "pair_accuracy": 0.0}


def fidelity_run(head: Object, entry: Object, place: str) -> RunDraft:
    """An audit by category of probes."""
    draft = RunDraft(
        kind="fidelity",
        model=entry["model"],
        seed=0,
        config={"format": "fidelity"},
        place=place,
        table="fidelity_bench",
        family={"n_categories": len(entry["categories"])},
        seconds=entry["seconds"],
    )
    for i, raw in enumerate(entry["categories"]):
        try:
            row, unread = f.read(CATEGORY, raw)
            for name, low in CATEGORY_RANGES.items():
                if row[name] is not None and not low <= row[name] <= 1:
                    raise FormatError(f"{name} must lie between {low:g} and 1, got {row[name]:g}")
            if any(child["category"] == row["category"] for _, child in draft.children):
                raise FormatError(f"category {row['category']!r} stands there twice")
        except FormatError as error:
            raise error.under(f".categories[{i}]") from None
        draft.missing += sum(row[name] is None for name in ("truth_corr", "pair_accuracy"))
        draft.children.append(("fidelity_categories", row))
        if unread:
            draft.extra[f"categories[{i}]"] = unread
    return draft


FIDELITY = Format(
    name="fidelity",
    fits=lambda value: "categories" in value and "model" in value,
    entries=itself,
    entry=FIDELITY_ENTRY,
    run=fidelity_run,
    files=("fidelity_bench_*.json",),
)

CF90_HEAD = (
    Field(name="model", key="model", type=f.name, required=True),
    Field(name="ratio", key="ratio", type=f.share, required=True),
)
CF90_ENTRY = (
    Field(name="seed", key="seed", type=f.seed, required=True),
    Field(name="retention", key="retention", type=f.maybe_share),
    Field(name="before", key="rho_before", type=f.maybe_number),
    Field(name="after", key="rho_after", type=f.maybe_number),
    Field(name="rho_drop", key="rho_drop", type=f.maybe_number),
    Field(name="n_compressed", key="n_compressed", type=f.count),
    Field(name="seconds", key="elapsed", type=f.maybe_duration),
    Field(name="error", key="error", type=f.text),
)


def cf90_run(head: Object, entry: Object, place: str) -> RunDraft:
    """A compressed model under one seed, with its own measurement before."""
    family = {"ratio": head["ratio"], **{key: entry[key] for key in ("n_compressed", "retention", "rho_drop")}}
    draft = RunDraft(
        kind="cf90",
        model=head["model"],
        seed=entry["seed"],
        config={"format": "cf90", "ratio": head["ratio"]},
        place=place,
        table="cf90_multiseed",
        family=family,
        outcomes=("retention", "rho_drop"),
        seconds=entry["seconds"],
        error=entry["error"] or None,
        notes={"seed_semantics": "not stated"},
    )
    if entry["after"] is not None:
        add_score(draft, "factual", "truth_corr", entry["after"], None)
    elif draft.error is None:
        draft.missing += 1
    if entry["retention"] is not None:
        add_score(draft, "factual", "retention", entry["retention"], None)
    if entry["before"] is not None:
        draft.baseline = RunDraft(
            kind="baseline",
            model=head["model"],
            seed=entry["seed"],
            config={"format": "cf90"},
            place=f"{place}.rho_before",
        )
        add_score(draft.baseline, "factual", "truth_corr", entry["before"], None)
    return draft


CF90 = Format(
    name="cf90",
    fits=lambda value: "ratio" in value and f.is_list(value.get("seeds")),
    head=CF90_HEAD,
    entries=listed("seeds"),
    entry=CF90_ENTRY,
    run=cf90_run,
    files=("cf90_multiseed_*.json",),
)
