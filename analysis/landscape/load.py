"""From the warehouse to one landscape: its texts, the main partition, and the draws to compare it with."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from analysis.landscape.tables import Partition
from analysis.query import Conditions, Query, read_sql
from rhodb.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from rhodb.warehouse import Warehouse


@dataclass(frozen=True, kw_only=True)
class LandscapeOptions:
    """Which partition is the main one. Raises InputError for a value outside its range."""

    threshold: float = 0.65
    seed: int = 42
    top: int = 15
    """Clusters and near-duplicates listed."""
    order: str | None = None
    """Order of the texts, key or file (the notes'); None: by key where there is such a landscape."""
    permutations: int = 1_999
    """Random rearrangements of the neighbour test."""
    model: str | None = None
    """Only Δ of this language model."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.threshold) and 0 < self.threshold < 1):
            raise InputError(f"--threshold must lie between 0 and 1, got {self.threshold}")
        if self.seed < 0:
            raise InputError(f"--seed must be >= 0, got {self.seed}")
        if self.order not in (None, "key", "file"):
            raise InputError(f"--order must be key or file, got {self.order!r}")
        if self.top < 1:
            raise InputError(f"--top must be >= 1, got {self.top}")
        if not 99 <= self.permutations <= 1_000_000:
            raise InputError(f"--permutations must lie between 99 and 1000000, got {self.permutations}")


@dataclass(frozen=True, kw_only=True)
class Draw:
    """One Louvain run."""

    run: str
    seed: int
    threshold: float
    edges: int
    clusters: int
    singletons: int
    modularity: float
    shuffle: int | None
    """Number of the random order of its texts; None: their own order."""
    labels: NDArray[np.int64]
    """(N,) cluster of each text."""


@dataclass(frozen=True, kw_only=True)
class Landscape:
    """N texts, the partition asked for, and all other draws of the same texts and resolution."""

    texts: "pd.DataFrame"
    """N rows of `landscape_texts.sql`, in the order of nodes."""
    clusters: "pd.DataFrame"
    """Of the main draw, `landscape_clusters.sql`."""
    main: Draw
    seeds: tuple[Draw, ...]
    """At the main threshold, the main draw first."""
    orders: tuple[Draw, ...]
    """At the main threshold with the main seed, the texts in other orders."""
    thresholds: tuple[Draw, ...]
    """With the main seed, ascending."""
    queries: Mapping[str, Query]
    messages: tuple[str, ...]

    def partition(self, draw: Draw) -> Partition:
        """The texts in the clusters of a draw."""
        return Partition(
            cluster=draw.labels,
            behavior=self.texts["behavior"].to_numpy(dtype=str),
            primary=self.texts["variant"].to_numpy() == "primary",
        )


def load_landscape(wh: "Warehouse", options: LandscapeOptions) -> Landscape:
    """The newest landscape that has the partition asked for. Raises InputError where there is none."""
    runs_query = Query(sql=read_sql("landscape_runs", conditions="1 = 1"), parameters={})
    runs = [_plain(row) for row in wh.frame(runs_query.sql).to_dict("records")]
    if not runs:
        raise InputError("the warehouse holds no landscape: `rhodb run landscape` makes one")
    main = _main(runs, options)
    if main is None:
        known = sorted({(run["threshold"], run["seed"]) for run in runs})
        raise InputError(
            f"no landscape with threshold {options.threshold:g} and seed {options.seed} is stored; there are "
            f"(threshold, seed) {', '.join(f'({t:g}, {s})' for t, s in known)}; `rhodb run landscape --threshold "
            f"{options.threshold:g} --seeds {options.seed}` makes it"
        )
    fitting = (run for run in reversed(runs) if _texts_of(run) == _texts_of(main))
    alike = list({(run["threshold"], run["seed"], _config(run).get("shuffle")): run for run in fitting}.values())
    used = [r for r in alike if r["threshold"] == main["threshold"] or r["seed"] == main["seed"]]
    draws_query = _of_runs("landscape_draws", [run["run"] for run in used])
    labels = _labels(wh.frame(draws_query.sql, **draws_query.parameters))
    draws = [_draw(run, labels[run["run"]]) for run in used]
    first = next(draw for draw in draws if draw.run == main["run"])
    own = [draw for draw in draws if draw.shuffle is None]
    orders = [draw for draw in draws if draw.shuffle is not None]
    others = [draw for draw in own if draw.threshold == first.threshold and draw.run != first.run]
    queries = {
        "texts": _of_runs("landscape_texts", [first.run]),
        "clusters": _of_runs("landscape_clusters", [first.run]),
        "vectors": _of_runs("landscape_vectors", [first.run]),
        "seeds": _of_runs("landscape_draws", [first.run, *(draw.run for draw in others)]),
        "orders": _of_runs("landscape_draws", [first.run, *(draw.run for draw in orders)]),
        "thresholds": _of_runs("landscape_draws", [draw.run for draw in own if draw.seed == first.seed]),
    }
    return Landscape(
        texts=wh.frame(queries["texts"].sql, **queries["texts"].parameters),
        clusters=wh.frame(queries["clusters"].sql, **queries["clusters"].parameters),
        main=first,
        seeds=(first, *sorted(others, key=lambda draw: draw.seed)),
        orders=tuple(sorted(orders, key=lambda draw: draw.shuffle or 0)),
        thresholds=tuple(sorted((draw for draw in own if draw.seed == first.seed), key=lambda draw: draw.threshold)),
        queries=queries,
        messages=tuple(_left_out(runs, alike)),
    )


def load_vectors(wh: "Warehouse", landscape: Landscape) -> NDArray[np.float32] | None:
    """(N, width) vectors of the texts; None where the warehouse lacks some of them."""
    query = landscape.queries["vectors"]
    frame = wh.frame(query.sql, **query.parameters)
    vectors = dict(zip(frame["text_hash"], frame["vector"], strict=True))
    hashes = landscape.texts["text_hash"]
    if not set(hashes) <= vectors.keys():
        return None
    return np.frombuffer(b"".join(vectors[key] for key in hashes), "<f4").reshape(len(hashes), -1)


def _of_runs(name: str, runs: Sequence[str]) -> Query:
    conditions = Conditions()
    conditions.among("runs.uuid", list(runs))
    return Query(sql=read_sql(name, conditions=conditions), parameters=conditions.parameters)


def _main(runs: Sequence[Mapping[str, Any]], options: LandscapeOptions) -> Mapping[str, Any] | None:
    """The newest partition asked for; texts in the order of their keys come before those in the order of the files."""
    asked = [run for run in runs if run["threshold"] == options.threshold and run["seed"] == options.seed]
    own = [run for run in asked if "shuffle" not in _config(run)]
    wanted = ("key", "file") if options.order is None else (options.order,)
    return next((run for order in wanted for run in own if _config(run).get("order", "file") == order), None)


def _config(run: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run["config"])
    return found


def _texts_of(run: Mapping[str, Any]) -> tuple[Any, ...]:
    """What two draws must have in common to be compared."""
    config = _config(run)
    return run["model_fingerprint"], config["nodes"], config["variants"], run["resolution"]


def _left_out(runs: Sequence[Mapping[str, Any]], alike: Sequence[Mapping[str, Any]]) -> list[str]:
    families = {_texts_of(run) for run in runs}
    if len(families) == 1:
        return []
    return [
        f"the warehouse holds landscapes of {len(families)} different sets of texts, embedding models or resolutions; "
        f"the newest that fits is used ({len(alike)} of {len(runs)} partitions)"
    ]


def _labels(frame: "pd.DataFrame") -> dict[str, NDArray[np.int64]]:
    return {str(run): part["cluster"].to_numpy(dtype=np.int64) for run, part in frame.groupby("run", sort=False)}


def _draw(run: Mapping[str, Any], labels: NDArray[np.int64]) -> Draw:
    names = ("run", "seed", "threshold", "edges", "clusters", "singletons", "modularity")
    return Draw(**{name: run[name] for name in names}, shuffle=_config(run).get("shuffle"), labels=labels)


def _plain(row: Mapping[Any, Any]) -> dict[str, Any]:
    """A row with Python's own numbers, which JSON takes."""
    return {str(key): value.item() if isinstance(value, np.generic) else value for key, value in row.items()}
