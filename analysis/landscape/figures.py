"""Figures of the landscape studies: the map of texts and the entanglement heat map."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.figure import Figure

from analysis.colours import COLOURS, GREY
from analysis.figures import label, save, styled
from analysis.landscape.load import Landscape
from analysis.landscape.tables import behavior_rows, cross_clusters, shared_texts

NAMED: Final = 8
"""Clusters with a number on the map."""
GOAL: Final = 0.8
"""Redundancy that the notes aim at."""


def draw(study: str, landscape: Landscape, folder: Path) -> list[Path]:
    """The figures of a study; the paths written. None for a landscape whose run drew no map."""
    with styled():
        return [path for figure in FIGURES.get(study, ()) for path in figure(landscape, folder)]


def text_map(landscape: Landscape, folder: Path) -> list[Path]:
    """Texts in two dimensions, coloured by behavior; cross-behavior clusters are ringed."""
    texts = landscape.texts
    if texts["x"].isna().any():
        return []
    x, y = texts["x"].to_numpy(dtype=float), texts["y"].to_numpy(dtype=float)
    behavior, primary = texts["behavior"].to_numpy(), texts["variant"].to_numpy() == "primary"
    figure = Figure(figsize=(9.5, 7.2), layout="constrained")
    axis = figure.subplots()
    crossing = np.isin(landscape.main.labels, cross_clusters(landscape.partition(landscape.main)))
    axis.scatter(x[crossing], y[crossing], s=46, facecolor="none", edgecolor="#BBBBBB", linewidth=0.8, zorder=1)
    for name, colour in COLOURS.items():
        for chosen, size, marker in ((primary, 11, "o"), (~primary, 13, "x")):
            shown = (behavior == name) & chosen
            axis.scatter(x[shown], y[shown], s=size, color=colour, marker=marker, linewidth=0.7, alpha=0.85, zorder=2)
        if (behavior == name).any():
            axis.scatter([], [], s=26, color=colour, label=f"{name} ({int((behavior == name).sum())})")
    axis.scatter([], [], s=26, color=GREY, marker="x", linewidth=0.9, label="variant")
    axis.scatter([], [], s=46, facecolor="none", edgecolor="#888888", label="cross-behavior cluster")
    for number in range(NAMED):
        members = landscape.main.labels == number
        axis.annotate(
            str(number), (float(np.median(x[members])), float(np.median(y[members]))), fontsize=9, weight="bold",
            ha="center", va="center", bbox={"boxstyle": "circle,pad=0.15", "fc": "white", "ec": GREY, "alpha": 0.8},
        )  # fmt: skip
    axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), title="texts", alignment="left")
    axis.set_xticks([])
    axis.set_yticks([])
    across = len(cross_clusters(landscape.partition(landscape.main)))
    groups = int((np.unique(landscape.main.labels, return_counts=True)[1] > 1).sum())
    title = f"{len(texts)} probe texts: {groups} clusters of two or more, {across} of them across behaviors"
    label(axis, title=title, x="t-SNE 1 (no unit)", y="t-SNE 2 (no unit)")
    caption = (
        f"Vectors of all-MiniLM-L6-v2; clusters at cosine > {landscape.main.threshold:g}, Louvain seed "
        f"{landscape.main.seed}. Numbers: the {NAMED} largest clusters. Distances between far groups mean nothing."
    )
    return save(figure, folder, "probe_landscape", caption)


def entanglement(landscape: Landscape, folder: Path) -> list[Path]:
    """Texts in shared cross-behavior clusters, pair by pair."""
    partition = landscape.partition(landscape.main)
    names = partition.behaviors()
    shared = shared_texts(partition)
    counts = np.array([[max(shared.get((a, b), 0), shared.get((b, a), 0)) for b in names] for a in names], float)
    np.fill_diagonal(counts, np.nan)
    figure = Figure(figsize=(7.2, 6.2), layout="constrained")
    axis = figure.subplots()
    axis.grid(visible=False)
    image = axis.imshow(counts, cmap="Blues", vmin=0)
    middle = np.nanmax(counts) / 2
    for row, column in np.ndindex(counts.shape):
        value = counts[row, column]
        text = "—" if np.isnan(value) else f"{value:.0f}"
        colour = "white" if value > middle else GREY if np.isnan(value) or value == 0 else "black"
        axis.text(column, row, text, ha="center", va="center", color=colour)
    axis.set_xticks(range(len(names)), names, rotation=40, ha="right", rotation_mode="anchor")
    axis.set_yticks(range(len(names)), names)
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)
    figure.colorbar(image, ax=axis, shrink=0.8, label="texts in shared cross-behavior clusters")
    row, column = np.unravel_index(np.nanargmax(counts), counts.shape)
    most = f"{names[row]} and {names[column]} share most: {np.nanmax(counts):.0f} texts"
    label(axis, title=most if len(names) > 1 else "One behavior only", x="", y="")
    caption = (
        f"The larger of both behaviors' counts; variants count. Cosine > {landscape.main.threshold:g}, Louvain seed "
        f"{landscape.main.seed}."
    )
    return save(figure, folder, "entanglement_heatmap", caption)


def sensitivity(landscape: Landscape, folder: Path) -> list[Path]:
    """Redundancy of each behavior at other thresholds."""
    draws = landscape.thresholds
    if len(draws) < 2:
        return []
    found = {
        draw.threshold: {row.behavior: row.redundancy for row in behavior_rows(landscape.partition(draw))}
        for draw in draws
    }
    figure = Figure(figsize=(6.6, 4.4), layout="constrained")
    axis = figure.subplots()
    places = [draw.threshold for draw in draws]
    for name in landscape.partition(landscape.main).behaviors():
        values = np.array([found[place].get(name) for place in places], dtype=float)
        axis.plot(places, values, "o-", color=COLOURS[name], label=name, markersize=3.5, linewidth=1.4)
    axis.axvline(landscape.main.threshold, color=GREY, linestyle="--", linewidth=1)
    axis.axhline(GOAL, color=GREY, linestyle=":", linewidth=1)
    axis.set_ylim(-0.03, 1.03)
    axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    main = [value for value in found[landscape.main.threshold].values() if value is not None]
    reached = sum(value >= GOAL for value in main)
    title = f"Redundancy reaches {GOAL:.2f} in {reached} of {len(main)} behaviors at θ {landscape.main.threshold:g}"
    label(axis, title=title, x="cosine threshold θ", y="redundancy (share of clustered probes)")
    return save(figure, folder, "probe_redundancy", f"Dashed: the main threshold. Dotted: the goal of {GOAL:.2f}.")


FIGURES: Final[dict[str, tuple[Callable[[Landscape, Path], list[Path]], ...]]] = {
    "landscape": (text_map, sensitivity),
    "entanglement": (entanglement,),
}
