"""Formats of training experiments: alignment runs, merged alignment runs, hybrid pipelines, safety stress tests."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from rhodb.ingest import fields as f
from rhodb.ingest.drafts import RunDraft, add_score, check_difference
from rhodb.ingest.fields import Field, FormatError, Object, step
from rhodb.ingest.formats import Entry, Format, audit_scores, behavior_numbers, itself, known, listed
from rhodb.vocabulary import CONDITIONS, STRESS_CONDITIONS

PAIR_ORDER = "pair order"
"""What a seed drives in these files: the order of contrast pairs and label swaps only."""


def condition(value: Any) -> str | None:
    """A training condition; empty means not stated."""
    word = f.text(value).strip().lower().replace("_", "-")
    if word and word not in CONDITIONS:
        raise FormatError(f"unknown condition {value!r}; known are {', '.join(CONDITIONS)}")
    return word or None


SETTINGS = (
    Field(name="rho_weight", key="rho_weight", type=f.not_negative),
    Field(name="margin", key="margin", type=f.not_negative),
    Field(name="sft_size", key="sft_size", type=f.count),
    Field(name="lora_rank", key="lora_rank", type=f.count),
    Field(name="lora_alpha", key="lora_alpha", type=f.not_negative),
    Field(name="epochs", key="epochs", type=f.not_negative),
    Field(name="lr", key="lr", type=f.not_negative),
)
ALIGNMENT_HEAD = (
    Field(name="model", key="model", type=f.name, required=True),
    Field(name="backend", key="backend", type=f.text),
    Field(name="experiment", key="experiment", type=f.text),
    Field(name="baseline", key="baseline_quick", type=f.mapping, also=("baseline",)),
    Field(name="config", key="config", type=f.mapping),
)
ALIGNMENT_ENTRY = (
    Field(name="condition", key="condition", type=condition),
    Field(name="seed", key="seed", type=f.seed, required=True),
    Field(name="rho_weight", key="rho_weight", type=f.not_negative),
    Field(name="margin", key="margin", type=f.not_negative),
    Field(name="scores", key="quick_scores", type=f.mapping),
    Field(name="deltas", key="quick_deltas", type=f.mapping),
    Field(name="train_ce_loss", key="train_ce_loss", type=f.maybe_number),
    Field(name="train_rho_loss", key="train_rho_loss", type=f.maybe_number),
    Field(name="steps", key="train_steps", type=f.count),
    Field(name="seconds", key="elapsed_seconds", type=f.maybe_duration),
    Field(name="error", key="error", type=f.text),
)
MERGED_ENTRY = (
    Field(name="condition", key="condition", type=condition, required=True),
    Field(name="seed", key="seed", type=f.seed),
    Field(name="number", key="number", type=f.count, required=True),
    Field(name="deltas", key="deltas", type=f.mapping, required=True),
)


def alignment_run(head: Object, entry: Object, place: str) -> RunDraft:
    """A training run: its own λ and γ outrank the file's; a missing γ is unknown."""
    settings, other = head["settings"], dict.fromkeys(("train_ce_loss", "train_rho_loss", "steps"))
    rho_weight = settings["rho_weight"] if entry.get("rho_weight") is None else entry["rho_weight"]
    word = entry["condition"]
    if word is None:
        if rho_weight is None:
            raise FormatError("neither condition nor rho_weight is stated")
        word = "rho-guided" if rho_weight > 0 else "sft-only"
    margin = settings["margin"] if entry.get("margin") is None else entry["margin"]
    axes = {**settings, "condition": word, "rho_weight": 0.0 if word == "sft-only" else rho_weight, "margin": margin}
    known_seed = entry["seed"] is not None
    draft = RunDraft(
        kind="alignment",
        model=head["model"],
        seed=entry["seed"] if known_seed else entry["number"],
        seed_known=known_seed,
        config=known({"format": "alignment", "backend": head["backend"], "seed_known": known_seed or None, **axes}),
        place=place,
        table="alignment_runs",
        family={**axes, **{key: entry.get(key) for key in other}},
        outcomes=("train_ce_loss", "train_rho_loss"),
        experiment=head["experiment"] or head["stem"],
        error=entry.get("error") or None,
        seconds=entry.get("seconds"),
        notes={"seed_semantics": PAIR_ORDER},
    )
    if entry.get("scores") is None and entry.get("deltas") is None:
        if draft.error is None:
            raise FormatError("has neither quick_scores nor quick_deltas nor an error")
        draft.baseline = head["before"] if head["baseline_scores"] else None
        return draft
    _gaps(draft, entry, head)
    return draft


def _gaps(draft: RunDraft, entry: Object, head: Object) -> None:
    """Scores, and the baseline that they are differences to; what only one of the two files holds is computed."""
    scores, deltas = (
        behavior_numbers(entry.get(name), key, draft)
        for name, key in (("scores", "quick_scores"), ("deltas", "quick_deltas"))
    )
    stated: dict[str, float] = head["baseline_scores"]
    before = dict(stated)
    for behavior in dict.fromkeys([*scores, *deltas]):
        score, delta = scores.get(behavior), deltas.get(behavior)
        if score is None and delta is not None and behavior in before:
            score = round(before[behavior] + delta, 12)
        elif score is not None and delta is not None and behavior not in before:
            before[behavior] = round(score - delta, 12)
        elif score is not None and delta is not None:
            check_difference(draft, f"delta_{behavior}", delta, before[behavior], score)
        if score is not None:
            add_score(draft, behavior, "gap", score, None)
        elif delta is None:
            draft.missing += 1
        else:
            draft.extra[f"delta_{behavior}"] = delta  # a difference to nothing that is known
    if before:
        draft.baseline = head["before"] if before == stated else baseline_run(head, before)


def baseline_run(head: Object, scores: Mapping[str, float]) -> RunDraft:
    """The untouched model, as far as the file knows it."""
    return RunDraft(
        kind="baseline",
        model=head["model"],
        seed=0,
        config=known({"format": "alignment", "backend": head["backend"]}),
        place="$.baseline",
        scores={(behavior, "gap"): (value, None) for behavior, value in scores.items()},
    )


def alignment_head(head: dict[str, Any], stem: str) -> dict[str, Any]:
    """The file's own settings, and its baseline as numbers."""
    settings: dict[str, Any] = {field.name: None for field in SETTINGS}
    unread: dict[str, Any] = {}
    if head["config"] is not None:
        try:
            settings, unread = f.read(SETTINGS, head["config"])
        except FormatError as error:
            raise error.under(".config") from None
    probe = RunDraft(kind="baseline", model="", seed=0, config={}, place="")
    scores = behavior_numbers(head["baseline"], "baseline", probe)
    found = {behavior: value for behavior, value in scores.items() if value is not None}
    unread |= probe.extra
    before = baseline_run(head, found)
    return {**head, "stem": stem, "settings": settings, "baseline_scores": found, "before": before, "unread": unread}


def merged_entries(head: Object, value: Object) -> Iterator[Entry]:
    """{condition: {behavior: [delta per seed]}} turned into runs; a list that is too short lacks the rest."""
    seeds = value.get("seeds")
    if seeds is not None and type(seeds) is not list:
        raise FormatError(f"expected a list of seeds, got {f.kind_of(seeds)}", ".seeds")
    numbers = seeds
    for word, behaviors in head["merged"].items():
        lists: dict[str, list[Any]] = {}
        if type(behaviors) is not dict:
            raise FormatError(f"expected an object, got {f.kind_of(behaviors)}", f".merged_deltas{step(word)}")
        for behavior, deltas in behaviors.items():
            if type(deltas) is not list:
                reason = f"expected a list of differences, got {f.kind_of(deltas)}"
                raise FormatError(reason, f".merged_deltas{step(word)}{step(behavior)}")
            if numbers is not None and len(deltas) > len(numbers):
                reason = f"holds {len(deltas)} differences for {len(numbers)} seeds"
                raise FormatError(reason, f".merged_deltas{step(word)}{step(behavior)}")
            lists[behavior] = deltas
        longest = max((len(deltas) for deltas in lists.values()), default=0)
        for i in range(longest if numbers is None else len(numbers)):
            deltas = {behavior: values[i] if i < len(values) else None for behavior, values in lists.items()}
            seed = None if numbers is None else numbers[i]
            yield (
                f".merged_deltas{step(word)}[{i}]",
                {"condition": word, "seed": seed, "number": i, "deltas": deltas},
            )


ALIGNMENT = Format(
    name="alignment",
    fits=lambda value: "runs" in value,
    head=ALIGNMENT_HEAD,
    prepare=alignment_head,
    entries=listed("runs"),
    entry=ALIGNMENT_ENTRY,
    run=alignment_run,
)
MERGED = Format(
    name="alignment (merged)",
    fits=lambda value: "merged_deltas" in value and "runs" not in value,
    head=(*ALIGNMENT_HEAD, Field(name="merged", key="merged_deltas", type=f.mapping, required=True)),
    prepare=alignment_head,
    entries=merged_entries,
    entry=MERGED_ENTRY,
    run=alignment_run,
    used=("seeds",),
)

HYBRID_CONFIG = (
    Field(name="compress_ratio", key="compress_ratio", type=f.share),
    Field(name="freeze_fraction", key="freeze_fraction", type=f.share),
    Field(name="sae_layer", key="sae_layer", type=f.count),
    Field(name="rho_weight", key="rho_weight", type=f.not_negative),
    Field(name="margin", key="margin", type=f.not_negative),
    Field(name="seed", key="seed", type=f.seed),
)
HYBRID_ENTRY = (
    Field(name="model", key="model_name", type=f.name, required=True),
    Field(name="finished_at", key="timestamp", type=f.text),
    Field(name="config", key="config", type=f.mapping, required=True),
    Field(name="before", key="audit_before", type=f.mapping),
    Field(name="after", key="audit_after", type=f.mapping),
    Field(name="phases", key="phases", type=f.items),
    Field(name="seconds", key="total_elapsed_sec", type=f.maybe_duration),
    Field(name="error", key="error", type=f.text),
)
PHASE = (
    Field(name="phase", key="phase", type=f.name, required=True),
    Field(name="seconds", key="elapsed_sec", type=f.maybe_duration),
    Field(name="error", key="error", type=f.text),
)


def hybrid_run(head: Object, entry: Object, place: str) -> RunDraft:
    """A pipeline with its audit before and after."""
    try:
        settings, other = f.read(HYBRID_CONFIG, entry["config"])
    except FormatError as error:
        raise error.under(".config") from None
    seed = settings.pop("seed")
    draft = RunDraft(
        kind="hybrid",
        model=entry["model"],
        seed=0 if seed is None else seed,
        seed_known=seed is not None,
        # The other settings (targets of compression and steering, ...) set runs apart, too.
        config=known({"format": "hybrid", "seed_known": seed is not None or None, **other, **settings}),
        place=place,
        table="hybrid_sweep",
        family=settings,
        finished_at=entry["finished_at"],
        seconds=entry["seconds"],
        error=entry["error"] or None,
        notes={"seed_semantics": PAIR_ORDER},
    )
    if entry["after"] is not None:
        audit_scores(draft, entry["after"], ".audit_after")
    elif draft.error is None:
        raise FormatError("is missing", ".audit_after")
    if entry["before"] is not None:
        draft.baseline = RunDraft(
            kind="baseline", model=draft.model, seed=0, config={"format": "hybrid"}, place="$.audit_before"
        )
        audit_scores(draft.baseline, entry["before"], ".audit_before")
    for position, raw in enumerate(entry["phases"] or ()):
        try:
            phase, unread = f.read(PHASE, raw)
        except FormatError as error:
            raise error.under(f".phases[{position}]") from None
        draft.children.append(("hybrid_phases", {"position": position, **phase}))
        if kept := known({key: value for key, value in unread.items() if value != {}}):
            draft.extra[f"phases[{position}]"] = kept
    return draft


HYBRID = Format(
    name="hybrid",
    fits=lambda value: "audit_after" in value or ("model_name" in value and "audit_before" in value),
    entries=itself,
    entry=HYBRID_ENTRY,
    run=hybrid_run,
    files=("hybrid_result.json",),
)

STRESS_HEAD = (
    Field(name="model", key="model", type=f.name, required=True),
    Field(name="experiment", key="experiment", type=f.text),
    Field(name="seed", key="seed", type=f.seed),
    Field(name="n_jailbreak", key="n_jailbreak", type=f.count),
    Field(name="n_benign", key="n_benign", type=f.count),
    Field(name="conditions", key="conditions", type=f.mapping, required=True),
)
STRESS_ENTRY = (
    Field(name="jailbreak_refused", key="jailbreak_refused", type=f.count),
    Field(name="benign_refused", key="benign_refused", type=f.count),
    Field(name="jailbreak", key="jailbreak_results", type=f.items),
    Field(name="benign", key="benign_results", type=f.items),
)
RESPONSE = (
    Field(name="prompt_key", key="id", type=f.name, required=True),
    Field(name="category", key="category", type=f.text),
    Field(name="refused", key="refused", type=f.flag),
    Field(name="response", key="response_preview", type=f.text, also=("response",)),
)


def stress_entries(head: Object, value: Object) -> Iterator[Entry]:
    """The conditions; the untouched model first, since the others are compared with it."""
    found = sorted(head["conditions"].items(), key=lambda item: item[0] != "baseline")
    for word, entry in found:
        if word.strip().lower().replace("_", "-") not in STRESS_CONDITIONS:
            raise FormatError(
                f"unknown condition {word!r}; known are {', '.join(STRESS_CONDITIONS)}", f".conditions{step(word)}"
            )
        if type(entry) is not dict:
            raise FormatError(f"expected an object, got {f.kind_of(entry)}", f".conditions{step(word)}")
        yield f".conditions{step(word)}", {**entry, "condition": word}


def stress_run(head: Object, entry: Object, place: str) -> RunDraft:
    """Refusals of one condition: counts, rates and single answers."""
    word = entry["condition"].strip().lower().replace("_", "-")
    seed = head["seed"]
    draft = RunDraft(
        kind="stress",
        model=head["model"],
        seed=0 if seed is None else seed,
        seed_known=seed is not None,
        config=known(
            {
                "format": "stress",
                "condition": word,
                "n_jailbreak": head["n_jailbreak"],
                "n_benign": head["n_benign"],
                "seed_known": seed is not None or None,
            }
        ),
        place=place,
        table="stress_tests",
        experiment=head["experiment"] or head["stem"],
        notes={"seed_semantics": PAIR_ORDER},
    )
    draft.family = {"condition": word}
    for kind, behavior in (("jailbreak", "refusal"), ("benign", "overrefusal")):
        answers = _answers(draft, kind, entry[kind])
        refused = entry[f"{kind}_refused"]
        if refused is None and answers and None not in answers:
            refused = sum(answers)
        total = head[f"n_{kind}"] or len(answers) or None
        draft.family |= {f"n_{kind}": total, f"{kind}_refused": refused}
        if refused is None or total is None:
            draft.missing += 1
            continue
        if refused > total:
            raise FormatError(f"{refused} refused of {total} prompts", f".{kind}_refused")
        add_score(draft, behavior, "refusal_rate", refused / total, total)
    return draft


def _answers(draft: RunDraft, kind: str, raw: Collection[Any] | None) -> list[int | None]:
    verdicts = []
    for i, item in enumerate(raw or ()):
        try:
            answer, unread = f.read(RESPONSE, item if type(item) is not dict else {**item, "id": str(item.get("id"))})
        except FormatError as error:
            raise error.under(f".{kind}_results[{i}]") from None
        row = {"kind": kind, **answer, "prompt_key": f"{kind}/{answer['prompt_key']}"}
        if any(child["prompt_key"] == row["prompt_key"] for _, child in draft.children):
            raise FormatError(f"id {answer['prompt_key']!r} stands there twice", f".{kind}_results[{i}].id")
        draft.children.append(("stress_responses", row))
        verdicts.append(answer["refused"])
        if unread:
            draft.extra[f"{kind}_results[{i}]"] = unread
    return verdicts


def stress_baselines(runs: list[RunDraft]) -> list[RunDraft]:
    """The untouched model's run is what the others are compared with."""
    before = next((run for run in runs if run.family["condition"] == "baseline"), None)
    for run in runs:
        run.baseline = before if run is not before else None
    return runs


STRESS = Format(
    name="stress",
    fits=lambda value: (
        type(value.get("conditions")) is dict
        and ("n_jailbreak" in value or any("jailbreak" in str(entry) for entry in value["conditions"].values()))
    ),
    head=STRESS_HEAD,
    prepare=lambda head, stem: {**head, "stem": stem},
    entries=stress_entries,
    entry=(*STRESS_ENTRY, Field(name="condition", key="condition", type=f.name, required=True)),
    run=stress_run,
    finish=stress_baselines,
    files=("safety_stress_test_*.json",),
)
