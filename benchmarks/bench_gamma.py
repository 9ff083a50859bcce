"""Time and peak memory of the γ* study with a million Monte Carlo samples, from the shipped published figures.

Run: python benchmarks/bench_gamma.py [--samples N] [--repeats N]. Prints JSON. Start-up (imports) is not counted.
"""

import argparse
import json
import resource
import statistics
import time
from dataclasses import asdict

import numpy as np
import pandas as pd

from analysis.answers import AnswerOptions, PublishedTable
from analysis.gamma.critical import monte_carlo
from analysis.gamma.inputs import published_inputs
from analysis.gamma.study import Gamma
from rhodb.published import read_folder


def seconds(work, repeats: int) -> list[float]:
    """Wall time of each repeat, the first (warm-up) left out."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return times[1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    frame = pd.DataFrame([asdict(value) for value in read_folder()])
    options = AnswerOptions(samples=arguments.samples)
    given = published_inputs(PublishedTable(frame), options)

    def sampling() -> None:
        monte_carlo(
            given.scenarios[0], np.random.default_rng(42), samples=arguments.samples, window=given.window,
            decorative=given.decorative,
        )  # fmt: skip

    def study() -> None:
        Gamma().compute(frame, "published", options, np.random.default_rng(42))

    alone, whole = seconds(sampling, arguments.repeats), seconds(study, arguments.repeats)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # KiB on Linux
    print(
        json.dumps(
            {
                "samples": arguments.samples,
                "monte_carlo_s": {"median": statistics.median(alone), "worst": max(alone)},
                "whole_study_s": {"median": statistics.median(whole), "worst": max(whole)},
                "peak_mib": round(peak, 1),
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
