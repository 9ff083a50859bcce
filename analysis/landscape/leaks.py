"""Near-duplicate probes: what the split parts, and whether training moves them alike."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from analysis.landscape.load import Landscape, LandscapeOptions
from analysis.landscape.neighbours import NeighbourTest, ProbeId, Similar, neighbour_test, parted, similar_probes
from analysis.landscape.result import Table
from analysis.query import Query
from analysis.stats.multiplicity import holm

if TYPE_CHECKING:
    import pandas as pd

LEVELS: Final = (0.65, 0.80, 0.90, 0.95)
"""Cosines above which parted probes are counted."""
SPLITS: Final = {"split": "hash", "cluster_split": "cluster"}
"""Column of the texts -> value of `--probe-split`."""


def near_probes(landscape: Landscape, vectors: "np.typing.NDArray[np.float32]") -> list[Similar]:
    """Similar probes by their primary texts, the most similar first."""
    return similar_probes(_owners(landscape), vectors, LEVELS[0])


def _owners(landscape: Landscape) -> list[ProbeId | None]:
    texts = landscape.texts
    columns = (texts[name] for name in ("behavior", "set_name", "pair_key", "variant"))
    return [
        (behavior, name, key) if variant == "primary" and isinstance(key, str) else None
        for behavior, name, key, variant in zip(*columns, strict=True)
    ]


def _sides(landscape: Landscape, column: str) -> dict[ProbeId, str]:
    sides = zip(_owners(landscape), landscape.texts[column], strict=True)
    return {probe: side for probe, side in sides if probe is not None}


def leak_counts(landscape: Landscape, near: Sequence[Similar]) -> Table:
    """Parted near-duplicates, by similarity, under both splits."""
    rows: list[dict[str, Any]] = []
    for level in LEVELS:
        row: dict[str, Any] = {"above": level, "pairs": sum(pair.cosine > level for pair in near)}
        for column, split in SPLITS.items():
            sides = _sides(landscape, column)
            apart = parted(near, sides, level)
            met = {probe for pair in apart for probe in (pair.first, pair.second) if sides[probe] == "eval"}
            row |= {f"parted_{split}": len(apart), f"leaked_{split}": len(met)}
            row |= {f"share_{split}": len(met) / max(1, sum(side == "eval" for side in sides.values()))}
        rows.append(row)
    return Table(
        name="leaks",
        title="Near-duplicates across train and eval",
        columns={
            "above": "cosine above",
            "pairs": "similar pairs",
            "parted_hash": "parted",
            "leaked_hash": "eval probes",
            "share_hash": "share of eval",
            "parted_cluster": "parted (cluster)",
            "leaked_cluster": "eval probes (cluster)",
            "share_cluster": "share of eval (cluster)",
        },
        rows=tuple(rows),
        note="Parted: similar probes on different sides of `--probe-split hash`. Eval probes: those with such a "
        "counterpart in the train half. (cluster): the same under `--probe-split cluster`.",
        method="cosine of all-MiniLM-L6-v2 vectors of the primary texts; of a toxicity pair the most similar sentences",
        queries=(landscape.queries["texts"], landscape.queries["vectors"]),
        runs=(landscape.main.run,),
    )


def leak_list(landscape: Landscape, near: Sequence[Similar], top: int) -> Table:
    """The most similar probes that the split by hash parts."""
    sides, kept = (_sides(landscape, column) for column in SPLITS)
    apart = parted(near, sides, LEVELS[0])
    rows = [
        {
            "cosine": pair.cosine,
            "train": "/".join(train),
            "eval": "/".join(held),
            "cluster": kept[train] if kept[train] == kept[held] else "parted",
        }
        for pair in apart[:top]
        for train, held in [sorted((pair.first, pair.second), key=lambda probe: sides[probe], reverse=True)]
    ]
    return Table(
        name="leak-list",
        title=f"The {len(rows)} most similar of {len(apart)} parted pairs",
        columns={"cosine": "cosine", "train": "in train", "eval": "in eval", "cluster": "both, by cluster"},
        rows=tuple(rows),
        note="By cluster: the half that `--probe-split cluster` puts both in.",
        method="as table leaks",
        queries=(landscape.queries["texts"], landscape.queries["vectors"]),
        runs=(landscape.main.run,),
    )


def leak_sentences(landscape: Landscape, near: Sequence[Similar]) -> list[str]:
    """How much of the evaluation the training has met in nearly the same words, and where."""
    sides = _sides(landscape, "split")
    apart = parted(near, sides, 0.80)
    met = {probe for pair in apart for probe in (pair.first, pair.second) if sides[probe] == "eval"}
    held = sum(side == "eval" for side in sides.values())
    if not met:
        return ["No eval probe has a training probe with cosine above 0.80."]
    most = ", ".join(f"{behavior} {count}" for behavior, count in Counter(probe[0] for probe in met).most_common(3))
    left = len(parted(near, _sides(landscape, "cluster_split"), 0.80))
    return [
        f"Under the split by hash {len(met)} of {held} eval probes ({100 * len(met) / held:.0f} %) have a training "
        f"probe with cosine above 0.80 (most: {most}); --probe-split cluster leaves {left} such pairs."
    ]


def neighbour_table(
    frame: "pd.DataFrame", near: Sequence[Similar], query: Query, options: LandscapeOptions, rng: np.random.Generator
) -> Table | None:
    """Per arm: does a probe's Δ follow its neighbours' Δ? None without trained runs."""
    if frame.empty:
        return None
    cross = [pair for pair in near if pair.first[0] != pair.second[0]]
    rows: list[dict[str, Any]] = []
    for (model, arm), part in _arms(frame):
        deltas: dict[ProbeId, list[float]] = defaultdict(list)
        strata: dict[ProbeId, tuple[str, str]] = {}
        columns = (part[name] for name in ("behavior", "set_name", "pair_key", "split", "delta"))
        for behavior, name, key, split, delta in zip(*columns, strict=True):
            deltas[behavior, name, key].append(delta)
            strata[behavior, name, key] = (behavior, split)
        values = {probe: float(np.mean(of_seeds)) for probe, of_seeds in deltas.items()}
        for which, pairs in (("all", near), ("cross-behavior", cross)):
            test = neighbour_test(values, strata, pairs, draws=options.permutations, rng=rng)
            rows.append(
                {
                    "model": model,
                    "arm": arm,
                    "seeds": int(part["seed"].nunique()),
                    "neighbours": which,
                    **_test_row(test),
                }
            )
    _adjust(rows)
    return Table(
        name="neighbours",
        title="Does training move similar probes alike?",
        columns={
            "model": "model",
            "arm": "arm",
            "seeds": "seeds",
            "neighbours": "neighbours",
            "probes": "probes",
            "pairs": "pairs",
            "correlation": "correlation",
            "low": "by chance from",
            "high": "to",
            "p": "p",
            "p_adjusted": "adjusted p",
        },
        rows=tuple(rows),
        note=f"Correlation of a probe's Δ gap (mean over seeds, ranks within behavior and split) with the mean of its "
        f"neighbours (cosine above {LEVELS[0]:g}); by chance: central 95 % under {options.permutations} rearrangements "
        "within behavior and split; p two-sided, adjusted over all rows (Holm).",
        method="Moran's I with row-standardised weights, permutation test (Cliff and Ord 1981)",
        queries=(query,),
        runs=tuple(sorted(frame["run"].unique())),
    )


def _test_row(test: NeighbourTest) -> dict[str, Any]:
    return {
        "probes": test.probes, "pairs": test.pairs, "correlation": test.correlation, "low": test.low,
        "high": test.high, "p": test.p, "p_adjusted": None,
    }  # fmt: skip


def _adjust(rows: list[dict[str, Any]]) -> None:
    known = [row for row in rows if row["p"] is not None]
    for row, p in zip(known, holm(np.array([row["p"] for row in known])), strict=True):
        row["p_adjusted"] = float(p)


def _arms(frame: "pd.DataFrame") -> "list[tuple[tuple[str, str], pd.DataFrame]]":
    """((model, arm), rows) of runs that agree in everything but seed."""
    found = []
    for _, part in frame.groupby(["model_fingerprint", "config_hash"], sort=False):
        row = part.iloc[0]
        name = row["condition"] if row["condition"] == "sft-only" else f"{row['condition']} λ={row['rho_weight']:g}"
        if row["condition"] != "sft-only" and row["margin"] is not None and not np.isnan(row["margin"]):
            name += f" γ={row['margin']:g}"
        found.append(((str(row["model"]), name, str(row["config_hash"])), part))
    names = Counter((model, name) for (model, name, _), _ in found)
    return [
        ((model, name if names[model, name] == 1 else f"{name} ({config[:8]})"), part)
        for (model, name, config), part in sorted(found, key=lambda entry: entry[0])
    ]


def neighbour_sentences(table: Table) -> list[str]:
    """Which arms move similar probes alike."""
    found: dict[str, list[str]] = defaultdict(list)
    for row in table.rows:
        if row["p_adjusted"] is not None and row["p_adjusted"] < 0.05:
            found[row["neighbours"]].append(f"{row['arm']} ({row['correlation']:+.2f})")
    sentences = []
    for which in ("all", "cross-behavior"):
        name = "Similar probes" if which == "all" else "Similar probes of different behaviors"
        arms = f"move alike under {', '.join(found[which])}" if found[which] else "are not seen to move alike"
        sentences.append(f"{name} {arms} (adjusted p < 0.05).")
    return sentences
