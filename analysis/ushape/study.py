"""The U-shape study: is there a dose with the smallest spread over seeds, and how well is it known?"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from analysis.answers import Answer, AnswerOptions, AnswerStudy, PublishedTable, Source
from analysis.arms import Arm, Grid, from_published, from_runs
from analysis.effects import query_of
from analysis.query import Query
from analysis.ushape.compare import (
    assumed_noise,
    bartlett,
    compare,
    levene,
    plausible_sds,
    resampled_sds,
    uncertainty,
    variance_ratio,
)
from analysis.ushape.model import Bounds, least_squares
from analysis.ushape.report import conclusions, quantities
from analysis.ushape.result import Series, SeriesResult, UshapeResult
from rhodb.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

PARAMETERS = ("s0", "tau", "sp")
DOSES_NEEDED = 3
"""As many as the U has parameters."""


class Ushape(AnswerStudy):
    """The dose with the smallest variance over seeds: fit of the U-shape, its uncertainty, and its rivals."""

    name: ClassVar[str] = "ushape"
    families: ClassVar[tuple[str, ...]] = ("arm", "operating", "ushape")

    def own_query(self, options: AnswerOptions) -> Query:
        return self.own_rows(options, ())

    def own_rows(self, options: AnswerOptions, runs: Sequence[str]) -> Query:
        return query_of(options, model=options.model, behaviors=options.behaviors, metrics=options.metrics, runs=runs)

    def has_own(self, frame: "pd.DataFrame", options: AnswerOptions) -> bool:
        grid = from_runs(frame)
        return grid is not None and bool(_own_series(grid, options))

    def compute(
        self, frame: "pd.DataFrame", inputs: Source, options: AnswerOptions, rng: np.random.Generator
    ) -> Answer:
        table = PublishedTable(frame) if inputs == "published" else None
        messages: tuple[str, ...] = ()
        if table is not None:
            series, bounds = _published_series(table, options), _published_bounds(table)
            model, operating = "Qwen2.5-7B-Instruct", table.value("operating/lambda")
        else:
            grid = from_runs(frame)
            series = _own_series(grid, options) if grid is not None else []
            if grid is None or not series:
                raise InputError(
                    f"this warehouse has no {DOSES_NEEDED} doses with two seeds each under the same settings: run "
                    "`rhodb run dose-response`, or look at the notes' figures with --inputs published"
                )
            model, messages, operating = grid.model, grid.messages, None
            bounds = _own_bounds(series)
        noise = _published_noise(table) if table is not None else None
        results = tuple(_result(one, bounds, noise if one.claimed else None, options, rng) for one in series)
        result = UshapeResult(model=model, results=results, operating=operating)
        unit = "nats/token" if options.metric in ("gap", "answer_gap") else options.metric
        return Answer(
            study=self.name,
            inputs=inputs,
            options=asdict(options),
            given=table.given() if table is not None else tuple(arm.plain() for one in series for arm in one.arms),
            quantities=quantities(result, table, unit),
            conclusions=conclusions(result),
            messages=messages,
            query=self.published_query() if inputs == "published" else self.own_query(options),
            narrow=self.narrowed(inputs, options),
            caption=(
                f"Inputs: {inputs} ({model}). Spread over seeds of Δ {options.metric}: "
                "σ²(λ) = σ0² exp(-2λ/τ) + σp² λ; λ* is where it is smallest."
            ),
            drawing=result,
        )


def _published_series(table: PublishedTable, options: AnswerOptions) -> list[Series]:
    """The notes' SDs (their dose sweep), their printed dose table, and the seeds of Pattern 3."""
    behavior = options.behaviors[0] if options.behaviors else "factual"
    names = (
        ("sweep", "dose sweep (behind the notes' fit)", behavior == "factual"),
        ("pattern3", "per-seed table (Pattern 3)", False),
        ("dose", "dose table as printed", False),
    )
    found = []
    for key, name, claimed in names:
        arms = _usable(arm for arm in from_published(table, key) if arm.behavior == behavior)
        if len(arms) >= DOSES_NEEDED:
            found.append(Series(name=name, behavior=behavior, arms=arms, claimed=claimed))
    if not found:
        raise InputError(f"no spread over seeds was published for {behavior} at three doses or more")
    return found


def _usable(arms: Iterable[Arm]) -> tuple[Arm, ...]:
    """Those with a spread, by λ."""
    kept = [arm for arm in arms if arm.sd and arm.n > 1]
    return tuple(sorted(kept, key=lambda arm: arm.weight))


def _own_series(grid: Grid, options: AnswerOptions) -> list[Series]:
    """One series a behavior: the doses at the margin that has most of them."""
    found = []
    for behavior in grid.behaviors():
        if options.behaviors and behavior not in options.behaviors:
            continue
        by_margin: dict[float, list[Arm]] = defaultdict(list)
        plain = [arm for arm in grid.arms if arm.behavior == behavior and arm.weight == 0]
        for arm in grid.arms:
            if arm.behavior == behavior and arm.weight > 0:
                by_margin[arm.gamma].append(arm)
        if by_margin:
            margin = max(by_margin, key=lambda gamma: (len(by_margin[gamma]), gamma))
            arms = _usable([*plain[:1], *by_margin[margin]])
            if len(arms) >= DOSES_NEEDED:
                found.append(Series(name=f"this warehouse, γ {margin:g}", behavior=behavior, arms=arms))
    return found


def _published_bounds(table: PublishedTable) -> Bounds:
    return tuple((table.value(f"ushape/bounds/{p}/low"), table.value(f"ushape/bounds/{p}/high")) for p in PARAMETERS)


def _own_bounds(series: Sequence[Series]) -> Bounds:
    """Wide bounds around what the data can tell: σ from 1/100 of the smallest to 10 times the largest SD."""
    sds = np.concatenate([one.sds for one in series])
    largest = max(float(one.weights.max()) for one in series)
    scale = (float(sds.min()) / 100, float(sds.max()) * 10)
    return scale, (largest / 50, largest * 2), (scale[0], scale[1] / largest**0.5)


Noise = tuple[float, float, float]


def _published_noise(table: PublishedTable) -> Noise:
    s0, tau, sp = (table.value(f"ushape/noise/{p}") for p in PARAMETERS)
    return s0, tau, sp


def _result(
    series: Series, bounds: Bounds, noise: Noise | None, options: AnswerOptions, rng: np.random.Generator
) -> SeriesResult:
    sds, sizes, weights, arms = series.sds, series.sizes, series.weights, list(series.arms)
    draws = min(options.samples, 3000)
    found = [
        uncertainty(
            "SDs that n seeds leave plausible (χ²)", plausible_sds(sds, sizes, rng, draws), sizes, weights, bounds
        )
    ]
    seeds = resampled_sds(arms, rng, draws)
    if seeds is not None and len(seeds) > 0:
        found.append(uncertainty("seeds resampled", seeds, sizes, weights, bounds))
    lowest = min(arms, key=lambda arm: arm.sd or 0.0)
    fit = least_squares(sds[None], weights, bounds)
    s0, tau, sp = map(float, fit.parameters[0])
    return SeriesResult(
        series=series,
        fit=fit,
        assumed=None if noise is None else assumed_noise((s0, tau, sp), noise, rng, options.samples),
        comparison=compare(sds, sizes, weights, rng, draws=min(draws, 1000)),
        uncertainties=tuple(found),
        left_out=_leave_one_out(series, bounds),
        bartlett=bartlett(sds, sizes),
        levene=levene(arms),
        rise=variance_ratio(lowest, arms[-1]) if lowest.weight < arms[-1].weight else None,
        lowest=lowest,
    )


def _leave_one_out(series: Series, bounds: Bounds) -> dict[int, float]:
    values = [arm.values for arm in series.arms if arm.values is not None]
    if len(values) < len(series.arms) or len({tuple(sorted(v)) for v in values}) > 1 or len(values[0]) < 3:
        return {}
    seeds = sorted(values[0])
    sds = np.array([[np.std([v[s] for s in seeds if s != out], ddof=1) for v in values] for out in seeds])
    return dict(zip(seeds, map(float, least_squares(sds, series.weights, bounds).optimum()), strict=True))
