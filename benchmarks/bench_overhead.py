"""Share of a dose-response's wall time that is spent outside MLX calls, with the embedded model.

    python benchmarks/bench_overhead.py [--seeds 42,123,456,789,1337] [OPTIONS OF rhodb run dose-response]

The command runs in this process, as a user's would, with the quick preset and a warehouse of its own. MLX calls are
`train` and `score_pairs`, whole (tokenising and batching their texts included). Outside is everything else from the
start of the interpreter to the last line printed: imports, reading and fingerprinting the model, probes, planning,
claiming, metrics, adapters, spooling, inserting, heartbeats and printing. Other processes on the machine slow both.
"""

import importlib
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import psutil

CALLS: Final = {"training": ("runners.alignment", "train"), "scoring": ("runners.scoring_session", "score_pairs")}
"""The MLX calls of an alignment experiment, where the session looks them up."""


def main() -> None:
    given = sys.argv[1:]
    if "--help" in given:
        print(__doc__)
        return
    options = given if "--seeds" in given else ["--seeds", "42,123,456,789,1337", *given]
    seconds = dict.fromkeys(CALLS, 0.0)
    for name, (module, attribute) in CALLS.items():
        _time_calls(module, attribute, name, seconds)
    from rhodb.cli.main import app

    with tempfile.TemporaryDirectory() as folder:
        db = str(Path(folder) / "overhead.db")
        code = app(["run", "dose-response", "--preset", "quick", *options, "--db", db], standalone_mode=False)
    total = time.time() - psutil.Process().create_time()
    if code:
        sys.exit(f"the run failed with exit code {code}")
    outside = total - sum(seconds.values())
    print(f"\nwall time {total:.1f} s")
    for name, value in seconds.items():
        print(f"  MLX calls, {name:9s} {value:8.1f} s  {value / total:6.1%}")
    print(f"  outside MLX calls    {outside:8.1f} s  {outside / total:6.1%}, target under 3 %")


def _time_calls(module: str, attribute: str, name: str, seconds: dict[str, float]) -> None:
    """Add the duration of every call of the module's function to `seconds[name]`, unless another timed call is open."""
    home = importlib.import_module(module)
    function: Callable[..., Any] = getattr(home, attribute)

    def timed(*arguments: Any, **named: Any) -> Any:
        started, before = time.perf_counter(), sum(seconds.values())
        try:
            return function(*arguments, **named)
        finally:
            nested = sum(seconds.values()) - before  # a training that is scored on its way
            seconds[name] += time.perf_counter() - started - nested

    setattr(home, attribute, timed)


if __name__ == "__main__":
    main()
