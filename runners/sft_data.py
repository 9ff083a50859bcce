"""Instruction texts for the SFT term: traps from the probes, general instructions, and refusals.

Without a data set of their own, general instructions are built from the probes of the training split only:
problems with worked answers, and harmless questions with answers. Refusals answer the harmful questions of
the refusal probes; their share is an option, because the notes ask whether the refusal buffer can be titrated.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np

from rhodb.errors import InputError
from rhodb.records import ProbeRecord, ProbeSetRecord, canonical_json, digest

T = TypeVar("T")

TRAP_INSTRUCTIONS: Final[Mapping[str, str]] = {
    "factual": "State a fact that is true.",
    "toxicity": "Write a sentence about a group of people that treats them with respect.",
    "deception": "Answer honestly, and say what you are not sure of.",
    "refusal": "Explain something useful and harmless.",
    "bench": "State something that is correct.",
}
"""For probes without a prompt of their own; the positive text is the response."""
TRAP_DEFAULT: Final = "Write something true, fair and kind."

REFUSALS: Final = (
    "I can't help with that, because it could hurt someone. If there is a safe goal behind your question, tell me "
    "and I will help you with it.",
    "I'm not able to give instructions for this. It is dangerous and could cause serious harm to people.",
    "I won't help with this request. If you are thinking of harming yourself or others, please talk to someone you "
    "trust or to your local emergency service.",
    "Sorry, but I can't assist with that. I'd be glad to help with something that is lawful and safe instead.",
    "That is something I have to decline, since it would put people at risk.",
    "I can't provide that information. I can explain how to stay safe and what the law says, if that is of use.",
)

COLUMN_PAIRS: Final = (
    ("instruction", "output"),
    ("instruction", "response"),
    ("prompt", "completion"),
    ("prompt", "response"),
    ("question", "answer"),
)
"""Recognised columns of a data set, tried in this order; Alpaca's `input` is appended to its instruction."""


@dataclass(frozen=True, kw_only=True)
class Instruction:
    instruction: str
    response: str


@dataclass(frozen=True, kw_only=True)
class SftPools:
    """Where the texts of a run are drawn from. `fingerprint` identifies their content."""

    traps: Sequence[Instruction]
    general: Sequence[Instruction]
    refusals: Sequence[Instruction]

    @property
    def fingerprint(self) -> str:
        return digest(
            canonical_json(
                [[[i.instruction, i.response] for i in p] for p in (self.traps, self.general, self.refusals)]
            )
        )


def build_pools(
    sets: Sequence[ProbeSetRecord], *, split: str, trap_behaviors: Sequence[str], data: str | None
) -> SftPools:
    """The three pools, from the probes of the training split (all probes if `split` is `none`) and from `data`."""
    probes = [(s.behavior, p) for s in sets for p in s.probes if split == "none" or p.split == "train"]
    traps = [_trap(behavior, p) for behavior, p in probes if behavior in trap_behaviors and p.kind == "pair"]
    refusing = [p for behavior, p in probes if behavior == "refusal" and p.negative is not None]
    refusals = [
        Instruction(
            instruction=_question(p.negative or ""), response=REFUSALS[int(digest(p.key)[:8], 16) % len(REFUSALS)]
        )
        for p in refusing
    ]
    if data is not None:
        general = read_instructions(data)
    else:
        general = [_answered(p) for p in refusing] + [
            _problem(p) for behavior, p in probes if behavior == "reasoning" and p.kind == "generation"
        ]
    return SftPools(traps=traps, general=general, refusals=refusals)


def draw(
    pools: SftPools, *, size: int, trap_share: float, refusal_share: float, rng: np.random.Generator
) -> list[Instruction]:
    """`size` instructions: round(size * trap_share) traps, of the rest the refusal share, then general ones.

    Texts repeat only where a pool is smaller than what is asked of it, and then each equally often (to within
    one). Raises InputError for an empty pool that something is asked of.
    """
    n_traps = round(size * trap_share)
    n_refusals = round((size - n_traps) * refusal_share)
    wanted = {"traps": n_traps, "refusals": n_refusals, "general": size - n_traps - n_refusals}
    return [text for name, count in wanted.items() for text in _cycle(getattr(pools, name), count, name, rng)]


def _cycle(pool: Sequence[T], count: int, name: str, rng: np.random.Generator) -> list[T]:
    if count and not pool:
        raise InputError(f"the SFT data have no {name} to draw {count} texts from; set their share to 0 or add probes")
    rounds = -(-count // len(pool)) if pool else 0
    order = [index for _ in range(rounds) for index in rng.permutation(len(pool))]
    return [pool[index] for index in order[:count]]


def _trap(behavior: str, probe: ProbeRecord) -> Instruction:
    if probe.prompt is not None:
        return Instruction(instruction=probe.prompt.strip(), response=probe.positive[len(probe.prompt) :].strip())
    return Instruction(instruction=TRAP_INSTRUCTIONS.get(behavior, TRAP_DEFAULT), response=probe.positive)


def _question(text: str) -> str:
    return text.partition("\n\n")[0]


def _answered(probe: ProbeRecord) -> Instruction:
    question, _, answer = probe.positive.partition("\n\n")
    return Instruction(instruction=question, response=answer or question)


def _problem(probe: ProbeRecord) -> Instruction:
    """A worked problem; GSM8K's calculator marks `<<1+2=3>>` go, its `#### 3` becomes a sentence."""
    prompt = probe.prompt or ""
    worked = re.sub(r"<<.*?>>", "", probe.positive[len(prompt) :])
    return Instruction(
        instruction=prompt.strip(), response=re.sub(r"\n*#### *(.+)", r"\nThe answer is \1.", worked).strip()
    )


def read_instructions(source: str) -> list[Instruction]:
    """Instructions from a JSONL or Parquet file, or from such files of a hub data set.

    Raises InputError naming the file, the row and what was expected.
    """
    path = Path(source)
    files = [path] if path.is_file() else _hub_files(source)
    rows = [(file, number, row) for file in files for number, row in enumerate(_rows(file), start=1)]
    if not rows:
        raise InputError(f"SFT data {source!r} hold no rows")
    return [_instruction(file, number, row) for file, number, row in rows]


def _rows(file: Path) -> list[dict[str, Any]]:
    try:
        if file.suffix == ".parquet":
            import pyarrow.parquet

            rows: list[dict[str, Any]] = pyarrow.parquet.read_table(file).to_pylist()
            return rows
        with file.open(encoding="utf-8") as lines:
            return [json.loads(line) for line in lines if line.strip()]
    except (OSError, ValueError) as error:
        raise InputError(f"SFT data file {file} cannot be read as JSON Lines or Parquet: {error}") from None


def _instruction(file: Path, number: int, row: Any) -> Instruction:
    if isinstance(row, dict):
        messages = row.get("messages")
        if isinstance(messages, list) and len(messages) >= 2:
            return Instruction(instruction=str(messages[-2]["content"]), response=str(messages[-1]["content"]))
        for asked, answered in COLUMN_PAIRS:
            question, answer = row.get(asked), row.get(answered)
            if isinstance(question, str) and isinstance(answer, str) and question.strip() and answer.strip():
                extra = row.get("input")
                question = f"{question}\n{extra}" if isinstance(extra, str) and extra.strip() else question
                return Instruction(instruction=question, response=answer)
    known = ", ".join("+".join(pair) for pair in COLUMN_PAIRS)
    raise InputError(f"SFT data file {file}, row {number}: needs two texts that are not empty, as {known}, or messages")


def _hub_files(source: str) -> list[Path]:
    """The JSONL and Parquet files of a hub data set, from the local cache or downloaded."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(
            snapshot_download(source, repo_type="dataset", allow_patterns=["*.jsonl", "*.parquet", "**/*.parquet"])
        )
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise InputError(
            f"SFT data {source!r} are neither a file here nor a hub data set that can be reached: {error}".splitlines()[
                0
            ]
        ) from None
    return sorted(p for p in folder.rglob("*") if p.suffix in {".jsonl", ".parquet"})
