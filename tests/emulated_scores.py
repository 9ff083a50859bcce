"""With `doctor`: run `rhodb doctor --json`. Then score two pairs with the model in the folder given, and print what
computed them. A test runs this on emulated CPUs, as one process because imports take half a minute there."""

import contextlib
import json
import sys

from rhodb.cli.main import main
from runners.backend.blas import blas_info
from runners.backend.blas_library import cpu_features
from runners.backend.models import load_model
from runners.backend.scoring import PairText, score_pairs

PROMPT = "the river that runs in the land: "
PAIRS = [
    PairText(prompt=PROMPT, positive=PROMPT + "on and on", negative=PROMPT + "a wall"),
    PairText(prompt=None, positive="one text", negative="the other is a good deal longer than that one"),
]


def run(folder: str, *, doctor: bool) -> None:
    """The lines of doctor, if asked, and one line of findings."""
    if doctor:
        sys.argv = ["rhodb", "doctor", "--json"]
        with contextlib.suppress(SystemExit):
            main()
    scores = score_pairs(load_model(folder), PAIRS)
    info = blas_info()
    found = {
        "ce": [side.ce for score in scores for side in (score.positive, score.negative)],
        "features": cpu_features(),
        "openblas": info.loaded,
        "kernel": info.kernel,
        "reason": info.reason,
    }
    print(json.dumps(found))  # noqa: T201  the test reads it


if __name__ == "__main__":
    run(sys.argv[1], doctor="doctor" in sys.argv[2:])
