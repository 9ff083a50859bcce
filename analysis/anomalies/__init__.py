"""The detectors of patterns, one module each: name -> ("module:attribute", one-line summary)."""

import importlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from analysis.anomalies.base import Detector

DETECTORS: Final[dict[str, str]] = {
    "variance": "analysis.anomalies.variance:VarianceCompression",
    "coupling": "analysis.anomalies.coupling:Coupling",
    "coupling-change": "analysis.anomalies.coupling:CouplingChange",
    "dose": "analysis.anomalies.dose:DoseTrend",
    "reversal": "analysis.anomalies.dose:Reversal",
    "layers": "analysis.anomalies.layers:Layers",
    "geometry": "analysis.anomalies.geometry:Geometry",
    "transfer": "analysis.anomalies.transfer:Transfer",
    "interaction": "analysis.anomalies.interaction:Interaction",
    "additivity": "analysis.anomalies.additivity:Additivity",
    "baseline": "analysis.anomalies.baseline:BaselineStability",
    "responder": "analysis.anomalies.responder:Responder",
}
"""In the order in which they are reported."""


def load_detectors() -> "list[Detector]":
    """An instance of every detector."""
    found = []
    for place in DETECTORS.values():
        module, _, attribute = place.partition(":")
        found.append(getattr(importlib.import_module(module), attribute)())
    return found
