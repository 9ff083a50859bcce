"""Refusal rates: counts, paired and unpaired comparisons, and what zero of n means."""

import math

from scipy import special

from analysis.claims.checks import params
from analysis.claims.claim import Claim
from analysis.claims.inputs import Inputs
from analysis.claims.outcome import Challenge, Check
from analysis.stats.rates import fisher_exact, mcnemar, newcombe, wilson

SAME = 0.1
"""Difference of two rates up to which they count as equivalent."""


def rate(inputs: Inputs, claim: Claim) -> Check:
    """100 `count` / `of`, with Wilson's interval."""
    k, n = params.formula(inputs, claim, "count"), params.formula(inputs, claim, "of")
    found = wilson(round(k.value), round(n.value))
    return Check(
        value=100 * k.value / n.value, inputs=(*k.keys, *n.keys), method="count over n; " + found.method,
        numbers={"count": k.value, "n": n.value, "low": found.low or 0.0, "high": found.high or 0.0},
        remarks=(f"95 % interval {100 * (found.low or 0):.0f} to {100 * (found.high or 0):.0f} %.",),
    )  # fmt: skip


def discordant(inputs: Inputs, a: str, b: str) -> tuple[tuple[int, int], tuple[int, int]]:
    """Fewest and most prompts that only `a` or only `b` refuses, given each category's counts."""
    least, most = [0, 0], [0, 0]
    for category, n in inputs.below("stress/size/").items():
        first, second = (round(inputs.value(f"stress/category/{category}/{name}")) for name in (a, b))
        least[0] += max(0, first - second)
        least[1] += max(0, second - first)
        most[0] += min(first, round(n) - second)
        most[1] += min(second, round(n) - first)
    return (least[0], least[1]), (most[0], most[1])


def _pair(inputs: Inputs, claim: Claim) -> tuple[str, str, int, int, int]:
    a, b = params.names(claim, "pair")
    counts = [round(inputs.value(f"stress/refused/{name}")) for name in (a, b)]
    return a, b, counts[0], counts[1], round(inputs.value("stress/prompts"))


def paired_rates(inputs: Inputs, claim: Claim) -> Challenge:
    """Fisher's and McNemar's p of the two of `pair`, the latter over all that the margins allow; n for 80 % power."""
    a, b, k_a, k_b, n = _pair(inputs, claim)
    fisher = fisher_exact(k_a, n, k_b, n).p or 1.0
    ends = [mcnemar(*counts).p for counts in discordant(inputs, a, b)]
    paired = sorted(1.0 if p is None else p for p in ends)
    apart = newcombe(k_a, n, k_b, n)
    effect = 2 * (math.asin(math.sqrt(k_a / n)) - math.asin(math.sqrt(k_b / n)))
    z = float(special.ndtri(0.975) + special.ndtri(0.8))
    fails = fisher > 0.05 and paired[0] > 0.05
    needed = 2 * (z / effect) ** 2 if fails and effect else None
    takes = "" if needed is None else f"; about {needed:.0f} prompts an arm would be needed (80 % power)"
    return Challenge(
        fails=fails,
        text=(
            f"{k_a}/{n} against {k_b}/{n}: difference {100 * (apart.value or 0):+.0f} points, 95 % interval "
            f"{100 * (apart.low or 0):+.0f} to {100 * (apart.high or 0):+.0f}; Fisher p {fisher:.2f}, "
            "McNemar p between "
            f"{paired[0]:.3g} and {paired[1]:.3g}{takes}."
        ),
        numbers={"Fisher p": fisher, "McNemar p, least": paired[0], "McNemar p, most": paired[1],
                 "low": apart.low or 0.0, "high": apart.high or 0.0} | ({} if needed is None else {"n needed": needed}),
        inputs=(f"stress/refused/{a}", f"stress/refused/{b}", "stress/prompts"),
    )  # fmt: skip


def zero_of_n(inputs: Inputs, claim: Claim) -> Challenge:
    """Upper bounds of a rate of which none of n was seen."""
    n = round(inputs.value("stress/benign_prompts"))
    upper = wilson(0, n).high or 0.0
    exact = 1 - 0.025 ** (1 / n)
    return Challenge(
        fails=upper > 0.1,
        text=f"0 of {n} leaves rates up to {100 * upper:.1f} % (Wilson) or {100 * exact:.1f} % (Clopper-Pearson) open.",
        numbers={"Wilson upper": upper, "Clopper-Pearson upper": exact},
        inputs=("stress/benign_prompts",),
    )


def equivalence(inputs: Inputs, claim: Claim) -> Challenge:
    """Equal counts do not show equal rates: by the interval of the difference equivalent, different, or neither."""
    _, _, k_a, k_b, n = _pair(inputs, claim)
    apart = newcombe(k_a, n, k_b, n)
    low, high = apart.low or 0.0, apart.high or 0.0
    equivalent, different = max(-low, high) <= SAME, low > 0 or high < 0
    outcome = "equivalent within 10 points" if equivalent else "different" if different else "not to be told"
    return Challenge(
        fails=not equivalent,
        text=f"{k_a}/{n} and {k_b}/{n} leave differences of {100 * low:+.0f} to {100 * high:+.0f} points open (95 %): "
        f"{outcome}.",
        numbers={"low": low, "high": high},
        inputs=("stress/prompts",),
    )
