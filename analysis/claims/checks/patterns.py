"""The anomaly patterns: rank correlations of five seeds, pooled spreads, distances, residuals, empty statistics."""

import math
import random

import numpy as np
from scipy import special

from analysis.claims.checks import params
from analysis.claims.claim import Claim
from analysis.claims.expression import rounding_range
from analysis.claims.inputs import Inputs
from analysis.claims.outcome import Challenge, Check
from analysis.stats.permutation import all_orders, spearman_test
from analysis.stats.results import Array


def spearman(inputs: Inputs, claim: Claim) -> Check:
    """Spearman's rho of `behaviors` over the seeds of `series` at `gamma` and `weight`."""
    a, b = (
        inputs.arm(params.text(claim, "series"), params.number(claim, "gamma"), params.number(claim, "weight"), name)
        for name in params.names(claim, "behaviors")
    )
    first, second = a.values or {}, b.values or {}
    seeds = [seed for seed in first if seed in second]
    test = spearman_test([first[s] for s in seeds], [second[s] for s in seeds], inputs.rng())
    return Check(
        value=test.statistic, method=test.method, inputs=(*a.inputs, *b.inputs),
        numbers={"exact p": test.p or 1.0, "n": float(test.n)}, remarks=(f"Exact p {test.p:.4f} with {test.n} seeds.",),
    )  # fmt: skip


def _null(n: int) -> Array:
    """All values of Spearman's rho of n ranks."""
    ranks = np.arange(n) - (n - 1) / 2
    return np.asarray((all_orders(n) - (n - 1) / 2) @ ranks / (ranks @ ranks), dtype=np.float64)


def _t_approximation(rho: float, n: int) -> float:
    return 2 * float(special.stdtr(n - 2, -abs(rho) * math.sqrt((n - 2) / max(1e-12, 1 - rho * rho))))


def spearman_p(inputs: Inputs, claim: Claim) -> Check:
    """Two-sided exact p of a rank correlation `rho` of `n` values."""
    given, n = params.formula(inputs, claim, "rho"), params.whole(claim, "n")
    rho = given.value
    null = np.abs(_null(n))
    p, floor = float((null >= abs(rho) - 1e-9).mean()), float((null >= 1 - 1e-9).mean())
    approximation = _t_approximation(rho, n)
    return Check(
        value=p, method=f"all {null.size} orders of {n} values", inputs=given.keys,
        numbers={"t approximation": approximation, "smallest p": floor},
        remarks=(
            f"The exact p of |ρ| >= {abs(rho):g} is {p:.4f}; {approximation:.3f} is the t "
            "approximation, which does not hold "
            f"for {n} values (the smallest exact p is {floor:.4f}).",
        ),
        reference="Pitman 1937; Best & Roberts 1975",
    )  # fmt: skip


def coupling_change(inputs: Inputs, claim: Claim) -> Check:
    """p of `first` minus `second`, rank correlations of `n` values each: Fisher's z, variance 1.06 / (n - 3)."""
    given = [params.formula(inputs, claim, name) for name in ("first", "second")]
    first, second = (one.value for one in given)
    n = params.whole(claim, "n")
    z = (math.atanh(first) - math.atanh(second)) / math.sqrt(2 * 1.06 / (n - 3))
    p = 2 * float(special.ndtr(-abs(z)))
    reach = 1.959964 * math.sqrt(1.06 / (n - 3))
    ends = math.tanh(math.atanh(first) - reach), math.tanh(math.atanh(first) + reach)
    return Check(
        value=p, method="Fisher's z", inputs=(*given[0].keys, *given[1].keys),
        numbers={"z": z, "low": ends[0], "high": ends[1]},
        remarks=(
            f"ρ {first:g} and ρ {second:g} of {n} seeds each differ with p {p:.2f}; {first:g} alone is known to "
            f"[{ends[0]:.2f}, {ends[1]:.2f}].",
        ),
        reference="Fieller, Hartley & Pearson 1957",
    )  # fmt: skip


def looks(inputs: Inputs, claim: Claim) -> Challenge:
    """Hits of this size that chance gives over `looks` correlations of `n` values."""
    rho, n = params.formula(inputs, claim, "rho").value, params.whole(claim, "n")
    count = params.whole(claim, "looks")
    p = float((np.abs(_null(n)) >= abs(rho) - 1e-9).mean())
    two = 1 - (1 - p) ** count - count * p * (1 - p) ** (count - 1)
    return Challenge(
        fails=count * p > 1,
        text=(
            f"Over {count} correlations chance alone gives {count * p:.1f} of this size (two or more with probability "
            f"{two:.2f})."
        ),
        numbers={"expected hits": count * p, "P(two or more)": two},
    )


def spread_ratio(inputs: Inputs, claim: Claim) -> Check:
    """SD of the first of `behaviors` over that of the second at `weight`, margins apart; and pooled."""
    names, weight = params.names(claim, "behaviors"), params.number(claim, "weight")
    gamma = inputs.value("operating/gamma")
    arms = [inputs.arm("sweep", gamma, weight, name) for name in names]
    zero = [inputs.arm("no-margin", 0.0, weight, name) for name in names]
    sds = [arm.sd or math.nan for arm in arms]
    halves = [max(inputs.figures[key].half for key in arm.inputs if key.endswith("sd")) * math.sqrt(arm.n / (arm.n - 1))
              for arm in arms]  # fmt: skip
    low, value, high = rounding_range(lambda x: x[0] / x[1], sds, halves)
    pooled = [float(np.std([*arm.sample(), *other.sample()], ddof=1)) for arm, other in zip(arms, zero, strict=True)]
    return Check(
        value=value, low=low, high=high, inputs=tuple(key for arm in (*arms, *zero) for key in arm.inputs),
        method="SDs over seeds at one margin",
        numbers={"pooled over γ 0 and 0.1": pooled[0] / pooled[1],
                 f"SD of {names[0]}": sds[0], f"SD of {names[1]}": sds[1],
                 f"pooled SD of {names[0]}": pooled[0], f"pooled SD of {names[1]}": pooled[1],
                 "variance ratio": value**2},
        remarks=(
            f"Within γ {gamma:g} the SDs are {sds[0]:.4f} and {sds[1]:.5f}, ratio {value:.1f}; pooled "
            "with the runs at γ 0, "
            f"whose mean differs, {pooled[0]:.4f} and {pooled[1]:.5f}, ratio "
            f"{pooled[0] / pooled[1]:.1f}. Both are ratios "
            f"of SDs; of variances it is {value**2:.0f}.",
        ),
    )  # fmt: skip


def arm_sd(inputs: Inputs, claim: Claim) -> Check:
    """SD over seeds (n - 1) of the cell `arm=series, gamma, weight, behavior`."""
    series, gamma, weight, behavior = params.names(claim, "arm")
    arm = inputs.arm(series, float(gamma), float(weight), behavior)
    sd = arm.sd or 0.0
    growth = math.sqrt(arm.n / (arm.n - 1))
    half = max((inputs.figures[key].half for key in arm.inputs), default=0.0) * growth
    return Check(
        value=sd, low=sd - half - 1e-12, high=sd + half, inputs=arm.inputs, restates=arm.values is None,
        method="SD over seeds, divisor n - 1",
        numbers={"with divisor n": sd / growth, "n": float(arm.n)},
    )  # fmt: skip


def _centroids(inputs: Inputs, conditions: list[str]) -> tuple[list[list[float]], list[str], tuple[str, ...]]:
    """Published means of conditions over the behaviors that all have."""
    found = {name: inputs.below(f"ablation/{name}/") for name in conditions}
    for name, means in found.items():
        if not means:
            inputs.figure(f"ablation/{name}/factual")
    behaviors = [b for b in found[conditions[0]] if all(b in means for means in found.values())]
    keys = tuple(f"ablation/{name}/{b}" for name in conditions for b in behaviors)
    return [[found[name][b] for b in behaviors] for name in conditions], behaviors, keys


def distance(inputs: Inputs, claim: Claim) -> Check:
    """Distance of two `conditions` in the behaviors published for both: with more dimensions it can only grow."""
    conditions = params.names(claim, "conditions")
    (a, b), behaviors, keys = _centroids(inputs, conditions)
    halves = [inputs.figures[key].half for key in keys]

    def apart(x: "list[float]") -> float:
        return math.dist(x[: len(a)], x[len(a) :])

    low, value, _ = rounding_range(lambda x: apart(list(x)), [*a, *b], halves)
    impossible = ""
    if low > claim.value + (claim.precision or 0.0) / 2:
        impossible = (
            f"In {', '.join(behaviors)} alone the published means are {value:.4f} apart (at least {low:.4f} with their "
            f"rounding): a distance with more behaviors cannot be {claim.printed}."
        )
    return Check(
        value=None, impossible=impossible, inputs=keys, method="Euclidean distance of the published means",
        needs=params.text(claim, "needs"), numbers={"lower bound": value, "lower bound, rounding": low},
        remarks=() if impossible else (f"Possible: in {len(behaviors)} behaviors the means are {value:.4f} apart.",),
    )  # fmt: skip


def explained(inputs: Inputs, claim: Claim) -> Check:
    """Variance of the conditions' means that two components explain; that of the runs was not published."""
    centres, _behaviors, keys = _centroids(inputs, params.names(claim, "conditions"))
    table = np.array(centres)
    squares = np.linalg.svd(table - table.mean(axis=0), compute_uv=False) ** 2
    share = 100 * float(squares[:2].sum() / squares.sum())
    return Check(
        value=None, needs=params.text(claim, "needs"), inputs=keys, method="principal components of the means",
        numbers={"two components of the means, %": share},
        remarks=(f"Of the four means two components explain {share:.2f} %: four points span three dimensions.",),
    )  # fmt: skip


def unscaled(inputs: Inputs, claim: Claim) -> Challenge:
    """Share of the variance between conditions that each behavior has without scaling, and distances in SDs."""
    conditions = ["sft-only", "rho-guided", "contrastive-only", "shuffled-pairs"]
    centres, behaviors, keys = _centroids(inputs, conditions)
    variances = dict(zip(behaviors, np.var(np.array(centres), axis=0), strict=True))
    total = sum(variances.values())
    top = sorted(variances, key=lambda name: -variances[name])[:2]
    share = sum(variances[name] for name in top) / total
    apart = {}
    for behavior in ("toxicity", "bias"):
        gap = inputs.value(f"ablation/contrastive-only/{behavior}") - inputs.value(f"ablation/rho-guided/{behavior}")
        apart[behavior] = gap / (inputs.arm("dose", 0.1, 0.2, behavior).sd or math.nan)
    return Challenge(
        fails=share > 0.95,
        text=(
            f"Unscaled, {top[0]} and {top[1]} hold {100 * share:.1f} % of the variance. In SDs over "
            "seeds contrastive-only "
            f"lies {apart['toxicity']:+.1f} (toxicity) and {apart['bias']:+.1f} (bias) from rho-guided: not the same."
        ),
        numbers={"share of the two largest": float(share), **{f"{b} in SD": x for b, x in apart.items()}}, inputs=keys,
    )  # fmt: skip


def z_score(inputs: Inputs, claim: Claim) -> Check:
    """(value - mean) / SD of the published extreme of `behavior` at λ `weight`."""
    behavior, weight = params.text(claim, "behavior"), params.number(claim, "weight")
    arm, extreme = (
        inputs.arm("sweep", inputs.value("operating/gamma"), weight, behavior),
        inputs.figure(f"extreme/{behavior}"),
    )
    growth = math.sqrt(arm.n / (arm.n - 1))
    half = max(inputs.figures[key].half for key in arm.inputs)
    low, value, high = rounding_range(
        lambda x: (x[0] - x[1]) / x[2],
        [extreme.value, arm.mean, arm.sd or math.nan],
        [extreme.half, half, half * growth],
    )
    return Check(
        value=value,
        low=low,
        high=high,
        inputs=(extreme.key, *arm.inputs),
        method="distance from the mean in SDs (n - 1)",
    )


def z_bound(inputs: Inputs, claim: Claim) -> Challenge:
    """|z| of one of n values, itself in mean and SD, is at most (n - 1) / sqrt(n)."""
    n, limit = params.whole(claim, "n"), params.number(claim, "limit")
    bound = (n - 1) / math.sqrt(n)
    return Challenge(
        fails=bound < limit,
        text=f"With {n} values |z| cannot exceed {bound:.3f}: a limit of {limit:g} can never be passed.",
        numbers={"largest possible z": bound},
    )


def swaps(seed: int, count: int) -> list[bool]:
    """Which of `count` pairs the origin swaps at every step: it makes its generator anew from the seed each time."""
    generator = random.Random(seed)
    return [generator.random() < 0.5 for _ in range(count)]


def shuffles(inputs: Inputs, claim: Claim) -> Challenge:
    """Swapped pairs by seed: the shuffled control should swap alike in all seeds."""
    count = int(inputs.value("training/pairs_per_step"))
    seeds = [int(seed) for seed in params.names(claim, "seeds")]
    found = {seed: sum(swaps(seed, count)) for seed in seeds}
    listed = ", ".join(f"{seed} {swap}/{count}" for seed, swap in found.items())
    rows, columns = len(params.names(claim, "conditions")), len(seeds)
    shrink = (1 - 1 / rows) * (1 - 1 / columns)
    deviation = claim.value / shrink
    return Challenge(
        fails=len(set(found.values())) > 1,
        text=(
            "The generator is made anew at every step, so that each seed swaps the same positions "
            f"throughout ({listed}): "
            f"seeds are different treatments. A residual of {claim.value:g} is a cell "
            f"{deviation:+.2f} off, as additive "
            f"fitting of {rows} x {columns} cells keeps {shrink:.1f} of it."
        ),
        numbers={
            "deviation of the cell": deviation,
            **{f"swapped, seed {seed}": float(s) for seed, s in found.items()},
        },
        inputs=("training/pairs_per_step",),
    )


def f_test(inputs: Inputs, claim: Claim) -> Check:
    """p of the printed F for each of the degrees of freedom `df=2:16, ...` that its runs may have had."""
    found = {}
    for pair in params.names(claim, "df"):
        above, below = (int(part) for part in pair.split(":"))
        found[f"p at df {above}, {below}"] = float(special.fdtrc(above, below, claim.value))
    low, high = min(found.values()), max(found.values())
    return Check(
        value=None, needs=params.text(claim, "needs"), numbers=found, method="F distribution",
        remarks=(f"For the degrees of freedom that are possible p lies between {low:.3f} and {high:.3f}.",),
    )  # fmt: skip


def steering_peak(inputs: Inputs, claim: Claim) -> Challenge:
    """Is the published change of bias at its peak layer an improvement, and is that layer the last?"""
    changes = {int(layer): value for layer, value in inputs.below("steering/mistral/bias/").items()}
    layers = int(inputs.value("steering/mistral/layers"))
    peak = max(changes, key=lambda layer: abs(changes[layer]))
    listed = ", ".join(f"L{layer} {value:+.3f}" for layer, value in changes.items())
    return Challenge(
        fails=changes[peak] < 0,
        text=(
            f"The sweep steers along one (sycophancy) vector; the bias 'peak' at L{peak} is the worst "
            f"damage ({listed}), "
            f"and of {layers} layers the last is L{layers - 1}."
        ),
        numbers={f"bias at L{layer}": value for layer, value in changes.items()},
        inputs=tuple(key for key in inputs.figures if key.startswith("steering/mistral/")),
    )


def one_cell(inputs: Inputs, claim: Claim) -> Challenge:
    """With one value a spread is zero whatever the value: the SD of random data, reduced the same way."""
    count = int(inputs.value(params.text(claim, "count")))
    draws = inputs.rng().normal(size=(1000, count))
    always = bool((draws.std(axis=1) == 0).all())
    what = inputs.claims_of[params.text(claim, "count")]
    return Challenge(
        fails=always,
        text=f"The spread is that of {count} value ({what}): on random numbers it is 0 in 1000 of 1000 draws, too."
        if always
        else f"The spread rests on {count} values.",
        numbers={"values": float(count)},
        inputs=(params.text(claim, "count"),),
    )
