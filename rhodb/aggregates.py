"""Statistical aggregates that SQLite lacks. NULL rows are left out; too few rows give NULL."""

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

Number = float | None


def variance(values: Sequence[float]) -> Number:
    """Sample variance (divisor n - 1); None for fewer than two values."""
    if len(values) < 2:
        return None
    mean = math.fsum(values) / len(values)
    return math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)


def stddev(values: Sequence[float]) -> Number:
    """Square root of the sample variance."""
    found = variance(values)
    return None if found is None else math.sqrt(found)


def quantile(values: Sequence[float], share: float) -> Number:
    """The value below which a share of the values lies, linear between neighbours (Hyndman and Fan, type 7)."""
    if not values:
        return None
    ordered = sorted(values)
    place = (len(ordered) - 1) * share
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def median(values: Sequence[float]) -> Number:
    return quantile(values, 0.5)


def corr(xs: Sequence[float], ys: Sequence[float]) -> Number:
    """Pearson correlation; None for fewer than two pairs or where one side is constant."""
    if len(xs) < 2:
        return None
    mean_x, mean_y = math.fsum(xs) / len(xs), math.fsum(ys) / len(ys)
    product = math.fsum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True))
    squares = math.fsum((x - mean_x) ** 2 for x in xs) * math.fsum((y - mean_y) ** 2 for y in ys)
    return None if squares == 0 else max(-1.0, min(1.0, product / math.sqrt(squares)))


def ranks(values: Sequence[float]) -> list[float]:
    """Ranks from 1; equal values share the mean of their ranks."""
    order = sorted(range(len(values)), key=values.__getitem__)
    found = [0.0] * len(values)
    start = 0
    while start < len(order):
        end = start
        while end + 1 < len(order) and values[order[end + 1]] == values[order[start]]:
            end += 1
        for place in order[start : end + 1]:
            found[place] = (start + end) / 2 + 1
        start = end + 1
    return found


def spearman(xs: Sequence[float], ys: Sequence[float]) -> Number:
    """Pearson correlation of the ranks."""
    return corr(ranks(xs), ranks(ys))


def cohens_d(values: Sequence[float], group: Sequence[float]) -> Number:
    """(mean where group is not 0 - mean where it is 0) / pooled standard deviation (Cohen 1988)."""
    one = [value for value, member in zip(values, group, strict=True) if member]
    other = [value for value, member in zip(values, group, strict=True) if not member]
    a, b = variance(one), variance(other)
    if a is None or b is None:
        return None
    pooled = ((len(one) - 1) * a + (len(other) - 1) * b) / (len(one) + len(other) - 2)
    return None if pooled == 0 else (math.fsum(one) / len(one) - math.fsum(other) / len(other)) / math.sqrt(pooled)


def _quantile(values: Sequence[float], shares: Sequence[float]) -> Number:
    if not values:
        return None
    if not 0 <= shares[0] <= 1:
        raise ValueError(f"the share must lie between 0 and 1, got {shares[0]:g}")
    return quantile(values, shares[0])


AGGREGATES: dict[str, tuple[int, Callable[..., Number], str]] = {
    "variance": (1, variance, "sample variance of x"),
    "stddev": (1, stddev, "sample standard deviation of x"),
    "median": (1, median, "median of x"),
    "quantile": (2, _quantile, "quantile(x, share), share from 0 to 1"),
    "corr": (2, corr, "Pearson correlation of x and y"),
    "spearman": (2, spearman, "Spearman rank correlation of x and y"),
    "cohens_d": (2, cohens_d, "cohens_d(x, group): group 1 minus group 0, in pooled standard deviations"),
}
"""Name -> (number of arguments, function over whole columns, meaning)."""


def register(connection: Any, problems: list[str]) -> None:
    """Make the aggregates known to a sqlite3 connection; what goes wrong inside one is added to `problems`."""
    for name, (n_arguments, function, _) in AGGREGATES.items():
        attributes = {"name": name, "function": staticmethod(function), "problems": problems}
        connection.create_aggregate(name, n_arguments, type(f"_{name}", (_Aggregate,), attributes))


class _Aggregate:
    """Collects columns, then applies a function to them."""

    name: ClassVar[str]
    function: ClassVar[Callable[..., Number]]
    problems: ClassVar[list[str]]

    def __init__(self) -> None:
        self.columns: list[list[float]] = []

    def step(self, *row: Any) -> None:
        if None in row:
            return
        for value in row:
            if not isinstance(value, int | float):
                self.problems.append(f"{self.name}() needs numbers, got {value!r:.60}")
                raise TypeError
        if not self.columns:
            self.columns = [[] for _ in row]
        for column, value in zip(self.columns, row, strict=True):
            column.append(float(value))

    def finalize(self) -> Number:
        if not self.columns:
            return None
        try:
            return self.function(*self.columns)
        except (ValueError, OverflowError) as error:
            self.problems.append(f"{self.name}(): {error}")
            raise
