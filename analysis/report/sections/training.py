"""Sections on fine-tuning runs: ablation, effects, doses, spread, margin, mixture and duration, calibration."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from analysis.findings import Finding
from analysis.report.context import Context
from analysis.report.document import Cell, Part, Section, Sentence, Text
from analysis.report.sections import answers, findings, rows
from analysis.report.sections.families import (
    FAMILIES,
    Means,
    chart,
    existing,
    means,
    pivoted,
    row_address,
    several_weights,
    with_courses,
)
from analysis.report.sections.trends import setting_trends

RUN_ABLATION = "No finished alignment run fits: `rhodb run ablation --seeds 42,123,456,789,1337` makes some."
ABSOLUTE = "Scores of the untouched model: the reference of every Δ."


def ablation(ctx: Context) -> Section:
    """Condition means against the untouched model."""
    result = ctx.study("ablation")
    found = means(ctx, FAMILIES["alignment"])
    untouched = means(ctx, FAMILIES["baseline"])
    parts: list[Part] = findings.parts(ctx, result, title="Mean change of each condition over seeds")
    table = pivoted(ctx, found, key="means", title="All metrics and splits by condition and dose")
    before = pivoted(ctx, untouched, key="untouched", title="The untouched model", caption=ABSOLUTE)
    bars = findings.forest(ctx, result, result.findings, title="Mean change by condition")
    parts = [*existing(before), *existing(bars), *parts, *existing(table)]
    return Section(
        key="ablation", title="Ablation summary",
        intro="How each training condition moves each behavior. Δ is the score after training minus that of the "
        "untouched model under the same probes and settings; the mean is over seeds.",
        parts=tuple(parts) if found.rows else (), missing=None if found.rows else RUN_ABLATION,
    )  # fmt: skip


def effects(ctx: Context) -> Section:
    """Differences between conditions."""
    result = ctx.study("effects")
    parts = findings.parts(ctx, result, title="Differences between conditions")
    plot = findings.forest(ctx, result, result.findings, title="Differences between conditions")
    return Section(
        key="effects", title="Effect sizes",
        intro="Pairs of conditions that differ in exactly one of condition, λ and γ: difference of means with Welch's "
        "interval, Hedges' g, exact permutation test, and what remains when any one seed is left out.",
        parts=(*existing(plot), *parts) if result.findings else (),
        missing=None if result.findings else _sentence(result.messages, RUN_ABLATION),
    )  # fmt: skip


def dose_response(ctx: Context) -> Section:
    """How behaviors follow λ."""
    result = ctx.study("dose-response")
    trends = [f for f in result.findings if f.about["detector"] == "dose"]
    plot = findings.doses(ctx, result, trends, title="Dose-response")
    return Section(
        key="dose-response", title="Dose-response",
        intro="Does a behavior rise or fall with λ, are reversals of single seeds more than regression to the mean, do "
        "seeds and models respond alike?",
        parts=(*existing(plot), *findings.parts(ctx, result)) if result.findings else (),
        missing=None if result.findings
        else "No series of doses: `rhodb run dose-response --rho-weights 0,0.1,0.2,0.5 --seeds 42,123,456,789,1337`.",
    )  # fmt: skip


def variance(ctx: Context) -> Section:
    """Spread over seeds by dose."""
    result = ctx.study("variance")
    plot = findings.doses(ctx, result, result.findings, title="Spread over seeds by dose", spread=True)
    return Section(
        key="variance", title="Variance collapse",
        intro="Does guidance narrow the spread over seeds? Standard deviations by λ, their ratio with its interval, "
        "and a test of equal spread that does not assume normal values.",
        parts=(*existing(plot), *findings.parts(ctx, result)) if result.findings else (),
        missing=None if result.findings
        else "No series of doses with at least two seeds: `rhodb run dose-response --seeds 42,123,456,789,1337`.",
    )  # fmt: skip


def margin(ctx: Context) -> Section:
    """Comparisons that differ in γ only."""
    result = ctx.study("effects")
    kept = [f for f in result.findings if _only_margin(f)]
    plot = findings.forest(ctx, result, kept, title="Effect of the margin γ")
    missing = (
        "No two strata differ in γ only: `rhodb run margin-sweep --margins 0,0.02,0.03,0.05,0.1 --seeds 42,123,456`."
    )
    table = findings.parts(ctx, result, keep=_only_margin, title="Pairs that differ in γ only")
    return Section(
        key="margin", title="Margin",
        intro="What the hinge margin γ does at one λ. At γ = 0 the hinge falls silent as soon as the order of a pair "
        "is right; γ > 0 pushes on until the separation is γ. (p is adjusted as in the section on effect sizes.)",
        parts=(*existing(plot), *table) if kept else (), missing=None if kept else missing,
    )  # fmt: skip


def _only_margin(finding: Finding) -> bool:
    a, b = finding.about.get("a", ""), finding.about.get("b", "")
    return a != b and re.sub(r"γ=\S+", "", a) == re.sub(r"γ=\S+", "", b) and "γ=" in a and "γ=" in b


def gamma(ctx: Context) -> Section:
    """γ* and its bounds."""
    return Section(
        key="gamma", title="γ* bounds",
        intro="The margin γ* at which the effect on a behavior changes sign: Monte Carlo as the notes do it, Fieller's "
        "interval, what the assumptions do to it, amplification, sensitivity and phase diagram.",
        parts=tuple(answers.parts(ctx, ctx.answer("gamma"))),
    )  # fmt: skip


def ushape(ctx: Context) -> Section:
    """The dose of least spread."""
    return Section(
        key="ushape", title="U-shape of the variance",
        intro="Is there a dose λ* with the smallest variance over seeds? The notes' two-source fit, its uncertainty, "
        "and rival models that explain the same points.",
        parts=tuple(answers.parts(ctx, ctx.answer("ushape"))),
    )  # fmt: skip


def probe_noise(ctx: Context) -> Section:
    """Noise from the choice of probes."""
    return Section(
        key="probe-noise", title="Probe sampling noise",
        intro="How much of a score is the luck of which probes are in the set, what that does to γ*, and how many "
        "probes it would take.",
        parts=tuple(answers.parts(ctx, ctx.answer("probe-noise"))),
    )  # fmt: skip


def calibration(ctx: Context) -> Section:
    """Brier score and ECE."""
    metrics = ("brier", "ece")
    found = means(ctx, FAMILIES["alignment"], metrics=metrics)
    untouched = means(ctx, FAMILIES["baseline"], metrics=metrics)
    before = pivoted(ctx, untouched, key="untouched", title="The untouched model", caption=ABSOLUTE)
    after = pivoted(ctx, found, key="trained", title="After training", caption="Lower is better.")
    parts = [*_pairs(ctx, untouched), *existing(before), *existing(after)]
    return Section(
        key="calibration", title="Calibration",
        intro="Probabilities of a pair's two answers (softmax over their log-probabilities): Brier score and expected "
        "calibration error, both 0 at best.",
        parts=tuple(parts),
        missing=None if parts else "No run has Brier scores: `rhodb run ablation` stores them for probes that share a "
        "prompt; older runs get them from their probe scores in view v_recomputed_scores.",
    )  # fmt: skip


def mixture(ctx: Context) -> Section:
    """Runs that differ in the share of refusals among the instructions."""
    found = _with_settings(ctx, means(ctx, FAMILIES["alignment"], metrics=ctx.options.metrics), ("refusal_share",))
    found = _along(found, "refusal_share")
    parts: list[Part] = []
    if found.rows:
        table = pivoted(ctx, found, key="means", title="Change by share of refusals among the instructions")
        plot = chart(ctx, found, key="shares", title="Change by share of refusals", kind="line", x="refusal_share",
                     facet="condition", metric=ctx.options.metrics[0])  # fmt: skip
        trends = setting_trends(ctx, "refusal_share", "share of refusals", behaviors=("refusal",))
        parts = [*_told(trends), *existing(plot), *existing(table)]
    return Section(
        key="mixture", title="Data mixture",
        intro="Can refusals among the instructions buffer what fine-tuning does to refusal?", parts=tuple(parts),
        missing=None if parts
        else "All runs share one mixture: `rhodb run mixture --refusal-shares 0,0.1,0.25,0.5 --seeds 42,123,456`.",
    )  # fmt: skip


def duration(ctx: Context) -> Section:
    """Runs of several durations, and scores on the way."""
    found = _with_settings(ctx, means(ctx, FAMILIES["alignment"], metrics=ctx.options.metrics), ("refusal_share",))
    found = _along(found, "epochs")
    parts: list[Part] = []
    if found.rows:
        table = pivoted(ctx, found, key="means", title="Change by passes over the training texts")
        plot = chart(ctx, found, key="epochs", title="Change by passes over the training texts", kind="line",
                     x="epochs", facet="condition", metric=ctx.options.metrics[0])  # fmt: skip
        parts = [*_told(setting_trends(ctx, "epochs", "passes")), *existing(plot), *existing(table)]
    parts += _on_the_way(ctx)
    return Section(
        key="duration", title="Duration",
        intro="Does longer training amplify or saturate what one epoch does? Each duration is a run with a schedule of "
        "its own.",
        parts=tuple(parts),
        missing=None if parts
        else "All runs train equally long: `rhodb run duration --epochs 1,2,3 --seeds 42,123,456`.",
    )  # fmt: skip


def _on_the_way(ctx: Context) -> list[Part]:
    query = ctx.query("report_checkpoints", passed__metric=ctx.options.metrics[0], passed__split=ctx.options.split)
    found = ctx.rows(query)
    if not found:
        return []
    table = rows.table(
        ctx, query, found, key="checkpoints", title="Scores on the way",
        labels={"model": "model", **({"weights": "weights"} if several_weights(found) else {}),
                "condition": "condition", "behavior": "behavior", "epochs": "passes done"},
        narrow=("model_fingerprint", "config_hash", "experiment"),
        numbers={"runs": "runs", "value": "score", "delta": "Δ", "sd": "SD of Δ"},
        caption=f"Metric {ctx.options.metrics[0]}, split {ctx.options.split}; mean over seeds of one configuration.",
        runs_of=lambda row: ctx.book.runs_of("alignment", row),
    )  # fmt: skip
    return [table]


def _with_settings(ctx: Context, found: Means, names: Sequence[str]) -> Means:
    """The rows with settings from their configurations as further axes."""
    query = ctx.query("report_configurations", runs__kind="alignment")
    configs: Mapping[str, Mapping[str, Any]] = {
        row["config_hash"]: json.loads(row["config"]) for row in ctx.rows(query)
    }
    made = [dict(row) | {name: configs.get(row["config_hash"], {}).get(name) for name in names} for row in found.rows]
    return replace(found, rows=tuple(made), labels=(*found.labels, *names))


def _along(found: Means, setting: str) -> Means:
    """The rows of strata that agree in all else and have several values of the setting."""
    rest = [name for name in ("model", "experiment", *found.axes, "behavior", "metric", "split") if name != setting]
    known = [row for row in found.rows if row[setting] is not None]
    return replace(found, rows=tuple(with_courses(known, rest, setting)))


def _told(sentences: Sequence[Cell]) -> list[Part]:
    return [Text(key="trends", items=tuple(sentences), listed=True)] if sentences else []


def _pairs(ctx: Context, untouched: Means) -> list[Part]:
    """How many pairs the scores of the untouched models rest on: of two or three, a score says little."""
    told: list[Cell] = []
    tell = several_weights(untouched.rows)
    places: dict[tuple[str, str, str], dict[str, Mapping[str, Any]]] = {}
    for row in untouched.rows:
        places.setdefault((row["model"], row["weights"], row["split"]), {})[row["behavior"]] = row
    for (model, weights, split), kept in places.items():
        counts = ", ".join(f"{behavior} {row['n']}" for behavior, row in kept.items())
        address = row_address(ctx, untouched, next(iter(kept.values())))
        name = f"{model} (weights {weights})" if tell else model
        told.append(Sentence(text=f"Pairs of {name} that share a prompt, split {split}: {counts}.", address=address))
    return [Text(key="pairs", items=tuple(told), listed=True)] if told else []


def _sentence(messages: Sequence[str], otherwise: str) -> str:
    return "; ".join(messages) if messages else otherwise
