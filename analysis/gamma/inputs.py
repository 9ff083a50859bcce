"""What the γ* study needs, gathered from published values or from this warehouse's grid of runs."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from analysis.answers import AnswerOptions, PublishedTable, Source
from analysis.arms import Arm, Grid, from_published, from_runs, one
from analysis.gamma.critical import Decorative, Scenario, scenario
from analysis.gamma.phase import Operating
from analysis.gamma.sensitivity import Ranges
from rhodb.errors import InputError
from rhodb.vocabulary import BEHAVIORS

if TYPE_CHECKING:
    import pandas as pd

DEFAULT = Operating(gamma=0.1, weight=0.2)
"""Where training is meant to run: the defaults of the training configuration."""
OPEN_WINDOW = (0.0, float("inf"))
DIRECT = "seeds at γ 0 and dose sweep at γ 0.1, standard errors"
AS_PUBLISHED = "as in the notes: SDs over seeds taken for standard errors"


@dataclass(frozen=True, kw_only=True)
class AmplificationInputs:
    """Two behaviors whose swings are divided: printed swings and angles (published only), baselines, arms."""

    behaviors: tuple[str, str]
    printed: tuple[float, float] | None
    unit: float
    """One unit of the last printed digit of the swings."""
    theta: tuple[float, float] | None
    """Angles against the toxicity subspace, degrees."""
    theta_sd: float
    baselines: tuple[float, float] | None
    arms: tuple[tuple[Arm, Arm], tuple[Arm, Arm]] | None


@dataclass(frozen=True, kw_only=True)
class GammaInputs:
    """Everything the computation sees."""

    source: Source
    model: str
    target: str
    """Behavior that is studied in depth."""
    operating: Operating
    sweeps: Mapping[str, tuple[Arm, ...]]
    """Behavior -> arms at the operating λ by γ; at least two."""
    scenarios: tuple[Scenario, ...]
    """Of the target: the first is the notes' where published; all others use standard errors."""
    sound: Scenario | None
    """The one of them to believe: seeds' means in both arms, with standard errors."""
    others: tuple[Scenario, ...]
    """One per other behavior, with standard errors."""
    plain: Arm | None
    """The target without contrastive term (λ = 0)."""
    decorative: Decorative | None
    window: tuple[float, float]
    """Samples outside are dropped."""
    amplification: AmplificationInputs | None
    ranges: Ranges | None
    theta: float | None
    baseline: float | None
    doses: Mapping[str, tuple[Arm, ...]]
    """Behavior -> arms at the operating γ by λ."""
    cells: Mapping[str, tuple[Arm, ...]]
    """Behavior -> all arms of the grid."""
    extent: tuple[float, float]
    """Largest γ and λ of the phase diagram."""
    points: int
    messages: tuple[str, ...]


def pair_of(arms: tuple[Arm, ...], gamma: float) -> tuple[Arm, Arm]:
    """The smallest margin, and the operating one where it was measured, else the largest."""
    upper = next((arm for arm in arms[1:] if arm.gamma == gamma), arms[-1])
    return arms[0], upper


def published_inputs(table: PublishedTable, options: AnswerOptions) -> GammaInputs:
    """The notes' figures and the constants behind them."""
    operating = Operating(gamma=table.value("operating/gamma"), weight=table.value("operating/lambda"))
    none, sweep = from_published(table, "no-margin"), from_published(table, "sweep")
    behaviors = _asked([b for b in BEHAVIORS if one(none, gamma=0.0, weight=operating.weight, behavior=b)], options)
    target = _target(behaviors, options)
    sweeps: dict[str, tuple[Arm, ...]] = {}
    for behavior in behaviors:
        arms = [
            one(series, gamma=g, weight=operating.weight, behavior=behavior)
            for series, g in ((none, 0.0), (sweep, operating.gamma))
        ]
        sweeps[behavior] = tuple(arm for arm in arms if arm is not None)
    doses = {b: tuple(sorted((a for a in sweep if a.behavior == b), key=lambda a: a.weight)) for b in behaviors}
    return GammaInputs(
        source="published",
        model="Qwen2.5-7B-Instruct",
        target=target,
        operating=operating,
        sweeps=sweeps,
        scenarios=_published_scenarios(table, sweeps[target], operating, target),
        sound=scenario((sweeps[target][0], sweeps[target][1]), DIRECT, "se"),
        others=_others(sweeps, target, operating),
        plain=one(sweep, gamma=operating.gamma, weight=0.0, behavior=target),
        decorative=Decorative(
            s_inf=(table.value("mc/s_inf/median"), table.value("mc/s_inf/log_sd")),
            theta=(table.value("mc/theta/mean"), table.value("mc/theta/sd")),
        ) if target == "bias" else None,
        window=(table.value("mc/filter/low"), table.value("mc/filter/high")),
        amplification=_published_amplification(table, sweeps),
        ranges=_published_ranges(table),
        theta=table.value("mc/theta/mean"),
        baseline=table.value(f"baseline/{target}"),
        doses=doses,
        cells={b: (*doses[b], sweeps[b][0]) for b in behaviors},
        extent=(table.value("phase/grid/gamma/high"), table.value("phase/grid/lambda/high")),
        points=int(table.value("phase/grid/points")),
        messages=(),
    )  # fmt: skip


def _asked(behaviors: list[str], options: AnswerOptions) -> list[str]:
    """Those of the behaviors that the options ask for; raises InputError where none is left."""
    kept = [b for b in behaviors if not options.behaviors or b in options.behaviors]
    if not kept:
        raise InputError(f"no margins were varied for {', '.join(options.behaviors)}; known: {', '.join(behaviors)}")
    return kept


def _target(behaviors: list[str], options: AnswerOptions) -> str:
    """The behavior studied in depth: the first asked for, else bias where it is there."""
    if options.behaviors:
        return next(b for b in options.behaviors if b in behaviors)
    return "bias" if "bias" in behaviors else behaviors[0]


def _published_scenarios(
    table: PublishedTable, sweep: tuple[Arm, ...], operating: Operating, target: str
) -> tuple[Scenario, ...]:
    direct = scenario((sweep[0], sweep[1]), DIRECT, "se")
    found: list[Scenario | None] = [direct]
    if target == "bias":
        mc = from_published(table, "mc")
        ends = [one(mc, gamma=g, weight=operating.weight, behavior=target) for g in (0.0, operating.gamma)]
        if ends[0] is not None and ends[1] is not None and direct is not None:
            notes = scenario((ends[0], ends[1]), AS_PUBLISHED, "sd")
            mixed = None if notes is None else replace(
                direct, name="phase diagram of the notes: seeds' and sweep's means, SDs as errors", errors=notes.errors,
                sizes=None, inputs=(*direct.inputs, *notes.inputs),
            )  # fmt: skip
            proper = scenario((ends[0], ends[1]), "the same figures, SD / √n as standard errors", "se")
            found = [notes, proper, mixed, direct]
    table_arm = one(from_published(table, "dose"), gamma=operating.gamma, weight=operating.weight, behavior=target)
    if table_arm is not None:
        found.append(scenario((sweep[0], table_arm), "seeds at γ 0 and the dose table at γ 0.1, standard errors", "se"))
    return tuple(case for case in found if case is not None)


def _others(sweeps: Mapping[str, tuple[Arm, ...]], target: str, operating: Operating) -> tuple[Scenario, ...]:
    cases = [
        scenario(pair_of(arms, operating.gamma), f"{behavior}, standard errors", "se")
        for behavior, arms in sweeps.items()
        if behavior != target
    ]
    return tuple(case for case in cases if case is not None)


def _published_amplification(
    table: PublishedTable, sweeps: Mapping[str, tuple[Arm, ...]]
) -> AmplificationInputs | None:
    names = ("bias", "sycophancy")
    if not all(name in sweeps for name in names):
        return None
    swing = [table.value(f"amplification/swing/{name}") for name in names]
    theta = [table.value(f"amplification/theta/{name}") for name in names]
    start = [table.value(f"baseline/{name}") for name in names]
    first, second = ((sweeps[name][0], sweeps[name][1]) for name in names)
    printed = table.printed(f"amplification/swing/{names[1]}")
    return AmplificationInputs(
        behaviors=names, printed=(swing[0], swing[1]), unit=(printed and printed.precision) or 0.0,
        theta=(theta[0], theta[1]), theta_sd=table.value("mc/theta/sd"), baselines=(start[0], start[1]),
        arms=(first, second),
    )  # fmt: skip


def _published_ranges(table: PublishedTable) -> Ranges:
    def ends(name: str) -> tuple[float, float]:
        return table.value(f"tornado/{name}/low"), table.value(f"tornado/{name}/high")

    return Ranges(
        d0=table.value("tornado/d0/half_width"), d1=table.value("tornado/d1/half_width"), theta=ends("theta"),
        baseline=ends("baseline"), points=int(table.value("tornado/points")), percentiles=ends("percentile"),
        window=(table.value("mc/filter/low"), table.value("mc/filter/high")),
    )  # fmt: skip


def sweep_weight(grid: Grid, options: AnswerOptions) -> float | None:
    """The λ at which a behavior has most margins, or the one asked for; of equals the default λ, else the smallest.

    None where no behavior has two margins at one λ: two margins of two behaviors are no sweep.
    """
    weights = [options.rho_weight] if options.rho_weight is not None else [w for w in grid.weights() if w > 0]
    longest = {w: max((len(grid.at(weight=w, behavior=b)) for b in grid.behaviors()), default=0) for w in weights}
    ranked = sorted(weights, key=lambda w: (-longest[w], w != DEFAULT.weight, w))
    return ranked[0] if ranked and longest[ranked[0]] >= 2 else None


def own_inputs(frame: "pd.DataFrame", options: AnswerOptions) -> GammaInputs:
    """This warehouse's γ sweep. Raises InputError where there is none."""
    grid = from_runs(frame)
    weight = sweep_weight(grid, options) if grid is not None else None
    if grid is None or weight is None:
        raise InputError(
            "this warehouse has no behavior with two margins under one λ and the same settings: run "
            "`rhodb run margin-sweep`, or look at the notes' figures with --inputs published"
        )
    behaviors = _asked([b for b in grid.behaviors() if len(grid.at(weight=weight, behavior=b)) >= 2], options)
    target = _target(behaviors, options)
    sweeps = {b: tuple(grid.at(weight=weight, behavior=b)) for b in behaviors}
    margins = grid.margins(weight)
    operating = Operating(gamma=DEFAULT.gamma if DEFAULT.gamma in margins else margins[-1], weight=weight)
    main = scenario(pair_of(sweeps[target], operating.gamma), "this warehouse's seeds, standard errors", "se")
    loose = scenario(pair_of(sweeps[target], operating.gamma), "the same, SDs taken for standard errors", "sd")
    cells = {b: tuple(arm for arm in grid.arms if arm.behavior == b) for b in behaviors}
    doses = {b: tuple(a for a in cells[b] if a.gamma == operating.gamma or a.weight == 0) for b in behaviors}
    return GammaInputs(
        source="db", model=grid.model, target=target, operating=operating, sweeps=sweeps,
        scenarios=tuple(case for case in (main, loose) if case is not None),
        sound=main,
        others=_others(sweeps, target, operating),
        plain=next((arm for arm in cells[target] if arm.weight == 0), None),
        decorative=None, window=OPEN_WINDOW, amplification=_own_amplification(sweeps, operating), ranges=None,
        theta=None, baseline=sweeps[target][0].baseline, doses=doses, cells=cells,
        extent=(1.5 * margins[-1], 1.2 * grid.weights()[-1]), points=100, messages=grid.messages,
    )  # fmt: skip


def _own_amplification(sweeps: Mapping[str, tuple[Arm, ...]], operating: Operating) -> AmplificationInputs | None:
    names = ("bias", "sycophancy")
    if not all(name in sweeps for name in names):
        return None
    first, second = (pair_of(sweeps[name], operating.gamma) for name in names)
    start = (first[0].baseline, second[0].baseline)
    return AmplificationInputs(
        behaviors=names, printed=None, unit=0.0, theta=None, theta_sd=0.0,
        baselines=(start[0], start[1]) if start[0] and start[1] else None, arms=(first, second),
    )  # fmt: skip
