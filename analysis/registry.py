"""Which studies there are: name -> ("module:attribute", one-line summary). Loaded on demand."""

import importlib
from typing import TYPE_CHECKING, Final

from rhodb.errors import UnknownNameError

if TYPE_CHECKING:
    from analysis.answers import AnswerStudy
    from analysis.study import Study

STUDIES: Final[dict[str, tuple[str, str]]] = {
    "effects": (
        "analysis.effects:Effects",
        "Differences between conditions per behavior and metric, with intervals and exact tests.",
    ),
    "ablation": (
        "analysis.summaries:Ablation",
        "Mean change per condition and behavior over seeds, with intervals.",
    ),
    "dose-response": (
        "analysis.summaries:DoseResponse",
        "How behaviors follow λ: trends, reversals of single seeds, seeds and models compared.",
    ),
    "variance": (
        "analysis.summaries:Variance",
        "Standard deviation over seeds by λ and behavior, and whether it changes with λ.",
    ),
    "stress": (
        "analysis.stress:Stress",
        "Refusal rates of jailbreaks and benign prompts by condition, with differences to the untouched model.",
    ),
    "anomalies": (
        "analysis.anomalies.study:Anomalies",
        "Patterns that stand out, and what makes them: ten detectors, corrected together for all their looks.",
    ),
    "quality": (
        "analysis.quality.study:Quality",
        "What is wrong with the warehouse's rows: impossible scores, pooled strata, copies, gaps, bad training.",
    ),
    "gamma": (
        "analysis.gamma.study:Gamma",
        "The margin at which an effect changes sign: intervals, amplification, sensitivity, phase diagram.",
    ),
    "ushape": (
        "analysis.ushape.study:Ushape",
        "The dose with the smallest variance over seeds: fit of the U-shape, its uncertainty, and its rivals.",
    ),
    "probe-noise": (
        "analysis.probe_noise.study:ProbeNoiseStudy",
        "Noise from the choice of probes: standard errors, its share in γ*, paired and unpaired, and power.",
    ),
    "landscape": (
        "analysis.landscape.studies:LandscapeOverview",
        "Clusters of similar probes, redundancy and isolation, stability, near-duplicates across the split.",
    ),
    "scorecard": (
        "analysis.landscape.studies:Scorecard",
        "Diversity of each behavior's probes: redundancy, coverage, partners, probes needed, priority.",
    ),
    "entanglement": (
        "analysis.landscape.studies:Entanglement",
        "Behaviors whose probes share clusters: texts in shared cross-behavior clusters for each pair.",
    ),
}


def load_study(name: str) -> "Study":
    """An instance of the study called `name`. Raises UnknownNameError, which lists the choices."""
    if name not in STUDIES:
        raise UnknownNameError("study", name, tuple(STUDIES))
    module, _, attribute = STUDIES[name][0].partition(":")
    study: Study = getattr(importlib.import_module(module), attribute)()
    return study


def load_answer_study(name: str) -> "AnswerStudy":
    """The same for a study of quantities (`analysis.answers`)."""
    study: AnswerStudy = load_study(name)  # type: ignore[assignment]
    return study
