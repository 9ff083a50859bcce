"""What papers print of two groups: Cohen's d, Student's, Welch's and paired t, Wilcoxon's signed ranks.

rhodb judges by none of these alone (see `analysis.verdicts`); they stand beside its own numbers so that a figure read
elsewhere can be found again. All p are two-sided and corrected for nothing.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import special

from analysis.stats.intervals import welch_error
from analysis.stats.results import Array, as_sample, average_ranks, is_constant

MOST_EXACT = 25
"""Pairs up to which the signs are counted out; above, the normal approximation with its tie correction."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Conventional:
    """Numbers of a - b as papers give them; None where they are not defined (one value, no spread, no pairs)."""

    cohens_d: float | None
    """Difference over the pooled SD (n - 1), Cohen 1988 p. 67."""
    student_t: float | None
    student_df: float | None
    student_p: float | None
    welch_t: float | None
    welch_df: float | None
    """Satterthwaite's."""
    welch_p: float | None
    pairs: int
    """Seeds that both groups have; 0 where nobody recorded the seeds."""
    cohens_dz: float | None
    """Mean of the paired differences over their SD, Cohen 1988 p. 48."""
    paired_t: float | None
    paired_df: float | None
    paired_p: float | None
    wilcoxon_w: float | None
    """The smaller of the two sums of ranks; pairs without a difference are left out (Wilcoxon 1945)."""
    wilcoxon_p: float | None
    notes_d: float | None
    """The notes' convention: difference over sqrt((sd_a^2 + sd_b^2) / 2), whatever the sizes."""
    notes_p: float | None
    """The notes' convention: Student's p of that d, as if both groups had the smaller size."""


def conventional(a: Mapping[int, float], b: Mapping[int, float], *, paired: bool = True) -> Conventional:
    """The numbers of papers for two groups {seed: value}; `paired`: whether equal seeds name pairs."""
    first, second = (as_sample(list(side.values())) for side in (a, b))
    seeds = [seed for seed in a if seed in b] if paired else []
    differences = np.array([a[seed] - b[seed] for seed in seeds], dtype=np.float64)
    return Conventional(**_independent(first, second), pairs=len(seeds), **_paired(differences))


def _independent(a: Array, b: Array) -> dict[str, float | None]:
    n, m = a.size, b.size
    names = (
        "cohens_d", "student_t", "student_df", "student_p", "welch_t", "welch_df", "welch_p", "notes_d", "notes_p",
    )  # fmt: skip
    if min(n, m) < 2 or (is_constant(a) and is_constant(b)):
        return dict.fromkeys(names)
    gap, var_a, var_b = float(a.mean() - b.mean()), float(a.var(ddof=1)), float(b.var(ddof=1))
    df = n + m - 2
    d = gap / math.sqrt(((n - 1) * var_a + (m - 1) * var_b) / df)
    t = d / math.sqrt(1 / n + 1 / m)
    error, welch_df = welch_error(a, b)
    notes_d = d_of_equal_groups(gap, math.sqrt(var_a), math.sqrt(var_b))
    values = (
        d, t, float(df), two_sided(t, df), gap / error, welch_df, two_sided(gap / error, welch_df), notes_d,
        student_of_equal_groups(notes_d, min(n, m)),
    )  # fmt: skip
    return dict(zip(names, values, strict=True))


def _paired(differences: Array) -> dict[str, float | None]:
    names = ("cohens_dz", "paired_t", "paired_df", "paired_p", "wilcoxon_w", "wilcoxon_p")
    n = differences.size
    if n < 2:
        return dict.fromkeys(names)
    found: dict[str, float | None] = dict.fromkeys(names)
    if not is_constant(differences):
        dz = float(differences.mean() / differences.std(ddof=1))
        t = dz * math.sqrt(n)
        found |= {"cohens_dz": dz, "paired_t": t, "paired_df": float(n - 1), "paired_p": two_sided(t, n - 1)}
    moved = differences[differences != 0]
    if moved.size:
        found["wilcoxon_w"], found["wilcoxon_p"] = signed_ranks(moved)
    return found


def d_of_equal_groups(gap: float, sd_a: float, sd_b: float) -> float:
    """Cohen's d with the mean of the two variances, which pools them where the groups are of one size."""
    return gap / math.sqrt((sd_a**2 + sd_b**2) / 2)


def student_of_equal_groups(d: float, n: int) -> float:
    """Two-sided Student's p of that d in two groups of n."""
    return two_sided(d * math.sqrt(n / 2), 2 * n - 2)


def two_sided(t: float, df: float) -> float:
    """Two-sided p of Student's t."""
    return 2 * float(special.stdtr(df, -abs(t)))


def signed_ranks(differences: Array) -> tuple[float, float]:
    """Wilcoxon's W and two-sided p of differences, none of them 0; up to 25 over all signs, with ties or without."""
    ranks, n = average_ranks(np.abs(differences)), differences.size
    above, total = float(ranks[differences > 0].sum()), n * (n + 1) / 2
    w = min(above, total - above)
    if n <= MOST_EXACT:
        ways = _ways(tuple(np.rint(2 * ranks).astype(int).tolist()))
        return w, min(1.0, 2 * float(ways[: round(2 * w) + 1].sum()) / 2.0**n)
    spread = math.sqrt(float((ranks**2).sum()) / 4)
    return w, 2 * float(special.ndtr(-abs(above - total / 2) / spread))


@lru_cache(maxsize=256)
def _ways(doubled_ranks: tuple[int, ...]) -> Array:
    """How many of the 2^n choices of signs give each sum of (doubled) ranks."""
    ways = np.zeros(sum(doubled_ranks) + 1)
    ways[0] = 1
    for rank in doubled_ranks:
        ways[rank:] += ways[:-rank].copy()
    return ways
