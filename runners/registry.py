"""Which runners there are: name -> ("module:attribute", one-line summary). Loaded on demand."""

import importlib
from typing import Any, Final

from rhodb.errors import UnknownNameError

RUNNERS: Final[dict[str, tuple[str, str]]] = {
    "ablation": ("runners.ablation:ABLATION", "Train and score each condition for each seed, against one baseline."),
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
