"""How much more it takes: the numbers of seeds with which a test can reach a level, or sees an effect of stated size.

The first kind is a matter of counting (the smallest p of a permutation test); the second is a plan with 80 % power for
an effect that is fixed beforehand, never for the one that was seen.
"""

import math
from functools import cache

from scipy import special

from analysis.stats.batches import DRAWS
from analysis.stats.couplings import EXACT_ROWS, MONTE_CARLO_ROWS
from analysis.stats.permutation import DRAWS as TWO_SAMPLE_DRAWS
from analysis.stats.permutation import MAX_EXACT, two_sample_floor
from analysis.stats.rates import fisher_exact
from analysis.stats.slopes import Line

POWER = 0.8
MOST = 10_000
"""Seeds beyond which nobody will go."""


@cache
def seeds_for_rho(level: float) -> int:
    """Smallest n whose best two-sided exact p of Spearman's rho, 2 / n!, is at most `level`.

    Beyond eight seeds random orders would stop at 1 / (1 + draws), which is more than 2 / 8!; Student's t has no floor.
    """
    return next((n for n in range(3, EXACT_ROWS + 1) if 2 / math.factorial(n) <= level), MONTE_CARLO_ROWS + 1)


@cache
def seeds_for_orders(level: float) -> int:
    """Smallest n with 1 / n! at most `level`: the permutation test of a slope; beyond eight seeds a t test."""
    return next((n for n in range(4, EXACT_ROWS + 1) if 1 / math.factorial(n) <= level), MONTE_CARLO_ROWS + 1)


@cache
def seeds_for_change(level: float) -> int:
    """Smallest n a stratum with which a coupling's change can reach `level`: of the C(2n, n) splits at best two tie.

    Random splits stop at 1 / (1 + draws); Fisher's z, beyond thirty seeds, has no floor.
    """
    for n in range(4, MONTE_CARLO_ROWS + 1):
        splits = math.comb(2 * n, n)
        if (2 / splits if splits <= DRAWS + 1 else 1 / (1 + DRAWS)) <= level:
            return n
    return MONTE_CARLO_ROWS + 1


@cache
def seeds_for_trend(doses: int, level: float) -> int | None:
    """Smallest number of seeds a dose with which a rising order of all values is rarer than `level`, two-sided.

    None where two doses never can: random arrangements of very many values stop at 1 / (1 + draws).
    """
    n = 1
    while 2 * math.factorial(n) ** doses / math.factorial(n * doses) > level:
        n += 1
    if doses == 2 and math.comb(2 * n, n) > MAX_EXACT and level < 1 / (1 + TWO_SAMPLE_DRAWS):
        return None
    return n


def seeds_a_side(level: float) -> int:
    """Smallest number of seeds a side with which the exact two-sample test can reach `level`."""
    n = 1
    while two_sample_floor(n, n) > level:
        n += 1
    return n


def failures_for(own: int, others: int, level: float) -> int | None:
    """Smallest number of failures, all among the `own` runs, of which Fisher's exact p is at most `level`."""
    tests = ((k, fisher_exact(k, own, 0, others)) for k in range(1, own + 1))
    return next((k for k, test in tests if test.p is not None and test.p <= level), None)


@cache
def seeds_for_spread(groups: int, level: float, *, ratio: float = 2.0, against_rest: bool = False) -> int | None:
    """Smallest n a group with which the Brown-Forsythe test sees one SD that is `ratio` times the others' (80 %).

    Noncentral F with normal values: |x - median| has mean c = sqrt(2 / π) and variance 1 - c² in units of the SD
    (the median taken for known, so that the true power is a little less). `against_rest`: each group in turn against
    all others, Bonferroni.
    """
    c = math.sqrt(2 / math.pi)
    within = (1 - c * c) * (ratio**2 + groups - 1) / groups
    between = (groups - 1) / groups * (c * (ratio - 1)) ** 2
    between_df = 1 if against_rest else groups - 1
    alpha = level / groups if against_rest else level

    def power(n: int) -> float:
        left = groups * n - (2 if against_rest else groups)
        critical = float(special.fdtri(between_df, left, 1 - alpha))
        return 1 - float(special.ncfdtr(between_df, left, n * between / within, critical))

    high = 4
    while power(high) < POWER:
        high *= 2
        if high > MOST:
            return None
    return next(n for n in range(max(4, high // 2), high + 1) if power(n) >= POWER)


def more_for_equivalence(a: Line, b: Line, *, tolerance: float, level: float) -> float | None:
    """How many times the values it takes that two equal slopes pass as equal within `tolerance` (TOST, 80 %).

    With the scatter seen; equal slopes fail on either side alike, so that each side needs 90 % (Schuirmann 1987).
    """
    spread = (a.ss + b.ss) / (a.df + b.df)
    worst = max(
        spread * (1 / a.sxx + edge * edge / b.sxx) / (tolerance * b.slope) ** 2 if b.slope else math.inf
        for edge in (1 - tolerance, 1 + tolerance)
    )
    reach = float(special.ndtri(1 - level) + special.ndtri((1 + POWER) / 2))
    return reach * reach * worst if math.isfinite(worst) else None
