"""Which studies there are: name -> ("module:attribute", one-line summary). Loaded on demand."""

import importlib
from typing import TYPE_CHECKING, Final

from rhodb.errors import UnknownNameError

if TYPE_CHECKING:
    from analysis.study import Study

STUDIES: Final[dict[str, tuple[str, str]]] = {
    "effects": (
        "analysis.effects:Effects",
        "Differences between conditions per behavior and metric, with intervals and exact tests.",
    ),
}


def load_study(name: str) -> "Study":
    """An instance of the study called `name`. Raises UnknownNameError, which lists the choices."""
    if name not in STUDIES:
        raise UnknownNameError("study", name, tuple(STUDIES))
    module, _, attribute = STUDIES[name][0].partition(":")
    study: Study = getattr(importlib.import_module(module), attribute)()
    return study
