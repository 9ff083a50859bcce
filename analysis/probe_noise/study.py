"""The probe-noise study: formula and bootstrap, paired and unpaired noise in γ*, and how many probes it takes."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from analysis.answers import Answer, AnswerOptions, AnswerStudy, PublishedTable, Source
from analysis.arms import from_runs
from analysis.effects import query_of
from analysis.gamma.critical import Scenario
from analysis.gamma.inputs import (
    AS_PUBLISHED,
    DEFAULT,
    OPEN_WINDOW,
    own_inputs,
    pair_of,
    published_inputs,
    sweep_weight,
)
from analysis.probe_noise.measured import measure, paired_noise, resampled_probes, scores_of, unpaired_noise
from analysis.probe_noise.noise import (
    NO_NOISE,
    Effect,
    ProbeNoise,
    correlation_sd,
    effect_on_margin,
    paired,
    unpaired,
)
from analysis.probe_noise.report import conclusions, quantities
from analysis.probe_noise.result import CORRELATIONS, PROBE_COUNTS, Formula, NoiseResult
from analysis.query import Conditions, Query, read_sql
from rhodb.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from rhodb.warehouse import Warehouse

POWER_CORRELATION = 0.99
"""Assumed for the paired power analysis where none was measured."""


class ProbeNoiseStudy(AnswerStudy):
    """Noise from the choice of probes: standard errors, its share in γ*, paired and unpaired, and power."""

    name: ClassVar[str] = "probe-noise"
    families: ClassVar[tuple[str, ...]] = (
        "arm", "operating", "mc", "amplification", "tornado", "phase", "baseline", "probes",
    )  # fmt: skip

    def own_query(self, options: AnswerOptions) -> Query:
        return self.own_rows(options, ())

    def own_rows(self, options: AnswerOptions, runs: Sequence[str]) -> Query:
        conditions = Conditions()
        conditions.among("runs.uuid", runs)
        conditions.equal("positive.split", options.split)
        conditions.among("probe_sets.behavior", options.behaviors)
        return Query(sql=read_sql("probe_gaps", conditions=conditions), parameters=conditions.parameters)

    def load_own(self, wh: "Warehouse", options: AnswerOptions) -> "pd.DataFrame":
        """Scores of single probes for the two arms of the γ sweep; the grid they belong to in `frame.attrs`."""
        query = query_of(options, model=options.model, behaviors=(), metrics=options.metrics)
        grid_rows = wh.frame(query.sql, **query.parameters)
        grid = from_runs(grid_rows)
        weight = sweep_weight(grid, options) if grid is not None else None
        runs: list[str] = []
        if grid is not None and weight is not None:
            for behavior in grid.behaviors():
                arms = tuple(grid.at(weight=weight, behavior=behavior))
                if len(arms) >= 2:
                    runs += [run for arm in pair_of(arms, DEFAULT.gamma) for run in arm.inputs]
        probes = self.own_rows(options, tuple(dict.fromkeys(runs)) or ("none",))
        frame = wh.frame(probes.sql, **probes.parameters)
        frame.attrs["grid"] = grid_rows
        return frame

    def has_own(self, frame: "pd.DataFrame", options: AnswerOptions) -> bool:
        return len(frame) > 0

    def compute(
        self, frame: "pd.DataFrame", inputs: Source, options: AnswerOptions, rng: np.random.Generator
    ) -> Answer:
        table = PublishedTable(frame) if inputs == "published" else None
        result = _published(table, options, rng) if table is not None else _own(frame, options, rng)
        runs = tuple(dict.fromkeys(run for found in result.measured for run in found.runs))
        given = ({"inputs": list(runs), "n_runs": len(runs), "behaviors": [m.behavior for m in result.measured]},)
        return Answer(
            study=self.name,
            inputs=inputs,
            options=asdict(options),
            given=table.given() if table is not None else given,
            quantities=quantities(result, table),
            conclusions=conclusions(result),
            messages=tuple(_shared_wordings(result)),
            query=self.published_query() if inputs == "published" else self.own_rows(options, runs),
            narrow=self.narrowed(inputs, options),
            caption=(
                f"Inputs: {inputs} ({result.model}). Noise from the choice of probes, and 95 % intervals of γ* with it "
                "added to the spread over seeds; unpaired: each Δ draws its own probes, paired: all use the same."
            ),
            drawing=result,
        )


def _published(table: PublishedTable, options: AnswerOptions, rng: np.random.Generator) -> NoiseResult:
    given = published_inputs(table, options)
    case = next((c for c in given.scenarios if c.name == AS_PUBLISHED), given.sound)
    formulas = tuple(_formula(table, key, int(count)) for key, count in table.below("probes/count/").items())
    own = next((f for f in formulas if f.behavior == given.target), None)
    if case is None or own is None:
        raise InputError(f"the number of {given.target} probes or its spread over seeds was not published")
    scale = own.sigma * (own.n - 1) ** 0.5
    margin = _Margin(case=case, n=own.n, window=given.window, samples=options.samples, rng=rng)
    return NoiseResult(
        source="published",
        model=given.model,
        formulas=formulas,
        measured=(),
        case=case,
        n=own.n,
        seeds_only=margin.with_noise(NO_NOISE),
        unpaired=margin.with_noise(unpaired(scale)),
        paired=tuple(margin.with_noise(paired(scale, r)) for r in CORRELATIONS),
        resampled=None,
        power=margin.power(unpaired(scale), paired(scale, POWER_CORRELATION)),
        power_correlation=POWER_CORRELATION,
    )


def _formula(table: PublishedTable, behavior: str, n: int) -> Formula:
    key = f"baseline/{behavior}"
    known = key in table
    rho = table.value(key) if known else 0.0
    return Formula(
        behavior=behavior, n=n, rho=rho, assumed_zero=not known, sigma=correlation_sd(rho, n),
        inputs=(f"probes/count/{behavior}", *((key,) if known else ())),
    )  # fmt: skip


def _own(frame: "pd.DataFrame", options: AnswerOptions, rng: np.random.Generator) -> NoiseResult:
    if frame.empty:
        raise InputError(
            "this warehouse has no probe scores for two margins under one λ: run `rhodb run margin-sweep`, "
            "or look at the notes' figures with --inputs published"
        )
    draws = min(options.samples, 1000)
    scores = scores_of(frame)
    measured = tuple(measure(one, rng, draws=draws) for one in scores)
    given = own_inputs(frame.attrs["grid"], options)
    target = next((one for one in scores if one.behavior == given.target), None)
    case = given.sound
    base = NoiseResult(
        source="db", model=given.model, formulas=(), measured=measured, case=case, n=target.n if target else 0,
        seeds_only=None, unpaired=None, paired=(), resampled=None, power=(), power_correlation=None,
    )  # fmt: skip
    if target is None or case is None or not all(gamma in target.arms for gamma in case.gammas):
        return base
    free, tied = unpaired_noise(target, case.gammas), paired_noise(target, case.gammas)
    margin = _Margin(case=case, n=target.n, window=OPEN_WINDOW, samples=options.samples, rng=rng)
    return NoiseResult(
        **{
            **base.__dict__,
            "seeds_only": margin.with_noise(NO_NOISE),
            "unpaired": margin.with_noise(free),
            "paired": (margin.with_noise(tied),),
            "resampled": resampled_probes(target, case, rng, draws=draws),
            "power": margin.power(free, tied),
            "power_correlation": tied.correlation,
        }
    )


def _shared_wordings(result: NoiseResult) -> Iterator[str]:
    """Where the probes of a behavior are fewer than they look."""
    for found in result.measured:
        if found.clusters < found.n and found.clustered_error is not None and found.paired_error:
            times = found.clustered_error / found.paired_error
            yield (
                f"{found.behavior}: {found.n} probes share {found.clusters} wordings, with which the standard error of "
                f"Δ is {times:.2f} times that of independent probes; noise of γ* and its resampling take wordings for "
                "the unit, the SDs of ρ and of gaps take probes"
            )


class _Margin:
    """γ* of one case under different noises."""

    def __init__(
        self, *, case: Scenario, n: int, window: tuple[float, float], samples: int, rng: np.random.Generator
    ) -> None:
        self.case, self.n, self.window, self.samples, self.rng = case, n, window, samples, rng

    def with_noise(self, noise: ProbeNoise, n: int | None = None) -> Effect:
        return effect_on_margin(self.case, noise, n or self.n, self.rng, samples=self.samples, window=self.window)

    def power(self, free: ProbeNoise, tied: ProbeNoise) -> tuple[tuple[Effect, Effect], ...]:
        return tuple((self.with_noise(free, n), self.with_noise(tied, n)) for n in PROBE_COUNTS)
