"""Checks of single figures: arithmetic, several sources, and what counts and ranges allow."""

import math

from analysis.claims.checks import params
from analysis.claims.claim import Claim
from analysis.claims.expression import Evaluated, MissingInputError
from analysis.claims.inputs import Inputs
from analysis.claims.outcome import Check

GRIM = "Brown & Heathers 2017 (GRIM)"


def expression(inputs: Inputs, claim: Claim) -> Check:
    """`expr` over published figures; their rounding is carried through."""
    found = params.formula(inputs, claim, "expr")
    return Check(
        value=found.value,
        low=found.low,
        high=found.high,
        method=params.text(claim, "expr"),
        inputs=found.keys,
        restates=found.restates,
    )


def sources(inputs: Inputs, claim: Claim) -> Check:
    """Every parameter is an expression for the same figure; the one that differs most from the printed decides.

    Sources that were not published are left out; at least one has to be there.
    """
    found: dict[str, Evaluated] = {}
    absent = []
    for name, text in claim.parameters.items():
        if name == "needs":
            continue
        try:
            found[name.replace("_", " ")] = inputs.evaluate(text)
        except MissingInputError as error:
            absent.append(error.needs)
    if not found:
        raise MissingInputError("; ".join(absent))

    def miss(one: Evaluated) -> float:
        """Distance of the printed figure from what rounding leaves open."""
        return max(one.low - claim.value, claim.value - one.high, 0.0)

    worst = max(found.values(), key=lambda one: (miss(one), abs(one.value - claim.value)))
    half = (claim.precision or 0.0) / 2 + 1e-9
    agree = [name for name, one in found.items() if miss(one) <= half]
    differ = [f"{name} gives {one.value:.4g}" for name, one in found.items() if miss(one) > half]
    remarks = [f"The same figure elsewhere: {', '.join(differ)}."] if differ else []
    if agree:
        remarks.append(f"It agrees with: {', '.join(agree)}.")
    return Check(
        value=worst.value, low=worst.low, high=worst.high, method="; ".join(claim.parameters.values()),
        inputs=tuple(dict.fromkeys(key for one in found.values() for key in one.keys)),
        numbers={name: one.value for name, one in found.items()}, remarks=tuple(remarks),
        restates=all(one.restates for one in found.values()),
    )  # fmt: skip


def sd_of_range(inputs: Inputs, claim: Claim) -> Check:
    """n values with a range (`span`, or `lowest` and `highest`) have an SD between range/sqrt(2(n-1)) and its largest,

    half the values at each end.
    """
    if "span" in claim.parameters:
        ends = [params.formula(inputs, claim, "span")]
        span, middle = (ends[0].low, ends[0].high), ends[0].value
    else:
        ends = [params.formula(inputs, claim, end) for end in ("lowest", "highest")]
        span, middle = (ends[1].low - ends[0].high, ends[1].high - ends[0].low), ends[1].value - ends[0].value
    sd, n = params.formula(inputs, claim, "sd"), params.whole(claim, "n")
    smallest = span[0] / math.sqrt(2 * (n - 1))
    largest = span[1] * math.sqrt((n // 2) * (n - n // 2) / n / (n - 1))
    numbers = {"smallest SD": smallest, "largest SD": largest, "printed SD": sd.value}
    fits = sd.high >= smallest and sd.low <= largest
    sentence = (
        f"{n} values with a range of {middle:.4g} have an SD between {smallest:.4g} and {largest:.4g}; "
        f"{sd.value:.4g} is printed."
    )
    return Check(
        value=None, needs=params.text(claim, "needs"), impossible="" if fits else sentence,
        remarks=(sentence,) if fits else (), numbers=numbers,
        inputs=(*(key for end in ends for key in end.keys), *sd.keys),
        method="SDs that a range and n allow",
    )  # fmt: skip


def grim(inputs: Inputs, claim: Claim) -> Check:
    """Whether some whole k of `n` rounds to the printed share (in units of `scale`, e.g. 100 for per cent)."""
    total, scale = params.formula(inputs, claim, "n"), params.number(claim, "scale", "1")
    n = round(total.value)
    k = round(claim.value / scale * n)
    share = k / n * scale
    fits = abs(share - claim.value) <= (claim.precision or 0.0) / 2 * (1 + 1e-9) + 1e-12
    return Check(
        value=None, needs=params.text(claim, "needs"), numbers={"k": float(k), "n": float(n), "k/n": share},
        impossible="" if fits else f"No count out of {n} rounds to {claim.printed}; {k}/{n} is {share:.4g}.",
        remarks=(f"{k} of {n} rounds to it.",) if fits else (), inputs=total.keys, method="counts out of n",
        reference=GRIM,
    )  # fmt: skip


def rank_step(inputs: Inputs, claim: Claim) -> Check:
    """Spearman's rho of n ranks without ties is 1 - 6 D / (n (n² - 1)) with an even D."""
    n = params.whole(claim, "n")
    step = 12 / (n * (n * n - 1))
    nearest = 1 - round((1 - claim.value) / step) * step
    fits = abs(nearest - claim.value) <= (claim.precision or 0.0) / 2 + 1e-9
    return Check(
        value=None, needs=params.text(claim, "needs"), numbers={"step": step, "nearest": nearest},
        impossible="" if fits else f"{n} values without ties cannot give {claim.printed}, but {nearest:.4g}.",
        remarks=(f"Attainable with {n} values: rho moves in steps of {step:.3g}.",) if fits else (),
        method="attainable rank correlations",
    )  # fmt: skip
