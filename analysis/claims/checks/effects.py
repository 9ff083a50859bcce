"""Effect sizes and p values from published means, SDs and numbers of seeds."""

import math

from scipy import special

from analysis.claims.checks import params
from analysis.claims.claim import Claim
from analysis.claims.expression import rounding_range
from analysis.claims.inputs import Inputs
from analysis.claims.outcome import Challenge, Check
from analysis.stats.conventional import d_of_equal_groups, student_of_equal_groups, two_sided
from analysis.stats.effect_size import hedges_g_from_d
from analysis.stats.permutation import two_sample_floor

_REFERENCE = "Cohen 1988; Hedges 1981; Welch 1947; Pitman 1937"


def _groups(
    inputs: Inputs, claim: Claim, comparison: str | None = None
) -> tuple[list[float], list[float], int, tuple[str, ...]]:
    """Means and SDs (a, sd a, b, sd b), halves of their last digits, n, keys."""
    names = params.names(claim, "of") if comparison is None else [part.strip() for part in comparison.split("-vs-")]
    figures = [inputs.figure(f"{name}/{part}") for name in names for part in ("mean", "sd")]
    n = min(figure.n or 2 for figure in figures)
    n = params.whole(claim, "n", str(n))
    return [f.value for f in figures], [f.half for f in figures], n, tuple(f.key for f in figures)


def d_of(values: list[float]) -> float:
    """Cohen's d of two groups of equal size: difference over pooled SD."""
    mean_a, sd_a, mean_b, sd_b = values
    return d_of_equal_groups(mean_a - mean_b, sd_a, sd_b)


def student(values: list[float], n: int) -> float:
    """Two-sided Student's p of two groups of n."""
    return student_of_equal_groups(d_of(values), n)


def welch(values: list[float], n: int) -> float:
    """Two-sided Welch's p of two groups of n (the same t, other degrees of freedom)."""
    a, b = values[1] ** 2, values[3] ** 2
    df = (n - 1) * (a + b) ** 2 / (a * a + b * b)
    return two_sided(d_of(values) * math.sqrt(n / 2), df)


def cohens_d(inputs: Inputs, claim: Claim) -> Check:
    """d between `of=A, B` (keys A/mean, A/sd ...), with Hedges' g and its interval beside it."""
    values, halves, n, keys = _groups(inputs, claim)
    low, d, high = rounding_range(lambda x: d_of(list(x)), values, halves)
    g = hedges_g_from_d(claim.value, n, n)
    numbers = {
        "Hedges' g of the printed d": g.value or 0.0,
        "g low": g.low or 0.0,
        "g high": g.high or 0.0,
        "n": float(n),
    }
    return Check(
        value=d, low=low, high=high, inputs=keys, numbers=numbers, method="difference over pooled SD, equal n",
        remarks=(f"With {n} seeds a group Hedges' g is {g.value:.3g} [{g.low:.3g}, {g.high:.3g}] (95 %).",),
        reference=_REFERENCE,
    )  # fmt: skip


def student_p(inputs: Inputs, claim: Claim) -> Check:
    """Student's p between `of=A, B`, with Welch's and the floor of the exact permutation test."""
    values, halves, n, keys = _groups(inputs, claim)
    low, p, high = rounding_range(lambda x: student(list(x), n), values, halves)
    five = student(values, 5)
    floor = two_sample_floor(n, n)
    numbers = {"Welch p": welch(values, n), "smallest exact p": floor, "n": float(n), "p at n = 5": five}
    return Check(
        value=p, low=low, high=high, inputs=keys, numbers=numbers, method=f"Student's t, {n} a group",
        remarks=(
            f"At {n} a group; Welch gives {numbers['Welch p']:.2g}, and an exact permutation test cannot go below "
            f"{floor:.2g}.",
            *((f"Five seeds a group would give {five:.1g}.",) if n != 5 else ()),
        ),
        reference=_REFERENCE,
    )  # fmt: skip


def largest_p(inputs: Inputs, claim: Claim) -> Check:
    """The largest p over `of=A-vs-B, C-vs-D ...`: of Student's, Welch's and the smallest possible exact p."""
    found: dict[str, float] = {}
    keys: list[str] = []
    for comparison in params.names(claim, "of"):
        values, _, n, used = _groups(inputs, claim, comparison)
        keys += used
        found[f"{comparison}: Student"] = student(values, n)
        found[f"{comparison}: Welch"] = welch(values, n)
        found[f"{comparison}: smallest exact p"] = two_sample_floor(n, n)
    worst = max(found, key=lambda name: found[name])
    formulas = {name: p for name, p in found.items() if "exact" not in name}
    largest = max(formulas, key=lambda name: formulas[name])
    return Check(
        value=found[worst], numbers=found, inputs=tuple(dict.fromkeys(keys)), method="all tests of every comparison",
        remarks=(
            f"Largest p of a formula: {found[largest]:.2g} ({largest}); of an exact test: "
            f"{found[worst]:.2g} ({worst}).",
        ),
        reference=_REFERENCE,
    )  # fmt: skip


def difference(inputs: Inputs, claim: Claim) -> Challenge:
    """Whether `versus=A, B` differ at all, by Student's test."""
    values, _, n, keys = _groups(inputs, claim, "-vs-".join(params.names(claim, "versus")))
    p = student(values, n)
    t = float(special.stdtrit(2 * n - 2, 0.975)) * math.sqrt((values[1] ** 2 + values[3] ** 2) / n)
    gap = values[0] - values[2]
    return Challenge(
        fails=p > 0.05,
        text=(
            f"The difference {gap:+.3f} has p {p:.2g} with {n} seeds a group (95 % interval {gap - t:+.3f} to "
            f"{gap + t:+.3f}; smallest exact p {two_sample_floor(n, n):.2g})."
        ),
        numbers={"p of the difference": p, "difference low": gap - t, "difference high": gap + t},
        inputs=keys,
    )
