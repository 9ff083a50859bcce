"""Runs whose scores a version of rhodb got wrong, by model and version; how, is told in `docs/architecture.md`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from analysis.looks import Look
from analysis.panel import Panel
from analysis.quality.flags import flag, listed
from rhodb.records import digest

if TYPE_CHECKING:
    import pandas as pd

LAST_WRONG: Final = (0, 4, 0)
WRONG_LOGITS: Final = {
    "gemma2": "the soft cap on the logits was left out, up to 0.9 nats/token",
    "cohere": "the logits' scale was left out, up to 1.6 nats/token",
    "cohere2": "the logits' scale was left out, up to 1.6 nats/token",
    "granite": "the logits' scaling was left out, up to 2.2 nats/token",
    "helium": "the logits were not the model's own, up to 2.2 nats/token",
}
"""Architecture -> what rhodb up to 0.4.0 did to every cross-entropy of it."""


def wrong_by_version(frame: "pd.DataFrame", panel: Panel) -> list[Look]:
    """Own runs of rhodb 0.4.0 and earlier on models whose logits, packed weights or adapters it took wrongly."""
    heads = frame[(frame["origin"] == "rhodb") & (frame["state"] == "done")].drop_duplicates("run")
    old = heads[heads["versions"].map(_old).astype(bool)]
    looks = []
    for model, runs in old.groupby("model", sort=True):
        looks += [*_logits(str(model), runs), *_packed(str(model), runs), *_full_adapters(str(model), runs)]
    return looks


def _logits(model: str, runs: "pd.DataFrame") -> list[Look]:
    rows = runs[runs["architecture"].isin(WRONG_LOGITS.keys())]
    if rows.empty:
        return []
    kind = str(rows["architecture"].iloc[0])
    return [
        _flag(model, rows, f"are of the architecture {kind}", f"{WRONG_LOGITS[kind]}; run them again with this version")
    ]


def _packed(model: str, runs: "pd.DataFrame") -> list[Look]:
    """Adapters and merges of packed weights. A GGUF's quantisation is a remark in words: its weights are expanded."""
    told = runs["quantization"].map(lambda words: isinstance(words, str) and words.startswith("{")).astype(bool)
    rows = runs[told & (runs["kind"] == "leaderboard")]
    configs = rows["config"].map(_config)
    rows = rows[configs.map(lambda c: c.get("entry") != model and "requantize" not in c).astype(bool)]
    if rows.empty:
        return []
    why = "packed integers were averaged, or read with the old scales; run them again with this version"
    return [_flag(model, rows, "score merges of quantised models, or adapters for one", why)]


def _full_adapters(model: str, runs: "pd.DataFrame") -> list[Look]:
    """A full fine-tune given as an adapter took the base's place. It shows where the base itself was an entry: its
    weights then had a fingerprint, as only weights that differ from the base's have one."""
    boards = runs[runs["kind"] == "leaderboard"]
    configs = {run: _config(config) for run, config in zip(boards["run"], boards["config"], strict=True)}
    untouched = {digest(""), *runs["model_fingerprint"]}
    exchanged = [
        run for run, c in configs.items() if c.get("entry") == model and c.get("weights_fingerprint") not in untouched
    ]
    own = {None, model}  # and the adapters of own runs, which are all of LoRA
    others = [
        run
        for run, c in configs.items()
        if c.get("entry") not in own and Path(c["entry"]).name not in runs["run"].to_numpy() and "requantize" not in c
    ]
    if exchanged:
        rows = runs[runs["run"].isin({*exchanged, *others, *boards["baseline"]})]
        why = (
            "an adapter of full fine-tuning among the --models was written over the base: base and tuned model are "
            "exchanged, and a baseline first scored then is the tuned model's; run them again, and what shares it"
        )
        return [_flag(model, rows, "belong to leaderboards whose base was not the base", why)]
    if not others:
        return []
    why = "right unless one of them was an adapter of full fine-tuning, which the rows do not tell: look at its "
    why += "adapter_config.json; then base and tuned model, and a baseline first scored with them, are exchanged"
    return [_flag(model, boards[boards["run"].isin(others)], "score other --models beside the base", why, sure=False)]


def _flag(model: str, rows: "pd.DataFrame", what: str, why: str, *, sure: bool = True) -> Look:
    versions = listed(sorted({str(_config(v)["rhodb"]) for v in rows["versions"]}))
    return flag(
        "old results", model=model, stratum=listed(sorted(rows["kind"].unique())), size=float(len(rows)),
        size_is="runs", n=len(rows), runs=list(rows["run"]), fixed="artefact" if sure else "not enough data", why=why,
        what=f"{model}: {len(rows)} runs made by rhodb {versions} {what}",
    )  # fmt: skip


def _old(versions: object) -> bool:
    told = _config(versions).get("rhodb") if isinstance(versions, str) else None
    numbers = [int(part) for part in str(told or "").split(".")[:3] if part.isdigit()]
    return bool(numbers) and tuple(numbers) <= LAST_WRONG


def _config(text: Any) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(text)
    return parsed
