"""The texts of a probe landscape: one node for what each probe says, and one for each variant it comes with.

A pair of the scorer is not a node: here every toxic and benign sentence stands for itself.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from rhodb.errors import InputError
from rhodb.place import for_reading
from rhodb.records import canonical_json, digest
from rhodb.vocabulary import BEHAVIORS
from runners.probes import EXCLUDED_SETS, locate

Variant = Literal["primary", "deceptive", "harmful", "negative"]
Order = Literal["key", "file"]
"""By key: whatever the order of files and of entries in them. By file: as the entries stand there, the notes' order."""
Entry = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Node:
    """A text of the landscape. Identity: (behavior, set_name, key, variant)."""

    behavior: str
    set_name: str
    key: str
    """Id of the entry in its file."""
    variant: Variant
    text: str

    @property
    def text_hash(self) -> str:
        return digest(self.text)


def load_nodes(source: str | None = None, *, variants: bool = True, order: Order = "key") -> list[Node]:
    """The nodes of all probe files of a folder (default: of the package), by behavior, file and key (or entry).

    The order is part of the result: Louvain's method visits nodes in it, and one seed gives other communities where
    entries of a file have changed places (networkx 3.6.1). A variant follows its primary text.
    Raises InputError, naming file and entry, for what cannot be read or has no text.
    """
    root, _, _ = locate(source)
    paths = [
        path
        for behavior in sorted(BEHAVIORS)
        for path in sorted((root / behavior).glob("*.json"))
        if source is not None or path.stem not in EXCLUDED_SETS
    ]
    nodes = [node for path in paths for node in _nodes_of(path) if variants or node.variant == "primary"]
    if not nodes:
        raise InputError(f"no probe files in {root}: expected <behavior>/<name>.json")
    return nodes if order == "file" else sorted(nodes, key=_by_key)


def _by_key(node: Node) -> tuple[str, str, str, bool, str]:
    return node.behavior, node.set_name, node.key, node.variant != "primary", node.variant


def fingerprint(nodes: list[Node]) -> str:
    """SHA-256 over identities and texts, in order."""
    return digest(canonical_json([[n.behavior, n.set_name, n.key, n.variant, n.text] for n in nodes]))


def _nodes_of(path: Path) -> list[Node]:
    try:
        entries = json.loads(for_reading(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"probe file {path} cannot be read as UTF-8 JSON: {error}") from error
    if not isinstance(entries, list):
        raise InputError(f"probe file {path} must be a JSON list of probes")
    nodes = []
    for index, entry in enumerate(entries):
        where = f"probe file {path}, entry {index}"
        if not isinstance(entry, dict) or not isinstance(entry.get("id"), str) or not entry["id"]:
            raise InputError(f"{where}: 'id' must be a text that is not empty")
        for variant, text in _texts(entry, where).items():
            if not isinstance(text, str) or not text.strip():
                raise InputError(f"{where}: its {variant} text must be a text that is not empty")
            nodes.append(
                Node(behavior=path.parent.name, set_name=path.stem, key=entry["id"], variant=variant, text=text)
            )
    return nodes


_SINGLE_VARIANTS: Final[Mapping[str, Variant]] = {"deceptive": "deceptive", "harmful_version": "harmful"}


def _texts(entry: Entry, where: str) -> dict[Variant, Any]:
    """What a probe says, first its primary text.

    False statements and biased or sycophantic answers are no variants: they repeat the primary text but for a word.
    """
    if "text" in entry:
        texts: dict[Variant, Any] = {"primary": entry["text"]}
    elif "honest" in entry:
        texts = {"primary": entry["honest"]}
    elif {"prompt", "positive", "negative"} <= entry.keys():
        return {
            "primary": f"{entry['prompt']}\n{entry['positive']}",
            "negative": f"{entry['prompt']}\n{entry['negative']}",
        }
    else:
        raise InputError(f"{where}: has no text (known layouts: text; honest; prompt+positive+negative)")
    return texts | {name: entry[key] for key, name in _SINGLE_VARIANTS.items() if key in entry}
