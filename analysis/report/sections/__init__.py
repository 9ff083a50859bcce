"""The sections of a report in their order: key -> ("module:function", title). Loaded on demand."""

from typing import Final

_PREFIX = "analysis.report.sections."

SECTIONS: Final[dict[str, tuple[str, str]]] = {
    "configuration": (_PREFIX + "overview:configuration", "Configuration"),
    "ablation": (_PREFIX + "training:ablation", "Ablation summary"),
    "effects": (_PREFIX + "training:effects", "Effect sizes"),
    "dose-response": (_PREFIX + "training:dose_response", "Dose-response"),
    "variance": (_PREFIX + "training:variance", "Variance collapse"),
    "margin": (_PREFIX + "training:margin", "Margin"),
    "gamma": (_PREFIX + "training:gamma", "γ* bounds"),
    "ushape": (_PREFIX + "training:ushape", "U-shape of the variance"),
    "probe-noise": (_PREFIX + "training:probe_noise", "Probe sampling noise"),
    "stress": (_PREFIX + "stress:stress", "Safety stress test"),
    "calibration": (_PREFIX + "training:calibration", "Calibration"),
    "mixture": (_PREFIX + "training:mixture", "Data mixture"),
    "duration": (_PREFIX + "training:duration", "Duration"),
    "steering": (_PREFIX + "weights:steering", "Activation steering"),
    "freeze": (_PREFIX + "weights:freeze", "Freeze and compress"),
    "attack-defense": (_PREFIX + "weights:attack_defense", "Attack and defense"),
    "leaderboard": (_PREFIX + "weights:leaderboard", "Leaderboard"),
    "fidelity": (_PREFIX + "weights:fidelity", "Fidelity-Bench"),
    "cf90": (_PREFIX + "weights:cf90", "CF90"),
    "hybrid": (_PREFIX + "weights:hybrid", "Hybrid pipelines"),
    "landscape": (_PREFIX + "patterns:landscape", "Probe landscape"),
    "scorecard": (_PREFIX + "patterns:scorecard", "Probe diversity scorecard"),
    "entanglement": (_PREFIX + "patterns:entanglement", "Entanglement"),
    "anomalies": (_PREFIX + "patterns:anomalies", "Anomalies"),
    "quality": (_PREFIX + "patterns:quality", "Quality of the data"),
    "claims": (_PREFIX + "patterns:claims", "Claims"),
    "questions": (_PREFIX + "questions:questions", "Open questions"),
    "reproducibility": (_PREFIX + "overview:reproducibility", "Reproducibility"),
}
