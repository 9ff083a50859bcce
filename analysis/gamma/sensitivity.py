"""What moves γ*: one input at a time (the notes' tornado), and all at once (Sobol indices through SALib)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from analysis.gamma.critical import Decorative, Scenario, critical_margin
from analysis.stats.results import Array, finite

SOBOL_N = 4096
"""Base samples; the model is evaluated (2 D + 2) times as often."""


@dataclass(frozen=True, kw_only=True)
class Bar:
    """γ* as one input runs over its range, the others fixed: 5th to 95th percentile over an even grid."""

    name: str
    input_low: float
    input_high: float
    low: float
    high: float
    discarded: float
    """Share of the grid outside the notes' window, where the notes drop γ*."""
    unfiltered: tuple[float, float]
    """The same percentiles with nothing dropped."""

    @property
    def range(self) -> float:
        return self.high - self.low


@dataclass(frozen=True, kw_only=True)
class Ranges:
    """The notes' ranges: half-widths around d0 and d1, ends for angle (degrees) and baseline score."""

    d0: float
    d1: float
    theta: tuple[float, float]
    baseline: tuple[float, float]
    points: int
    percentiles: tuple[float, float]
    window: tuple[float, float]


def tornado(case: Scenario, ranges: Ranges, *, theta: float, baseline: float) -> list[Bar]:
    """The notes' bars, largest first.

    theta: d0 is scaled by cos θ / cos θ0, the slope fixed; baseline: d0 is shifted by (ρ - ρ0), the slope fixed
    (the notes' formula; a higher baseline should raise neither). s∞ is not in the formula.
    """
    d0, d1 = case.means
    rise = d1 - d0

    def with_slope(start: Array) -> Array:
        return critical_margin(start, start + rise, case.gammas)

    around = np.cos(np.radians(theta))
    models: dict[str, tuple[tuple[float, float], Callable[[Array], Array]]] = {
        "d0": ((d0 - ranges.d0, d0 + ranges.d0), lambda x: critical_margin(x, np.full_like(x, d1), case.gammas)),
        "d1": ((d1 - ranges.d1, d1 + ranges.d1), lambda x: critical_margin(np.full_like(x, d0), x, case.gammas)),
        "theta": (ranges.theta, lambda x: with_slope(d0 * np.cos(np.radians(x)) / around)),
        "baseline": (ranges.baseline, lambda x: with_slope(d0 + x - baseline)),
        "s_inf": ((0.0, 1.0), lambda x: with_slope(np.full_like(x, d0))),
    }
    bars = [_bar(name, ends, model, ranges) for name, (ends, model) in models.items()]
    return sorted(bars, key=lambda bar: -bar.range)


def two_arm_bars(case: Scenario) -> list[Bar]:
    """Each arm over ±1.96 of its error, the other fixed: the same yardstick for both. γ* is monotone in each."""
    bars = []
    for i, name in enumerate(("d0", "d1")):
        reach = 1.96 * case.errors[i]
        ends = [list(case.means), list(case.means)]
        ends[0][i], ends[1][i] = case.means[i] - reach, case.means[i] + reach
        low, high = sorted(float(critical_margin(pair[0], pair[1], case.gammas)) for pair in ends)
        bars.append(
            Bar(
                name=name, input_low=ends[0][i], input_high=ends[1][i], low=low, high=high, discarded=0.0,
                unfiltered=(low, high),
            )
        )  # fmt: skip
    return sorted(bars, key=lambda bar: -bar.range)


def _bar(name: str, ends: tuple[float, float], model: Callable[[Array], Array], ranges: Ranges) -> Bar:
    grid = np.linspace(*ends, ranges.points)
    stars = model(grid)
    kept = stars[(stars > ranges.window[0]) & (stars < ranges.window[1])]
    low, high = np.percentile(kept if kept.size else stars, ranges.percentiles)
    everything = np.percentile(stars, ranges.percentiles)
    return Bar(
        name=name, input_low=float(ends[0]), input_high=float(ends[1]), low=float(low), high=float(high),
        discarded=1 - kept.size / grid.size, unfiltered=(float(everything[0]), float(everything[1])),
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Sobol:
    """Shares of the variance of γ*: first order alone, total with all interactions; half-widths of 95 % intervals."""

    name: str
    inputs: tuple[str, ...]
    first: tuple[float, ...]
    first_half: tuple[float, ...]
    total: tuple[float, ...]
    total_half: tuple[float, ...]
    n: int

    @property
    def interactions(self) -> float:
        """1 - sum of the first-order shares."""
        return 1 - sum(self.first)


Distribution = tuple[str, float, float]
"""SALib's name (`norm`, `unif`, `lognorm`) and its two parameters."""


def sobol(
    name: str,
    model: Callable[[Array], Array],
    inputs: Mapping[str, Distribution],
    *,
    n: int = SOBOL_N,
    seed: int = 0,
) -> Sobol:
    """Sobol indices of `model` (rows of inputs -> values) by Saltelli's scheme. `n` is a power of two.

    Raises ValueError where a value is not finite: SALib 1.6.0 would then call every index 0, certain to the last digit.
    """
    from SALib.analyze import sobol as analyzer
    from SALib.sample import sobol as sampler

    problem = {
        "num_vars": len(inputs),
        "names": list(inputs),
        "bounds": [[a, b] for _, a, b in inputs.values()],
        "dists": [kind for kind, _, _ in inputs.values()],
    }
    rows = sampler.sample(problem, n, calc_second_order=False, seed=seed)
    values = finite(model(rows), f"the model over {len(rows)} sampled inputs")
    found = analyzer.analyze(problem, values, calc_second_order=False, num_resamples=50, seed=seed)

    def column(key: str) -> tuple[float, ...]:
        return tuple(float(x) for x in found[key])

    return Sobol(
        name=name, inputs=tuple(inputs), first=column("S1"), first_half=column("S1_conf"), total=column("ST"),
        total_half=column("ST_conf"), n=len(rows),
    )  # fmt: skip


def is_steep(case: Scenario) -> bool:
    """Whether the slope lies at least four errors from zero, so that samples of γ* have a finite variance."""
    return abs(case.means[1] - case.means[0]) >= 4 * float(np.hypot(*case.errors))


def sobol_of_arms(
    case: Scenario,
    *,
    name: str,
    decorative: Decorative | None = None,
    baseline: tuple[float, float] | None = None,
    seed: int,
) -> Sobol:
    """Indices of γ* under normal errors of both arms; s∞, θ and the baseline are sampled but do not enter."""
    inputs: dict[str, Distribution] = _arm_inputs(case)
    if decorative is not None:
        inputs["s_inf"] = ("lognorm", float(np.log(decorative.s_inf[0])), decorative.s_inf[1])
        inputs["theta"] = ("norm", *decorative.theta)
    if baseline is not None:
        inputs["baseline"] = ("unif", *baseline)
    return sobol(name, lambda rows: critical_margin(rows[:, 0], rows[:, 1], case.gammas), inputs, seed=seed)


def sobol_with_form(case: Scenario, *, exponents: tuple[float, float], seed: int) -> Sobol:
    """Indices of γ* when the shape between the arms is unknown: Δ grows as a power p of γ, p uniform."""
    span = case.gammas[1] - case.gammas[0]

    def model(rows: Array) -> Array:
        share = (critical_margin(rows[:, 0], rows[:, 1], case.gammas) - case.gammas[0]) / span
        return np.asarray(case.gammas[0] + span * np.clip(share, 0, None) ** (1 / rows[:, 2]), dtype=np.float64)

    inputs = _arm_inputs(case) | {"exponent": ("unif", *exponents)}
    return sobol("the shape of the curve unknown", model, inputs, seed=seed)


def _arm_inputs(case: Scenario) -> dict[str, Distribution]:
    return {"d0": ("norm", case.means[0], case.errors[0]), "d1": ("norm", case.means[1], case.errors[1])}
