"""Dose-response: monotony, linearity, slopes, and the seeds behind the means."""

import math
from itertools import combinations

import numpy as np
from scipy import special

from analysis.claims.checks import params
from analysis.claims.claim import Claim
from analysis.claims.expression import rounding_range
from analysis.claims.inputs import Inputs
from analysis.claims.outcome import Challenge, Check
from analysis.stats.permutation import all_orders
from analysis.stats.results import Array
from analysis.stats.twoway import additive


def _points(inputs: Inputs, claim: Claim) -> tuple[Array, Array, list[float], tuple[str, ...]]:
    """Doses, means, halves of the means' last digits, keys of `series` and `behavior`."""
    arms = inputs.doses(params.text(claim, "series"), params.text(claim, "behavior"))
    halves = [max((inputs.figures[key].half for key in arm.inputs if "sd" not in key.rsplit("/", 1)[1]), default=0.0)
              for arm in arms]  # fmt: skip
    keys = tuple(key for arm in arms for key in arm.inputs)
    return np.array([a.weight for a in arms]), np.array([a.mean for a in arms]), halves, keys


def page_trend(table: Array) -> tuple[float, float]:
    """Page's L of seeds x doses (ranks within a seed) and its exact one-sided p (Page 1963)."""
    ranks = np.argsort(np.argsort(table, axis=1), axis=1) + 1
    doses = np.arange(1, table.shape[1] + 1)
    seen = int((ranks @ doses).sum())
    one = np.bincount((all_orders(doses.size) + 1) @ doses).astype(np.float64)
    null = np.array([1.0])
    for _ in range(len(table)):
        null = np.convolve(null, one)
    return float(seen), float(null[seen:].sum() / null.sum())


def monotone(inputs: Inputs, claim: Claim) -> Check:
    """The smallest step from one dose's mean to the next; positive means monotone."""
    _, means, halves, keys = _points(inputs, claim)
    low, value, high = rounding_range(lambda x: float(np.diff(x).min()), list(means), halves)
    remarks, numbers = [], {}
    arms = inputs.doses(params.text(claim, "series"), params.text(claim, "behavior"))
    values = [list(arm.values.values()) for arm in arms if arm.values]
    if len(values) == len(arms) and len({len(v) for v in values}) == 1:
        statistic, p = page_trend(np.array(values).T)
        numbers = {"Page's L": statistic, "exact p": p}
        remarks.append(f"Page's trend test over seeds: L {statistic:g}, exact p {p:.4f}.")
    return Check(value=value, low=low, high=high, inputs=keys, numbers=numbers, method="smallest step between doses",
                 remarks=tuple(remarks), reference="Page 1963")  # fmt: skip


def _r2(x: Array, y: Array) -> float:
    return float(np.corrcoef(x, y)[0, 1] ** 2)


def _segments(x: Array, y: Array) -> Array:
    return np.asarray(np.diff(y) / np.diff(x), dtype=np.float64)


def linear_r2(inputs: Inputs, claim: Claim) -> Check:
    """R² of a straight line, minus that of a line in sqrt(λ): positive where λ itself describes the means better."""
    x, y, _, keys = _points(inputs, claim)
    straight, root = _r2(x, y), _r2(np.sqrt(x), y)
    steps = _segments(x, y)
    return Check(
        value=straight - root, inputs=keys, method="R² of Δ on λ minus R² of Δ on sqrt(λ)",
        numbers={"R² of λ": straight, "R² of sqrt(λ)": root, "first slope": float(steps[0]),
                 "last slope": float(steps[-1])},
        remarks=(
            f"A line in λ has R² {straight:.3f}, one in sqrt(λ) {root:.3f}; the slope falls from {steps[0]:.2f} to "
            f"{steps[-1]:.2f}.",
        ),
    )  # fmt: skip


def slope_above(inputs: Inputs, claim: Claim) -> Check:
    """Slope from dose `at` to the last over the slope from the first dose to `at`: below 1 where returns diminish."""
    x, y, halves, keys = _points(inputs, claim)
    place = int(np.flatnonzero(np.isclose(x, params.number(claim, "at")))[0])

    def ratio(means: "list[float] | Array") -> float:
        above = (means[-1] - means[place]) / (x[-1] - x[place])
        return float(above / ((means[place] - means[0]) / (x[place] - x[0])))

    low, value, high = rounding_range(lambda m: ratio(list(m)), list(y), halves)
    steps = _segments(x, y)
    return Check(
        value=value, low=low, high=high, inputs=keys, method="slope above over slope below",
        remarks=(f"Slopes from dose to dose: {', '.join(f'{step:.3g}' for step in steps)} per unit of λ.",),
        numbers={f"slope to λ {end:g}": float(step) for end, step in zip(x[1:], steps, strict=True)},
    )  # fmt: skip


def ols_slope(inputs: Inputs, claim: Claim) -> Check:
    """Least-squares slope over the doses' means."""
    x, y, halves, keys = _points(inputs, claim)
    low, value, high = rounding_range(lambda m: float(np.polyfit(x, m, 1)[0]), list(y), halves)
    return Check(value=value, low=low, high=high, inputs=keys, method="least squares over the doses' means")


def _ratios(inputs: Inputs, claim: Claim) -> tuple[dict[str, tuple[float, float, float]], tuple[str, ...]]:
    """Ratio of slopes `above` / `below` of each of `behaviors`, with the range that rounding leaves open."""
    found, keys = {}, []
    for behavior in params.names(claim, "behaviors"):
        pair = [inputs.figure(f"slope/{params.text(claim, side)}/{behavior}") for side in ("above", "below")]
        found[behavior] = rounding_range(lambda x: x[0] / x[1], [f.value for f in pair], [f.half for f in pair])
        keys += [f.key for f in pair]
    return found, tuple(keys)


def ratio_deviation(inputs: Inputs, claim: Claim) -> Check:
    """Largest |ratio - 1|."""
    found, keys = _ratios(inputs, claim)
    worst = max(found, key=lambda name: abs(found[name][1] - 1))
    low, value, high = found[worst]
    ends = sorted(abs(end - 1) for end in (low, high))
    listed = ", ".join(f"{name} {ratio[1]:.3f}" for name, ratio in found.items())
    return Check(
        value=abs(value - 1), low=ends[0], high=ends[1], inputs=keys, method="largest deviation of a ratio from 1",
        numbers={name: ratio[1] for name, ratio in found.items()},
        remarks=(f"Ratios: {listed}; the farthest from 1 is {worst}. No slope was printed with an error.",),
    )  # fmt: skip


def closest_ratio(inputs: Inputs, claim: Claim) -> Check:
    """How many behaviors' ratios lie closer to 1 than that of `behavior`, as printed or recomputed."""
    found, keys = _ratios(inputs, claim)
    one = params.text(claim, "behavior")
    printed = {name: inputs.figure(f"slope/ratio/{name}").value for name in found}
    closer = [name for name in printed if abs(printed[name] - 1) < abs(printed[one] - 1) - 1e-12]
    return Check(
        value=float(len(closer)), method="printed ratios by their distance from 1",
        inputs=(*keys, *(f"slope/ratio/{name}" for name in printed)), numbers=printed,
        remarks=tuple(f"{name} is closer to 1: {printed[name]:g} against {printed[one]:g}." for name in closer),
    )  # fmt: skip


def _table(inputs: Inputs) -> tuple[Array, list[int], tuple[str, ...]]:
    """Seeds x doses of factual Δ."""
    arms = inputs.doses("pattern3", "factual")
    seeds = list(arms[0].values or {})
    table = np.array([[(arm.values or {})[seed] for arm in arms] for seed in seeds])
    return table, seeds, tuple(key for arm in arms for key in arm.inputs)


def seed_pattern(inputs: Inputs, claim: Claim) -> Check:
    """Seeds by `pattern`: monotone, non-monotone, or dip (down from the first to the second dose, up to the third)."""
    table, seeds, keys = _table(inputs)
    steps = np.diff(table, axis=1)
    rising = (steps >= 0).all(axis=1)
    dip = (steps[:, 0] < 0) & (steps[:, 1] > 0)
    later = steps[:, 1] < 0
    chosen = {"monotone": rising, "non-monotone": ~rising, "dip": dip}[params.text(claim, "pattern")]
    return Check(
        value=float(chosen.sum()), inputs=keys, method="signs of the steps from dose to dose",
        numbers={"monotone": float(rising.sum()), "dips": float(dip.sum()), "second step down": float(later.sum())},
        remarks=(
            f"First step down, second up: seeds {_listed(seeds, dip)}; second step down: seeds "
            f"{_listed(seeds, later)}; "
            f"monotone: seeds {_listed(seeds, rising)}.",
        ),
    )  # fmt: skip


def _listed(seeds: list[int], chosen: "np.typing.ArrayLike") -> str:
    return ", ".join(str(seed) for seed, yes in zip(seeds, np.atleast_1d(chosen), strict=True) if yes) or "none"


def seed_subset(inputs: Inputs, claim: Claim) -> Check:
    """Size of the largest set of seeds whose values at λ `weight` have the dose table's printed mean and SD."""
    weight = params.number(claim, "weight")
    arm, printed = inputs.arm("pattern3", 0.1, weight, "factual"), inputs.arm("dose", 0.1, weight, "factual")
    values = dict(arm.values or {})
    half = max(inputs.figures[key].half for key in printed.inputs) + max(inputs.figures[key].half for key in arm.inputs)
    fits = [
        seeds
        for size in range(len(values), 1, -1)
        for seeds in combinations(values, size)
        if abs(np.mean([values[s] for s in seeds]) - printed.mean) <= half
        and abs(np.std([values[s] for s in seeds], ddof=1) - (printed.sd or 0.0)) <= half
    ]
    sets = sum(math.comb(len(values), size) for size in range(2, len(values) + 1))
    return Check(
        value=float(len(fits[0])) if fits else None, needs="the seeds behind the row",
        inputs=(*arm.inputs, *printed.inputs),
        method="all sets of two seeds or more of the per-seed table", numbers={"sets that fit": float(len(fits))},
        remarks=tuple(
            f"Of {sets} sets of seeds only {', '.join(map(str, seeds))} have the printed mean {printed.mean:g} and SD "
            f"{printed.sd:g}: the row mixes experiments with different seeds."
            for seeds in fits[:1] if len(seeds) < len(values)
        ),
    )  # fmt: skip


def regression(inputs: Inputs, claim: Claim) -> Challenge:
    """Regression to the mean needs runs that share something: is there a seed effect, and what would chance give?"""
    table, _, keys = _table(inputs)
    n, doses = table.shape
    fit = additive(table)
    residual = fit.ss / fit.df
    mean_square = doses * float(table.mean(axis=1).var(ddof=1))
    f = mean_square / residual
    p, icc = float(special.fdtrc(n - 1, fit.df, f)), (mean_square - residual) / (mean_square + (doses - 1) * residual)
    first, second = table[:, 0], table[:, 1]
    seen = float(np.corrcoef(first, second - first)[0, 1])
    sds = first.std(ddof=1), second.std(ddof=1)
    alone = -sds[0] / math.hypot(*sds)
    return Challenge(
        fails=p > 0.05,
        text=(
            f"Nothing is shared that could regress: over the doses a seed explains nothing (F {f:.2f}, p {p:.2f}, ICC "
            f"{icc:.3f}). Start and change correlate by {seen:.2f}; runs independent of each other "
            f"would give {alone:.2f}."
        ),
        numbers={"F of seeds": f, "p of seeds": p, "ICC": icc, "correlation": seen, "if independent": float(alone)},
        inputs=keys,
    )
