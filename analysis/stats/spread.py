"""Do groups spread alike? Brown-Forsythe test of equal variances."""

from collections.abc import Sequence
from functools import cache

import numpy as np
import numpy.typing as npt
from scipy import special

from analysis.stats.batches import by_shape, places_of
from analysis.stats.results import Array, Test, as_sample, no_test

METHOD = "Brown-Forsythe test of equal variances (Levene's test on deviations from the median)"


def brown_forsythe(groups: Sequence[npt.ArrayLike]) -> Test:
    """F test on |x - median of its group| (Brown & Forsythe 1974); needs two groups of three or more values.

    Two values lie equally far from their median, whatever they are: a group of two adds degrees of freedom and no
    variation (of groups of 2, 2 and 5 values without a difference 1.1 % had p <= .001).
    """
    return brown_forsythe_each([groups])[0]


def brown_forsythe_each(cases: Sequence[Sequence[npt.ArrayLike]]) -> list[Test]:
    """`brown_forsythe` of the groups of each case."""
    samples = [[as_sample(group) for group in groups] for groups in cases]
    found: dict[int, Test] = {}
    for sizes, places in places_of(tuple(sample.size for sample in groups) for groups in samples).items():
        n, k = sum(sizes), len(sizes)
        if k < 2 or min(sizes) < 3:
            found |= dict.fromkeys(places, no_test("not enough data", METHOD, n))
            continue
        f, flat = _f_of_deviations(np.array([np.concatenate(samples[place]) for place in places]), sizes)
        p = special.fdtrc(k - 1, n - k, f)
        for place, nothing, statistic, small in zip(places, flat.tolist(), f.tolist(), p.tolist(), strict=True):
            found[place] = (
                no_test("degenerate", METHOD, n)
                if nothing
                else Test(statistic=statistic, p=small, n=n, method=METHOD, floor=_floor(sizes))
            )
    return [found[place] for place in range(len(cases))]


def _f_of_deviations(pooled: Array, sizes: tuple[int, ...]) -> tuple[Array, npt.NDArray[np.bool_]]:
    """F of each case (cases x values, group after group), and where there is none.

    Without variation of the deviations inside the groups beyond the rounding of the values, the F ratio has nothing
    to divide by; nor where its square vanishes.
    """
    n, k = pooled.shape[1], len(sizes)
    groups = np.split(pooled, np.cumsum(sizes)[:-1], axis=1)
    deviations = [np.abs(group - np.median(group, axis=1, keepdims=True)) for group in groups]
    rounding = np.maximum(64 * np.finfo(np.float64).eps * np.abs(pooled).max(axis=1), 1e-150)
    flat = np.max([np.ptp(z, axis=1) for z in deviations], axis=0) <= rounding
    grand = sum(z.sum(axis=1) for z in deviations) / n
    means = [z.mean(axis=1) for z in deviations]
    between = sum(size * (mean - grand) ** 2 for size, mean in zip(sizes, means, strict=True)) / (k - 1)
    within = sum(((z - mean[:, None]) ** 2).sum(axis=1) for z, mean in zip(deviations, means, strict=True)) / (n - k)
    return between / np.where(flat, 1.0, within), flat


@cache
def _floor(sizes: tuple[int, ...]) -> float | None:
    """Smallest p of the test: of an odd number of values one is the median itself, so its deviation is 0.

    The deviations of such a group vary, and F is at most max over groups of (n - 1)(1 - n / N) times (N - k) / (k - 1):
    one group deviates by 0, 1, ..., 1 and the others not at all (with equal sizes (n - 1)²). None where a group of an
    even number may deviate by 1, ..., 1 and F is unbounded.
    """
    n, k = sum(sizes), len(sizes)
    if any(size % 2 == 0 for size in sizes) or n == k:
        return None
    largest = max((size - 1) * (1 - size / n) for size in sizes) * (n - k) / (k - 1)
    return float(special.fdtrc(k - 1, n - k, largest))


def each_against_rest(table: Array) -> Test:
    """Does one column spread differently from all others together? Smallest Brown-Forsythe p times the columns.

    The others are pooled after centring each at its median. `table` is rows x columns, without gaps.
    """
    return each_against_rest_each([table])[0]


def each_against_rest_each(tables: Sequence[Array]) -> list[Test]:
    """`each_against_rest` of each table."""
    method = f"{METHOD}, one against the rest"
    found: dict[int, Test] = {}
    for places, stack in by_shape(tables):
        n, columns = stack.shape[1:]
        size = n * columns
        if n < 2 or columns < 2:
            found |= dict.fromkeys(places, no_test("not enough data", method, size))
            continue
        f, known = _f_against_rest(stack - np.median(stack, axis=1, keepdims=True))
        p = np.minimum(1.0, columns * special.fdtrc(1, size - 2, f))
        floor = _floor_against_rest(n, columns)
        for place, there, statistic, small in zip(places, known.tolist(), f.tolist(), p.tolist(), strict=True):
            found[place] = (
                Test(statistic=statistic, p=small, n=size, method=method, floor=floor)
                if there
                else no_test("degenerate", method, size)
            )
    return [found[place] for place in range(len(tables))]


def _f_against_rest(centred: Array) -> tuple[Array, npt.NDArray[np.bool_]]:
    """The largest F of a column against the others (tables x rows x columns), and where there is one."""
    count, n, columns = centred.shape
    size = n * columns
    others = np.stack([np.delete(centred, i, axis=2).reshape(count, -1) for i in range(columns)], axis=2)
    own, rest = np.abs(centred), np.abs(others - np.median(others, axis=1, keepdims=True))
    grand = (own.sum(axis=1) + rest.sum(axis=1)) / size
    means, rest_means = own.mean(axis=1), rest.mean(axis=1)
    between = n * (means - grand) ** 2 + (size - n) * (rest_means - grand) ** 2
    own_ss, rest_ss = (((z - mean[:, None]) ** 2).sum(axis=1) for z, mean in ((own, means), (rest, rest_means)))
    within = (own_ss + rest_ss) / (size - 2)
    # Deviations that do not vary beyond rounding leave the F ratio nothing to divide by.
    known = within > 1e-24 * (own.max(axis=1) + rest.max(axis=1)) ** 2
    f = np.where(known, between / np.where(known, within, 1.0), 0.0)
    return f.max(axis=1), known.any(axis=1)


@cache
def _floor_against_rest(n: int, columns: int) -> float | None:
    """As `_floor`: F is at most (n - 1)(1 - 1 / k)(kn - 2); one column deviates and the rest do not."""
    if n % 2 == 0:
        return None
    largest = (n - 1) * (1 - 1 / columns) * (n * columns - 2)
    return min(1.0, columns * float(special.fdtrc(1, n * columns - 2, largest)))
