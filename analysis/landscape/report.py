"""Tables and sentences about one landscape, from its partitions."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from analysis.landscape.load import Draw, Landscape
from analysis.landscape.result import Table, listed
from analysis.landscape.stability import adjusted_rand, distinct, pairwise_rand, recovery
from analysis.landscape.tables import (
    CROSS_BELOW,
    HOMOGENEOUS_ABOVE,
    BehaviorRow,
    behavior_rows,
    cross_clusters,
    isolated,
    pair_rows,
    urgency,
)

LOUVAIN = "Louvain communities (Blondel et al. 2008) of the graph that joins texts whose cosine exceeds the threshold"


def cluster_table(landscape: Landscape, top: int) -> Table:
    """The largest clusters, and how well the other seeds find them again."""
    found = recovery(landscape.main.labels, [draw.labels for draw in landscape.seeds[1:]])
    rows = [
        {
            "cluster": int(row.cluster),
            "size": int(row.size),
            "dominant_behavior": row.dominant_behavior,
            "dominance": float(row.dominance),
            "is_cross": bool(row.dominance < CROSS_BELOW),
            "central_key": row.central_key,
            "central_variant": row.central_variant,
            "central": row.central_key if row.central_variant == "primary" else f"{row.central_key} (variant)",
            "central_ties": int(row.central_ties),
            "recovery": found.get(int(row.cluster)),
        }
        for row in _rows(landscape.clusters.head(top))
    ]
    return Table(
        name="clusters",
        title=f"The {len(rows)} largest of {landscape.main.clusters} clusters ({_where(landscape.main)})",
        columns={
            "cluster": "cluster",
            "size": "size",
            "dominant_behavior": "dominant behavior",
            "dominance": "dominance",
            "is_cross": "cross-behavior",
            "central": "central probe",
            "central_ties": "ties",
            "recovery": "recovery",
        },
        rows=tuple(rows),
        note=f"Dominance: share of the most frequent behavior; cross-behavior below {CROSS_BELOW:g}. Central: most "
        "edges inside the cluster; ties: texts with as many, among which the choice is arbitrary. Recovery: mean over "
        f"the {len(landscape.seeds) - 1} other seeds of the largest Jaccard overlap; 1 if each finds the same cluster.",
        method=f"{LOUVAIN}; recovery as in Hennig (2007)",
        queries=(landscape.queries["clusters"], landscape.queries["seeds"]),
        runs=tuple(draw.run for draw in landscape.seeds),
    )


def behavior_table(landscape: Landscape) -> Table:
    """Redundancy and isolation of each behavior."""
    across = _redundancies(landscape)
    rows = [
        {
            "behavior": row.behavior,
            "probes": row.probes,
            "clustered": row.clustered,
            "singletons": row.singletons,
            "isolation": row.isolation,
            "redundancy": row.redundancy,
            "reading": row.reading,
            **_range(across[row.behavior]),
        }
        for row in behavior_rows(landscape.partition(landscape.main))
    ]
    return Table(
        name="behaviors",
        title=f"Redundancy and isolation of primary probes ({_where(landscape.main)})",
        columns={
            "behavior": "behavior",
            "probes": "probes",
            "clustered": "clustered",
            "singletons": "singletons",
            "isolation": "isolation",
            "redundancy": "redundancy",
            "low": "lowest",
            "high": "highest",
            "reading": "reading",
        },
        rows=tuple(rows),
        note="Isolation: share of probes without a similar text. Redundancy: share of the clustered probes whose "
        f"cluster is to more than {HOMOGENEOUS_ABOVE:g} of one behavior. Lowest, highest: redundancy over "
        f"{len(landscape.seeds)} seeds. Reading: diverse below 0.5, homogeneous above 0.9.",
        method=LOUVAIN,
        queries=(landscape.queries["texts"], landscape.queries["seeds"]),
        runs=tuple(draw.run for draw in landscape.seeds),
    )


def threshold_table(landscape: Landscape) -> Table:
    """What other thresholds would have found."""
    rows = []
    for draw in landscape.thresholds:
        partition = landscape.partition(draw)
        redundancy = {row.behavior: row.redundancy for row in behavior_rows(partition)}
        rows.append(
            {
                "threshold": draw.threshold,
                "edges": draw.edges,
                "degree": 2 * draw.edges / len(draw.labels),
                "clusters": draw.clusters,
                "singletons": draw.singletons,
                "cross": len(cross_clusters(partition)),
                "modularity": draw.modularity,
                "rand": adjusted_rand(landscape.main.labels, draw.labels),
                **{f"redundancy_{behavior}": value for behavior, value in redundancy.items()},
            }
        )
    behaviors = landscape.partition(landscape.main).behaviors()
    return Table(
        name="thresholds",
        title=f"Sensitivity to the threshold (seed {landscape.main.seed})",
        columns={
            "threshold": "θ",
            "edges": "edges",
            "degree": "mean degree",
            "clusters": "clusters",
            "singletons": "singletons",
            "cross": "cross-behavior",
            "modularity": "modularity",
            "rand": "Rand",
            **{f"redundancy_{behavior}": behavior for behavior in behaviors},
        },
        rows=tuple(rows),
        note="Rand: adjusted Rand index against the main partition. Under each behavior its redundancy.",
        method=f"{LOUVAIN}; adjusted Rand index (Hubert and Arabie 1985)",
        queries=(landscape.queries["texts"], landscape.queries["thresholds"]),
        runs=tuple(draw.run for draw in landscape.thresholds),
    )


def seed_table(landscape: Landscape) -> Table:
    """One Louvain run is one draw: the others."""
    title = f"Stability over Louvain's seeds (θ = {landscape.main.threshold:g})"
    return _stability_table(landscape, "seeds", title, {"seed": "seed"}, landscape.seeds)


def order_table(landscape: Landscape) -> Table:
    """The same texts, handed to Louvain's method in other orders; 0 is their own."""
    title = f"Stability over orders of the texts (θ = {landscape.main.threshold:g}, seed {landscape.main.seed})"
    return _stability_table(landscape, "orders", title, {"order": "order"}, (landscape.main, *landscape.orders))


def _stability_table(
    landscape: Landscape, name: str, title: str, first: Mapping[str, str], draws: Sequence[Draw]
) -> Table:
    linked = _linked(landscape)
    rows = [
        {
            "seed": draw.seed,
            "order": draw.shuffle or 0,
            "clusters": draw.clusters,
            "largest": int(np.bincount(draw.labels).max()),
            "cross": len(cross_clusters(landscape.partition(draw))),
            "modularity": draw.modularity,
            "rand": adjusted_rand(landscape.main.labels, draw.labels),
            "rand_linked": adjusted_rand(landscape.main.labels[linked], draw.labels[linked]),
        }
        for draw in draws
    ]
    return Table(
        name=name,
        title=title,
        columns={
            **first,
            "clusters": "clusters",
            "largest": "largest",
            "cross": "cross-behavior",
            "modularity": "modularity",
            "rand": "Rand, all texts",
            "rand_linked": "Rand, texts with a neighbour",
        },
        rows=tuple(rows),
        note="Rand: adjusted Rand index against the main partition. A higher modularity is a better partition.",
        method=f"{LOUVAIN}; adjusted Rand index (Hubert and Arabie 1985)",
        queries=(landscape.queries["texts"], landscape.queries[name]),
        runs=tuple(draw.run for draw in draws),
    )


def scorecard_table(landscape: Landscape) -> Table:
    """Behaviors by priority."""
    across = _redundancies(landscape)
    rows = [
        {
            "rank": rank,
            "behavior": row.behavior,
            "probes": row.probes,
            "redundancy": row.redundancy,
            **_range(across[row.behavior]),
            "in_cross": row.in_cross,
            "partners": row.partners,
            "others": others,
            "needed": row.needed,
            "needed_of_all": row.needed_of_all,
            "priority": priority,
            "urgency": urgency(priority),
        }
        for rank, (priority, others, row) in enumerate(_by_priority(landscape), 1)
    ]
    return Table(
        name="scorecard",
        title=f"Probe diversity scorecard ({_where(landscape.main)})",
        columns={
            "rank": "#",
            "behavior": "behavior",
            "probes": "probes",
            "redundancy": "redundancy",
            "low": "lowest",
            "high": "highest",
            "in_cross": "cross-behavior",
            "partners": "partners",
            "needed": "needed",
            "needed_of_all": "needed (notes)",
            "priority": "priority",
            "urgency": "urgency",
        },
        rows=tuple(rows),
        note=f"Priority: 0.4 redundancy + 0.3 (no cross-behavior cluster) + 0.3 (1 - partners / {len(rows) - 1}). "
        "Needed: probes that would bring redundancy below 0.80 if all fell into cross-behavior clusters; (notes) "
        "reckons as if isolated probes were as redundant as clustered ones. Lowest, highest: redundancy over "
        f"{len(landscape.seeds)} seeds.",
        method=LOUVAIN,
        queries=(landscape.queries["texts"], landscape.queries["seeds"]),
        runs=tuple(draw.run for draw in landscape.seeds),
    )


def entanglement_table(landscape: Landscape) -> Table:
    """Pairs of behaviors that share cross-behavior clusters."""
    draws = [{(row.a, row.b): row.texts for row in pair_rows(landscape.partition(draw))} for draw in landscape.seeds]
    rows = [
        {
            "a": row.a,
            "b": row.b,
            "texts": row.texts,
            "texts_a": row.texts_a,
            "texts_b": row.texts_b,
            "strength": row.strength,
            **_range([draw.get((row.a, row.b), 0) for draw in draws]),
        }
        for row in pair_rows(landscape.partition(landscape.main))
    ]
    return Table(
        name="entanglement",
        title=f"Behaviors in shared cross-behavior clusters ({_where(landscape.main)})",
        columns={
            "a": "a",
            "b": "b",
            "texts": "texts",
            "texts_a": "of a",
            "texts_b": "of b",
            "low": "lowest",
            "high": "highest",
            "strength": "strength",
        },
        rows=tuple(rows),
        note="Texts: the larger of the two behaviors' counts in the cross-behavior clusters that hold both (variants "
        f"count). Lowest, highest: over {len(landscape.seeds)} seeds. Strong above 30, moderate above 10.",
        method=LOUVAIN,
        queries=(landscape.queries["texts"], landscape.queries["seeds"]),
        runs=tuple(draw.run for draw in landscape.seeds),
    )


def coverage(landscape: Landscape) -> list[str]:
    """What the main partition covers."""
    partition = landscape.partition(landscape.main)
    alone = isolated(partition)
    islands = (
        f"{listed(alone)} share{'s' if len(alone) == 1 else ''} no cluster with another behavior"
        if alone
        else "every behavior shares a cluster with another one"
    )
    variants = len(partition.primary) - int(partition.primary.sum())
    return [
        f"{len(partition.primary)} texts ({int(partition.primary.sum())} primary, {variants} variants) form "
        f"{landscape.main.clusters} clusters, {len(cross_clusters(partition))} of them cross-behavior; {islands}."
    ]


def stability(landscape: Landscape) -> list[str]:
    """How far the main partition is one draw among others."""
    if len(landscape.seeds) == 1:
        return ["Only one seed was drawn: how far the clusters hang on it is not known.", *_over_orders(landscape)]
    linked = _linked(landscape)
    rand = pairwise_rand([draw.labels[linked] for draw in landscape.seeds])
    better = sum(draw.modularity > landscape.main.modularity + 1e-9 for draw in landscape.seeds[1:])
    found = recovery(landscape.main.labels, [draw.labels for draw in landscape.seeds[1:]])
    sizes = dict(zip(landscape.clusters["cluster"], landscape.clusters["size"], strict=True))
    unsure = [c for c, share in sorted(found.items()) if share < 0.75 and sizes[c] >= 5]
    sentences = [
        f"Over {len(landscape.seeds)} seeds the clusters of texts with a neighbour agree with an adjusted Rand index "
        f"of {np.mean(rand):.2f} (lowest {min(rand):.2f}); {better} of the {len(landscape.seeds) - 1} other seeds give "
        "a better partition (higher modularity) than the main one."
    ]
    if unsure:
        named = ", ".join(f"{c} ({sizes[c]} texts, recovery {found[c]:.2f})" for c in unsure[:5])
        sentences.append(f"Not to be relied on, since other seeds draw them otherwise: clusters {named}.")
    return sentences + _over_orders(landscape)


def _over_orders(landscape: Landscape) -> list[str]:
    """How far the main partition is an accident of the order in which the texts stand."""
    if not landscape.orders:
        return ["No other order of the texts was drawn: how far the clusters hang on it is not known."]
    linked = _linked(landscape)
    drawn = [draw.labels[linked] for draw in (landscape.main, *landscape.orders)]
    rand, different = pairwise_rand(drawn), distinct(drawn)
    return [
        f"With the same texts in {len(drawn)} orders, seed {landscape.main.seed} gives {different} "
        f"partition{'s' * (different > 1)}; they agree with an adjusted Rand index of {np.mean(rand):.2f} "
        f"(lowest {min(rand):.2f})."
    ]


def action_items(landscape: Landscape) -> list[str]:
    """Which behaviors need other probes, and how many."""
    rows = [row for _, _, row in _by_priority(landscape)]
    wanting = [row for row in rows if row.needed]
    if not wanting:
        return ["No behavior has a redundancy above 0.80."]
    total, notes = sum(row.needed for row in wanting), sum(row.needed_of_all for row in rows)
    return [
        f"{row.behavior}: {row.needed} diverse probes bring redundancy {row.redundancy:.2f} below 0.80 "
        f"({row.needed_of_all} by the notes' estimate)."
        for row in wanting
    ] + [f"In all: {total} probes ({notes} by the notes' estimate)."]


def isolation(landscape: Landscape) -> list[str]:
    """The strongest pair and the behaviors without any."""
    partition = landscape.partition(landscape.main)
    rows, alone = pair_rows(partition), isolated(partition)
    sentences = [f"Isolated behaviors: {listed(alone) if alone else 'none'}."]
    if rows:
        strongest = rows[0]
        sentences.insert(0, f"Most entangled: {strongest.a} and {strongest.b}, {strongest.texts} texts.")
    return sentences


def _by_priority(landscape: Landscape) -> list[tuple[float, int, BehaviorRow]]:
    """(priority, number of other behaviors, row), most urgent first, then in alphabetical order."""
    rows = behavior_rows(landscape.partition(landscape.main))
    others = len(rows) - 1
    return sorted(
        ((round(row.priority(others), 3), others, row) for row in rows),
        key=lambda entry: (-entry[0], entry[2].behavior),
    )


def _redundancies(landscape: Landscape) -> dict[str, list[float]]:
    """Redundancy of each behavior in every seed's partition."""
    found: dict[str, list[float]] = {behavior: [] for behavior in landscape.partition(landscape.main).behaviors()}
    for draw in landscape.seeds:
        for row in behavior_rows(landscape.partition(draw)):
            if row.redundancy is not None:
                found[row.behavior].append(row.redundancy)
    return found


def _range(values: list[float] | list[int]) -> Mapping[str, Any]:
    return {"low": min(values), "high": max(values)} if values else {"low": None, "high": None}


def _linked(landscape: Landscape) -> Any:
    """Texts with a neighbour: the others are alone whatever the seed."""
    return landscape.texts["degree"].to_numpy() > 0


def _where(draw: Draw) -> str:
    return f"θ = {draw.threshold:g}, seed {draw.seed}"


def _rows(frame: Any) -> Any:
    return frame.itertuples(index=False)
