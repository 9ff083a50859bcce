"""Which runners there are: name -> ("module:attribute", one-line summary). Loaded on demand."""

import importlib
from typing import Any, Final

from rhodb.errors import UnknownNameError

RUNNERS: Final[dict[str, tuple[str, str]]] = {
    "ablation": ("runners.ablation:ABLATION", "Train and score each condition for each seed, against one baseline."),
    "dose-response": (
        "runners.dose_response:DOSE_RESPONSE",
        "Train and score rho-guided at each weight λ for each seed, against one baseline.",
    ),
    "margin-sweep": (
        "runners.margin_sweep:MARGIN_SWEEP",
        "Train and score rho-guided at each margin γ and weight λ for each seed, against one baseline.",
    ),
    "mixture": (
        "runners.mixture:MIXTURE",
        "Train and score each condition with each share of refusals for each seed, against one baseline.",
    ),
    "duration": (
        "runners.duration:DURATION",
        "Train each condition for each duration and seed, scored on the way, against one baseline.",
    ),
    "freeze-sweep": (
        "runners.freeze_sweep:FREEZE_SWEEP",
        "Truncate q, k and o projections, freeze the bottom layers, fine-tune the rest, and score.",
    ),
    "cf90": (
        "runners.cf90:CF90",
        "Compress, calibrate for each seed, and compare factual retention and correlation with before.",
    ),
    "steering": (
        "runners.steering:STEERING",
        "Add a steering vector after each layer in turn, and score every behavior on the eval split.",
    ),
    "stress-test": (
        "runners.stress_test:STRESS_TEST",
        "Let baseline and trained models answer jailbreaks and benign prompts, and judge which they refuse.",
    ),
    "attack-defense": (
        "runners.attack_defense:ATTACK_DEFENSE",
        "Train a sparse autoencoder, scale the features of a behavior, and score every behavior.",
    ),
    "leaderboard": (
        "runners.leaderboard:LEADERBOARD",
        "Score models and merges of them, made here from their weights.",
    ),
    "fidelity-bench": (
        "runners.fidelity_bench:FIDELITY_BENCH",
        "Score true against false statements by category: truth correlation with p, mean difference, accuracy.",
    ),
    "hybrid": (
        "runners.hybrid:HYBRID",
        "Compress, freeze and fine-tune, scale features of an autoencoder, and score, with a time for each phase.",
    ),
    "landscape": (
        "runners.landscape:LANDSCAPE",
        "Embed the probes' texts, join similar ones and find their communities, for several seeds and thresholds.",
    ),
}


def load_runner(name: str) -> Any:
    """The declared runner called `name` (a `runners.cells.Runner`). Raises UnknownNameError."""
    if name not in RUNNERS:
        raise UnknownNameError("runner", name, tuple(RUNNERS))
    module, _, attribute = RUNNERS[name][0].partition(":")
    return getattr(importlib.import_module(module), attribute)
