"""Sections on weights and activations: steering, freeze/compress, attack/defense, leaderboard, Fidelity-Bench, ..."""

from collections.abc import Mapping
from typing import Any

from analysis.report.context import Context
from analysis.report.document import Part, Section
from analysis.report.sections import findings, rows
from analysis.report.sections.families import FAMILIES, Means, chart, existing, means, pivoted


def _looks(ctx: Context, *detectors: str) -> list[Part]:
    """Findings of some detectors among the anomalies."""
    result = ctx.study("anomalies")
    kept = [f for f in result.findings if f.about["detector"] in detectors]
    if not kept:
        return []
    told = findings.parts(ctx, result, keep=lambda f: f.about["detector"] in detectors, title="What the detectors say")
    return [part for part in told if part.key != "findings-notes"]


def _section(key: str, title: str, intro: str, parts: list[Part], missing: str) -> Section:
    return Section(key=key, title=title, intro=intro, parts=tuple(parts), missing=None if parts else missing)


def steering(ctx: Context) -> Section:
    """Steering vectors by layer."""
    found = means(ctx, FAMILIES["steering"])
    parts: list[Part] = []
    if found.rows:
        parts += _maps(ctx, found, title="Change by layer", x="layer", y="behavior", facet="model")
        parts += _looks(ctx, "layers")
        parts += existing(pivoted(ctx, found, key="layers", title="Scores by layer and strength"))
    return _section(
        "steering", "Activation steering",
        "A vector added to the residual stream after one layer: which behaviors move, where, and by how much more than "
        "with random vectors of the same length.",
        parts, "No steering runs: `rhodb run steering --layers 4:28:2 --alpha 4 --behavior sycophancy --controls 5`.",
    )  # fmt: skip


def _maps(ctx: Context, found: Means, *, title: str, x: str, y: str, facet: str) -> list[Part]:
    """One heat map a metric: values of different metrics share no colour scale."""
    controls = [row for row in found.rows if row.get("control") is not None]
    shown = Means(family=found.family, query=found.query, labels=found.labels,
                  rows=tuple(row for row in found.rows if row not in controls))  # fmt: skip
    made: list[Part] = []
    for metric in dict.fromkeys(row["metric"] for row in shown.rows):
        plot = chart(ctx, shown, key=f"map-{metric}", title=f"{title}: {metric}", kind="heatmap", x=x, y=y, facet=facet,
                     metric=metric)  # fmt: skip
        made += existing(plot)
    return made[:4]


def freeze(ctx: Context) -> Section:
    """Compression x freezing."""
    found = means(ctx, FAMILIES["freeze"])
    parts: list[Part] = []
    if found.rows:
        parts += _looks(ctx, "additivity")
        parts += existing(pivoted(ctx, found, key="cells", title="Scores by compression and freezing"))
        parts += _maps(ctx, found, title="Change by compression and freezing", x="freeze_ratio", y="compress_ratio",
                       facet="behavior")  # fmt: skip
    return _section(
        "freeze", "Freeze and compress",
        "SVD truncation of the q, k and o projections, the bottom layers frozen, the rest fine-tuned: do the two "
        "interact?",
        parts, "No freeze sweep: `rhodb run freeze-sweep --compress-ratios 0.7,1.0 --freeze-ratios 0,0.25,0.5,0.75`.",
    )  # fmt: skip


def attack_defense(ctx: Context) -> Section:
    """Scaled autoencoder features."""
    found = means(ctx, FAMILIES["attack_defense"])
    parts: list[Part] = []
    if found.rows:
        for metric in list(dict.fromkeys(row["metric"] for row in found.rows))[:3]:
            parts += existing(
                chart(ctx, found, key=f"scales-{metric}", title=f"Change by scale: {metric}", kind="line", x="scale",
                      facet="target_behavior", metric=metric)
            )  # fmt: skip
        parts += existing(pivoted(ctx, found, key="scales", title="Scores by target, layer and scale"))
    return _section(
        "attack-defense", "Attack and defense",
        "Features of a sparse autoencoder that tell a behavior's pairs apart, scaled down (attack) or up (defense), "
        "and what that does to every other behavior.",
        parts, "No such runs: `rhodb run attack-defense --scales 0,0.5,1,2,4 --behaviors refusal,deception`.",
    )  # fmt: skip


def leaderboard(ctx: Context) -> Section:
    """Audits of models and merges."""
    caption = "A name of eight hexadecimal digits is the run whose adapter was taken: `rhodb runs show NAME`."
    table = pivoted(ctx, means(ctx, FAMILIES["leaderboard"]), key="entries", title="Models and merges", caption=caption)
    return _section(
        "leaderboard", "Leaderboard", "Audits of models and of merges of them.", existing(table),
        "No audits: `rhodb run leaderboard --models FOLDER,FOLDER --merge linear,slerp,ties`.",
    )  # fmt: skip


def cf90(ctx: Context) -> Section:
    """Compression with several seeds."""
    table = pivoted(ctx, means(ctx, FAMILIES["cf90"]), key="ratios", title="Compression, calibration over seeds")
    return _section(
        "cf90", "CF90", "Compression and gentle calibration over seeds: what is left of factual retention and of the "
        "truth correlation.",
        existing(table), "No such runs: `rhodb run cf90 --ratio 0.7 --seeds 42,123,456`.",
    )  # fmt: skip


def hybrid(ctx: Context) -> Section:
    """Pipelines of compression, freezing, autoencoder and guidance."""
    table = pivoted(ctx, means(ctx, FAMILIES["hybrid"]), key="cells", title="Pipelines")
    return _section(
        "hybrid", "Hybrid pipelines", "Compression, freezing, autoencoder and guided fine-tuning in one pipeline.",
        existing(table), "No such runs: `rhodb run hybrid --compress-ratios 0.7,1 --sae-layers none,15`.",
    )  # fmt: skip


def fidelity(ctx: Context) -> Section:
    """True against false statements by category."""
    query = ctx.query("report_fidelity")
    found = ctx.rows(query)
    parts: list[Part] = []
    if found:
        parts.append(
            rows.table(
                ctx, query, found, key="categories", title="Categories",
                labels={"model": "model", "category": "category"},
                narrow=("run",), numbers={"n_probes": "probes", "truth_corr": "truth correlation", "p": "p",
                                          "mean_delta": "mean difference", "pair_accuracy": "pair accuracy"},
                helps={"truth_corr": "Spearman correlation of the confidences of true and false statement [-1, 1]",
                       "p": "as the audit states it, not adjusted for the number of categories",
                       "mean_delta": "mean of CE(false) - CE(true), nats/token"},
                runs_of=_own_run,
            )
        )  # fmt: skip
    return _section(
        "fidelity", "Fidelity-Bench", "True against false statements by category of probes.", parts,
        "No such audit: `rhodb run fidelity-bench`.",
    )  # fmt: skip


def _own_run(row: Mapping[str, Any]) -> list[str]:
    return [str(row["run"])]
