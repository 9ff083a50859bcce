"""What a format is: declared fields, how a file divides into runs, and one importer that reads any of them."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rhodb.ingest import fields as f
from rhodb.ingest.drafts import RunDraft, add_score
from rhodb.ingest.fields import Field, FormatError, Object, step
from rhodb.vocabulary import BEHAVIORS

Entry = tuple[str, Object]
"""(JSON path below $, object) of one run."""

AUDIT_METRICS = {
    "factual": "truth_corr",
    "toxicity": "auc",
    "bias": "choice_accuracy",
    "sycophancy": "choice_accuracy",
    "reasoning": "choice_accuracy",
    "refusal": "auc",
    "deception": "auc",
    "overrefusal": "answer_rate",
    "bench": "truth_corr",
}
"""What an audit's "rho" really is, by behavior."""

BELOW_0 = "choice_accuracy_below_0"
"""Key of a run's `extra` for values between -1 and 0 that an audit holds in the place of a share. Its tool writes the
share of right answers there, or, in another mode, a rank correlation; which one a file holds, it does not say. A
negative number is no share, and so no score: it is kept beside the run, and reported."""


@dataclass(frozen=True, kw_only=True)
class Format:
    """One kind of result file."""

    name: str
    fits: Callable[[Object], bool]
    """Whether a file's top object looks like this."""
    entries: Callable[[Object, Object], Iterator[Entry]]
    """(head, top object) -> runs with their places."""
    entry: Sequence[Field]
    run: Callable[[Object, Object, str], RunDraft]
    """(head, entry, place) -> run; raises FormatError with a path below the entry."""
    head: Sequence[Field] = ()
    prepare: Callable[[dict[str, Any], str], dict[str, Any]] = lambda head, stem: {**head, "stem": stem}
    """(head as read, file's stem) -> head as `run` wants it."""
    finish: Callable[[list[RunDraft]], list[RunDraft]] | None = None
    """Links runs of a file with each other, where they have to be."""
    used: tuple[str, ...] = ()
    """Keys of the top object that `entries` reads by itself."""
    files: tuple[str, ...] = ()
    """File names that promise this format: such a file is refused, not passed over, if it is something else."""


@dataclass(kw_only=True)
class Reading:
    """A file as its format reads it."""

    format: str
    runs: Iterable[RunDraft] = ()
    """Read from the file as they are gone through, once; raises FormatError on the way."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Known when all runs were read."""


def read_format(format_: Format, value: Object, stem: str) -> Reading:
    """The one importer. It, or the runs, raise FormatError with the JSON path of the first thing that is wrong."""
    reading = Reading(format=format_.name)
    runs = _runs(format_, value, stem, reading)
    reading.runs = runs if format_.finish is None else format_.finish(list(runs))
    return reading


def _runs(format_: Format, value: Object, stem: str, reading: Reading) -> Iterator[RunDraft]:
    head, unread = f.read(format_.head, value)
    head = format_.prepare(head, stem)
    unread |= head.pop("unread", {})
    used = {*format_.used}
    for place, raw in format_.entries(head, value):
        used.add(_top_key(place))
        try:
            entry, rest = f.read(format_.entry, raw)
            run = format_.run(head, entry, f"${place}")
        except FormatError as error:
            raise error.under(place) from None
        run.extra |= {key: kept for key, kept in rest.items() if key not in run.extra}
        yield run
    if "" not in used:
        kept = {key: left for key, left in unread.items() if key not in used}
        reading.extra = {key: list(left) if f.is_list(left) else left for key, left in kept.items()}


def _top_key(place: str) -> str:
    """`.runs[3]` -> `runs`; `['a b'].results[0]` -> `a b`; empty for the file itself."""
    if place.startswith("["):
        return place[2:].split("']", 1)[0] if place[1] in "'\"" else place
    return place[1:].split(".", 1)[0].split("[", 1)[0]


def listed(key: str) -> Callable[[Object, Object], Iterator[Entry]]:
    """Runs stand in a list under a key."""

    def entries(_head: Object, value: Object) -> Iterator[Entry]:
        try:
            found = f.items(value.get(key))
        except FormatError as error:
            raise error.under(step(key)) from None
        for i, raw in enumerate(found):
            if type(raw) is not dict:
                raise FormatError(f"expected an object, got {f.kind_of(raw)}", f"{step(key)}[{i}]")
            yield f"{step(key)}[{i}]", raw

    return entries


def keyed(_head: Object, value: Object) -> Iterator[Entry]:
    """The entries of the top object that are objects with results are runs."""
    for key, raw in value.items():
        if type(raw) is dict and "behaviors" in raw:
            yield step(key), raw


def itself(_head: Object, value: Object) -> Iterator[Entry]:
    """The file is one run."""
    yield "", value


def known(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without those that are not known."""
    return {key: value for key, value in settings.items() if value is not None}


def behavior_numbers(raw: Any, key: str, draft: RunDraft) -> dict[str, float | None]:
    """Behavior -> number or None (null, NaN). What is no behavior goes to the run's extra."""
    if raw is None:
        return {}
    found: dict[str, float | None] = {}
    for name, value in f.mapping(raw).items():
        if name not in BEHAVIORS:
            draft.extra[f"{key}.{name}"] = value
            continue
        try:
            found[name] = None if value is None else f.maybe_number(value)
        except FormatError as error:
            raise error.under(f".{key}{step(name)}") from None
    return found


def add_audit_score(draft: RunDraft, behavior: str, value: float, n: int | None) -> None:
    """Add an audit's "rho" as what it is."""
    if AUDIT_METRICS[behavior] == "choice_accuracy" and -1 <= value < 0:
        draft.extra.setdefault(BELOW_0, {})[behavior] = [value, n or None]
    else:
        add_score(draft, behavior, AUDIT_METRICS[behavior], value, n)


def audit_scores(draft: RunDraft, raw: Object, path: str) -> None:
    """Scores of an audit given as bare numbers."""
    try:
        for behavior, value in behavior_numbers(raw, path[1:], draft).items():
            if value is None:
                draft.missing += 1
            else:
                add_audit_score(draft, behavior, value, None)
    except FormatError as error:
        raise error if error.path.startswith(path) else error.under(path) from None


AUDIT = (
    Field(name="behavior", key="behavior", type=f.text),
    Field(name="rho", key="rho", type=f.maybe_number),
    Field(name="retention", key="retention", type=f.maybe_share),
    Field(name="positive", key="positive_count", type=f.count),
    Field(name="total", key="total", type=f.count),
)


def audit_entries(draft: RunDraft, raw: Object, path: str) -> None:
    """Scores of an audit given as {behavior: {rho, retention, positive_count, total}}."""
    for name, value in raw.items():
        if name not in BEHAVIORS:
            draft.extra[f"{path[1:]}.{name}"] = value
            continue
        try:
            entry, rest = f.read(AUDIT, value)
            if entry["behavior"] not in (None, name):
                said = f"{path[1:]}.{name} calls itself {entry['behavior']!r}"
                draft.warnings.append(f"{said}: filed under {name}, what it says is in `extra`")
                rest = {"behavior": entry["behavior"], **rest}
            if entry["rho"] is None:
                draft.missing += 1
            else:
                add_audit_score(draft, name, entry["rho"], entry["total"])
            if entry["retention"] is not None:
                add_score(draft, name, "retention", entry["retention"], entry["total"])
        except FormatError as error:
            where = error.path if error.path.startswith(step(name)) else step(name) + error.path
            raise FormatError(error.reason, path + where) from None
        if entry["positive"] is not None:
            draft.notes.setdefault("positive_count", {})[name] = entry["positive"]
        if entry["total"] is not None and all(key[0] != name for key in draft.scores):
            rest = {"total": entry["total"], **rest}  # no score that it could be the n of
        if rest:
            draft.extra[f"{path[1:]}.{name}"] = rest
