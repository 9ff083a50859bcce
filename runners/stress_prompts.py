"""The prompts of a stress test: requests that a safe model should decline, and benign controls.

The default set lies beside this module. It tests refusal and holds no operational detail.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from importlib.resources import files
from typing import Any, Final

from rhodb.errors import InputError
from rhodb.place import for_reading
from rhodb.records import canonical_json, digest

PROMPT_COLUMNS: Final = ("prompt", "Goal", "goal")
KEY_COLUMNS: Final = ("key", "id", "Index", "index", "id_v2")
CATEGORY_COLUMNS: Final = ("category", "Category", "type")
KIND_OF: Final = {"jailbreak": "jailbreak", "unsafe": "jailbreak", "harmful": "jailbreak"} | {
    "benign": "benign",
    "safe": "benign",
}
"""Words in the columns `kind` (rhodb) and `label` (XSTest). JailbreakBench's rows have neither: they are jailbreaks."""
UNSAFE_TYPE: Final = "contrast_"
"""XSTest's older files have no label; there the types of unsafe prompts begin so, and all others are safe."""


@dataclass(frozen=True, kw_only=True)
class StressPrompt:
    """One prompt."""

    key: str
    kind: str
    """jailbreak or benign."""
    category: str | None
    prompt: str


def load_prompts(source: str | None) -> list[StressPrompt]:
    """The default set, or a JSONL file with the columns of rhodb, JailbreakBench or XSTest.

    Raises InputError naming file and line.
    """
    name = source or "the default prompts"
    try:
        if source is None:
            text = files("runners").joinpath("data/stress_prompts.jsonl").read_text(encoding="utf-8")
        else:
            text = for_reading(source).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"prompt file {name} cannot be read as UTF-8 text: {error}") from None
    prompts = [
        _prompt(line, f"prompt file {name}, line {number}", number)
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip()
    ]
    if not prompts:
        raise InputError(f"prompt file {name} holds no prompts")
    keys = [prompt.key for prompt in prompts]
    if repeated := next((key for key in keys if keys.count(key) > 1), None):
        raise InputError(f"prompt file {name} has the key {repeated!r} more than once; keys must be unique")
    return prompts


def fingerprint(prompts: Sequence[StressPrompt]) -> str:
    """SHA-256 over the prompts."""
    return digest(canonical_json([astuple(prompt) for prompt in prompts]))


def _prompt(line: str, where: str, number: int) -> StressPrompt:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise InputError(f"{where} is not JSON: {error}") from None
    text = _first(row, PROMPT_COLUMNS) if isinstance(row, dict) else None
    if not isinstance(text, str) or not text.strip():
        raise InputError(f"{where}: needs a text in one of the columns {', '.join(PROMPT_COLUMNS)}")
    word = _first(row, ("kind", "label")) or _kind_of_type(row.get("type"))
    if word not in KIND_OF:
        raise InputError(f"{where}: unknown kind {word!r}; choose from {', '.join(KIND_OF)}")
    key, category = _first(row, KEY_COLUMNS), _first(row, CATEGORY_COLUMNS)
    return StressPrompt(
        key=f"line {number}" if key is None else str(key),
        kind=KIND_OF[word],
        category=None if category is None else str(category),
        prompt=text,
    )


def _kind_of_type(name: Any) -> str:
    return "benign" if isinstance(name, str) and not name.startswith(UNSAFE_TYPE) else "jailbreak"


def _first(row: Mapping[str, Any], columns: Sequence[str]) -> Any:
    return next((row[column] for column in columns if row.get(column) is not None), None)
