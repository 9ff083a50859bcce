"""The γ* study: choose the inputs, compute everything, hand it on as quantities and for drawing."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from analysis.answers import Answer, AnswerOptions, AnswerStudy, PublishedTable, Source
from analysis.arms import from_runs
from analysis.effects import query_of
from analysis.gamma.amplification import angular, baselines, rounded, swings
from analysis.gamma.conclusions import conclusions
from analysis.gamma.critical import Scenario, monte_carlo
from analysis.gamma.curves import fit_curve, fit_line, resampled_margin
from analysis.gamma.inputs import AmplificationInputs, GammaInputs, own_inputs, pair_of, published_inputs, sweep_weight
from analysis.gamma.phase import Surface, least_squares, stepwise
from analysis.gamma.report import quantities
from analysis.gamma.result import EXPONENT_RANGE, AmplificationResult, GammaResult
from analysis.gamma.sensitivity import Bar, Sobol, is_steep, sobol_of_arms, sobol_with_form, tornado, two_arm_bars
from analysis.query import Query
from analysis.stats.results import NotFiniteError

if TYPE_CHECKING:
    import pandas as pd


class Gamma(AnswerStudy):
    """The margin at which an effect changes sign: intervals, amplification, sensitivity, phase diagram."""

    name: ClassVar[str] = "gamma"
    families: ClassVar[tuple[str, ...]] = (
        "arm", "operating", "mc", "amplification", "tornado", "phase", "baseline",
    )  # fmt: skip

    def own_query(self, options: AnswerOptions) -> Query:
        return query_of(options, model=options.model, behaviors=(), metrics=options.metrics)

    def own_rows(self, options: AnswerOptions, runs: Sequence[str]) -> Query:
        return query_of(options, model=options.model, behaviors=(), metrics=options.metrics, runs=runs)

    def has_own(self, frame: "pd.DataFrame", options: AnswerOptions) -> bool:
        grid = from_runs(frame)
        return grid is not None and sweep_weight(grid, options) is not None

    def compute(
        self, frame: "pd.DataFrame", inputs: Source, options: AnswerOptions, rng: np.random.Generator
    ) -> Answer:
        table = PublishedTable(frame) if inputs == "published" else None
        given = published_inputs(table, options) if table is not None else own_inputs(frame, options)
        result = compute(given, options, rng)
        arms = [arm for cells in given.cells.values() for arm in cells]
        unit = "nats/token" if options.metric in ("gap", "answer_gap") else options.metric
        found = quantities(result, table, unit)
        return Answer(
            study=self.name,
            inputs=inputs,
            options=asdict(options),
            given=table.given() if table is not None else tuple(arm.plain() for arm in arms),
            quantities=found,
            conclusions=conclusions(result),
            messages=(*given.messages, *result.refused),
            query=self.published_query() if inputs == "published" else self.own_query(options),
            narrow=self.narrowed(inputs, options),
            caption=(
                f"Inputs: {inputs} ({given.model}). Δ of metric {options.metric}; γ varied at "
                f"λ {given.operating.weight:g}; γ* is the margin at which Δ crosses zero. "
                f"Intervals {100 * options.level:g} % unless stated."
            ),
            drawing=result,
        )


def compute(given: GammaInputs, options: AnswerOptions, rng: np.random.Generator) -> GammaResult:
    """Everything, in an order in which the Monte Carlo of the notes draws first (so that their seed repeats it)."""
    first = given.scenarios[0] if given.scenarios else None
    chosen = [case for case in dict.fromkeys((first, given.sound)) if case is not None]
    samples = [
        monte_carlo(
            case, rng, samples=options.samples, window=given.window,
            decorative=given.decorative if case is first else None,
        )
        for case in chosen
    ]  # fmt: skip
    draws = min(options.samples, 10_000)
    pairs = {b: pair_of(arms, given.operating.gamma) for b, arms in given.sweeps.items()}
    resampled = {b: resampled_margin(arms, rng, draws=draws, level=options.level) for b, arms in pairs.items()}
    sobol, refused = _sobol(given, first, options.seed)
    lines = {b: fit_line(arms, level=options.level) for b, arms in given.sweeps.items()}
    curves = {b: fit_curve(arms, rng, draws=min(draws, 2000), level=options.level) for b, arms in given.sweeps.items()}
    return GammaResult(
        inputs=given,
        level=options.level,
        monte_carlo=tuple(found for found in samples if found is not None),
        resampled={b: found for b, found in resampled.items() if found is not None},
        lines={b: found for b, found in lines.items() if found is not None},
        curves={b: found for b, found in curves.items() if found is not None},
        amplification=_amplification(given.amplification, options, rng),
        tornado=_tornado(given, first),
        two_arms=tuple(two_arm_bars(given.sound)) if given.sound is not None else (),
        sobol=sobol,
        refused=refused,
        surfaces=_surfaces(given),
    )


def _amplification(
    given: AmplificationInputs | None, options: AnswerOptions, rng: np.random.Generator
) -> AmplificationResult | None:
    if given is None:
        return None
    turn = None
    if given.theta is not None:
        draws = min(options.samples, 100_000)
        turn = angular(*given.theta, given.theta_sd, rng, draws=draws, level=options.level)
    ratio = None
    if given.printed is not None:
        ratio = rounded(*given.printed, unit=given.unit, angular_ratio=turn.ratio if turn else None)
    found = swings(*given.arms, level=options.level) if given.arms is not None else None
    start = baselines(*given.baselines, ratio.residual if ratio else None) if given.baselines is not None else None
    return AmplificationResult(given=given, angular=turn, rounded=ratio, baselines=start, swings=found)


def _tornado(given: GammaInputs, case: Scenario | None) -> tuple[Bar, ...]:
    if case is None or given.ranges is None or given.theta is None or given.baseline is None:
        return ()
    return tuple(tornado(case, given.ranges, theta=given.theta, baseline=given.baseline))


def _sobol(given: GammaInputs, first: Scenario | None, seed: int) -> tuple[tuple[Sobol, ...], tuple[str, ...]]:
    """The indices of each model whose slope is surely not zero (γ* has no variance to share out otherwise).

    And why there are none of a model that is not finite everywhere.
    """
    models: dict[str, Callable[[], Sobol]] = {}
    if given.source == "published" and first is not None and is_steep(first):
        baseline = given.ranges.baseline if given.ranges is not None else None
        name = "the notes' errors"
        models[name] = partial(
            sobol_of_arms, first, name=name, decorative=given.decorative, baseline=baseline, seed=seed
        )
    if given.sound is not None and is_steep(given.sound):
        name = "standard errors over seeds"
        models[name] = partial(sobol_of_arms, given.sound, name=name, seed=seed)
    if first is not None and is_steep(first):
        models["the shape of the curve unknown"] = partial(sobol_with_form, first, exponents=EXPONENT_RANGE, seed=seed)
    found, refused = [], []
    for name, model in models.items():
        try:
            found.append(model())
        except NotFiniteError as error:
            refused.append(f"no Sobol indices ({name}): {error}")
    return tuple(found), tuple(refused)


def _surfaces(given: GammaInputs) -> tuple[Surface, ...]:
    surfaces: list[Surface | None] = []
    for behavior, cells in given.cells.items():
        if given.source == "published":
            surfaces.append(stepwise(given.doses[behavior], given.sweeps[behavior][0], given.operating))
        surfaces.append(least_squares(cells, given.operating))
    return tuple(surface for surface in surfaces if surface is not None)
