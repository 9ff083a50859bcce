"""Probe landscape, scorecard, entanglement, anomalies, quality and claims."""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from analysis.report.context import Context
from analysis.report.document import Section
from analysis.report.sections import findings, landscapes

RUN_LANDSCAPE = "`rhodb run landscape`"


def landscape(ctx: Context) -> Section:
    """Clusters of similar probes."""
    found = ctx.landscape("landscape")
    return Section(
        key="landscape", title="Probe landscape",
        intro="Which probes say the same thing? Texts joined where their embeddings are close, communities among them, "
        "how stable these are, and near-duplicates across the train/eval split.",
        parts=tuple(landscapes.parts(ctx, found)),
    )  # fmt: skip


def scorecard(ctx: Context) -> Section:
    """Diversity of probes."""
    return Section(
        key="scorecard", title="Probe diversity scorecard",
        intro="Which behaviors need other probes: redundancy, coverage, partners, and how many probes it would take.",
        parts=tuple(landscapes.parts(ctx, ctx.landscape("scorecard"), figures=False)),
    )  # fmt: skip


def entanglement(ctx: Context) -> Section:
    """Behaviors that share clusters."""
    found = ctx.landscape("entanglement")
    drawn = landscapes.entanglement_map(ctx, found)
    parts = landscapes.parts(ctx, found, figures=False)
    return Section(
        key="entanglement", title="Entanglement", intro="Behaviors whose probes lie in the same clusters.",
        parts=(parts[0], *([drawn] if drawn else []), *parts[1:]),
    )  # fmt: skip


def anomalies(ctx: Context) -> Section:
    """What the detectors find."""
    result = ctx.study("anomalies")
    missing = (
        "Nothing to look at: the detectors need runs of several seeds, doses, conditions or layers: "
        "`rhodb run dose-response`."
    )
    return Section(
        key="anomalies", title="Anomalies",
        intro="Detectors look for patterns that stand out and for what makes them; p is adjusted for all their looks "
        "together. An artefact is a pattern that the data's design makes.",
        parts=tuple(findings.parts(ctx, result)) if result.findings else (),
        missing=None if result.findings else missing,
    )  # fmt: skip


def quality(ctx: Context) -> Section:
    """What is wrong with the rows."""
    result = ctx.study("quality")
    parts = findings.parts(ctx, result, title="Checks that found something")
    return Section(
        key="quality", title="Quality of the data",
        intro="What is wrong with the warehouse's rows: impossible scores, pooled strata, copies, gaps, bad training.",
        parts=tuple(parts), missing=None if parts else "The checks found nothing wrong.",
    )  # fmt: skip


def claims(ctx: Context) -> Section:
    """The notes' claims, checked."""
    intro = "Each quantitative claim of the lab's notes, recomputed from the published inputs and from this warehouse."
    if find_spec("analysis.claims") is None:
        missing = "This rhodb has no claims to check: `rhodb claims verify` is not part of it."
        return Section(key="claims", title="Claims", intro=intro, missing=missing)
    module: Any = import_module("analysis.report.sections.claims")
    section: Section = module.claims(ctx, intro)
    return section
