"""Does Δ follow a setting of the configuration (share of refusals, duration)? A trend test for each condition."""

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from analysis.findings import correct
from analysis.query import Query
from analysis.report.addresses import equals
from analysis.report.context import Context
from analysis.report.document import Cell, Sentence
from analysis.stats.permutation import two_sample_test
from analysis.stats.results import Test
from analysis.stats.trend import jonckheere_terpstra
from analysis.strata import ARM_KEYS, SEED_KEYS, settings_of
from analysis.verdicts import p_text, unit_of

MOST = 16
ALPHA = 0.05


def setting_trends(ctx: Context, setting: str, words: str, *, behaviors: Sequence[str] = ()) -> tuple[Cell, ...]:
    """One sentence a stratum and behavior, for strata that agree in everything but the setting and the seed.

    Jonckheere-Terpstra over three or more values, exact permutation test for two; Holm over all sentences.
    """
    query = _query(ctx, behaviors)
    groups: dict[tuple[Any, ...], dict[float, list[tuple[str, float]]]] = defaultdict(lambda: defaultdict(list))
    for row in ctx.rows(query):
        config = json.loads(row["config"])
        if setting not in config or row["delta"] is None:
            continue
        rest = settings_of(config, skip=ARM_KEYS | SEED_KEYS | {setting})
        place = (
            row["model"],
            row["condition"],
            row["rho_weight"],
            row["margin"],
            row["behavior"],
            row["experiment"],
            rest,
            row["weights"],
        )
        groups[place][float(config[setting])].append((row["run"], row["delta"]))
    weights = {(place[0], place[7]) for place in groups}
    several = len(weights) > len({model for model, _ in weights})
    ladders = {place: dict(sorted(found.items())) for place, found in groups.items() if len(found) > 1}
    rng = np.random.default_rng(0)
    tests = correct(
        [_test([[d for _, d in found] for found in steps.values()], rng) for steps in ladders.values()], "holm"
    )
    told: list[Cell] = []
    for (place, steps), test in list(zip(ladders.items(), tests, strict=True))[:MOST]:
        runs = [run for found in steps.values() for run, _ in found]
        narrow = [equals(c, v) for c, v in zip(("condition", "behavior"), (place[1], place[4]), strict=True)]
        address = ctx.book.address("count", query, runs=runs, narrow=narrow, by_run=True, method=test.method,
                                   pick=f"column delta by {setting} of the configuration")  # fmt: skip
        told.append(Sentence(text=_sentence(ctx, place, steps, test, words, tell_weights=several), address=address))
    return tuple(told)


def _query(ctx: Context, behaviors: Sequence[str]) -> Query:
    return ctx.query(
        "report_run_values", score__metric=ctx.options.metrics[0], score__split=ctx.options.split,
        score__behavior=tuple(behaviors),
    )  # fmt: skip


def _test(samples: Sequence[Sequence[float]], rng: np.random.Generator) -> Test:
    return jonckheere_terpstra(samples) if len(samples) > 2 else two_sample_test(samples[1], samples[0], rng)


def _sentence(
    ctx: Context,
    place: tuple[Any, ...],
    steps: dict[float, list[tuple[str, float]]],
    test: Test,
    words: str,
    *,
    tell_weights: bool,
) -> str:
    metric, unit = ctx.options.metrics[0], unit_of(ctx.options.metrics[0])
    means = ", ".join(
        f"{step:g}: {np.mean([d for _, d in found]):.3g} (n {len(found)})" for step, found in steps.items()
    )
    p = "no test"
    if test.p is not None and test.p_adjusted is not None:
        p = f"p = {p_text(test.p)} ({p_text(test.p_adjusted)} by holm)"
    verdict = "Supported" if test.p_adjusted is not None and test.p_adjusted <= ALPHA else "Not supported"
    if test.p is None or (test.floor is not None and test.floor > ALPHA):
        verdict = "Not enough data"
    shown = f"Δ {metric}{f' ({unit})' if unit else ''} of {place[4]}"
    model = f"{place[0]} (weights {place[7]})" if tell_weights else place[0]
    return f"{verdict}: {model}, {place[1]}: {shown} by {words} {means}; {p}."
