"""Two factors with one value a cell: additive residuals, Tukey's test, the largest residual against its null."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import special

from analysis.stats.results import Array, Test, is_constant, no_test

DRAWS = 99_999
TUKEY = "Tukey's test for non-additivity with one degree of freedom"
LARGEST = "largest residual of the additive model over all cells (max-T), normal errors"


@dataclass(frozen=True, kw_only=True)
class Additive:
    """The fit of row plus column effects."""

    residuals: Array
    rows: Array
    columns: Array
    ss: float
    """Sum of squared residuals: interaction and error together."""
    df: int


def additive(table: Array) -> Additive:
    """Row and column effects of a complete table."""
    grand = table.mean()
    rows, columns = table.mean(axis=1) - grand, table.mean(axis=0) - grand
    residuals = table - grand - rows[:, None] - columns
    df = (table.shape[0] - 1) * (table.shape[1] - 1)
    return Additive(residuals=residuals, rows=rows, columns=columns, ss=float((residuals**2).sum()), df=df)


def tukey_one_df(table: Array) -> Test:
    """Is the interaction a multiple of row times column effect? Tukey 1949; the statistic is F(1, df - 1)."""
    if min(table.shape) < 2 or (table.shape[0] - 1) * (table.shape[1] - 1) < 2:
        return no_test("not enough data", TUKEY, table.size)
    fit = additive(table)
    norm = float((fit.rows**2).sum() * (fit.columns**2).sum())
    if norm == 0 or is_constant(table.ravel()) or _nothing(fit, table):
        return no_test("degenerate", TUKEY, table.size)
    ss = float(fit.rows @ table @ fit.columns) ** 2 / norm
    rest = max(fit.ss - ss, 0.0)
    if rest <= 1e-20 * fit.ss:
        return Test(statistic=math.inf, p=0.0, n=table.size, method=TUKEY)
    f = ss / (rest / (fit.df - 1))
    return Test(statistic=f, p=float(special.fdtrc(1, fit.df - 1, f)), n=table.size, method=TUKEY)


def largest_residual(table: Array) -> Test:
    """Stefansky 1972: max |residual| / sqrt(SS); p by Monte Carlo, one set of draws for each shape of table."""
    if (table.shape[0] - 1) * (table.shape[1] - 1) < 3:
        return no_test("not enough data", LARGEST, table.size)
    fit = additive(table)
    if is_constant(table.ravel()) or _nothing(fit, table):
        return no_test("degenerate", LARGEST, table.size)
    seen = float(np.abs(fit.residuals).max() / math.sqrt(fit.ss))
    null = _null(*table.shape)
    p = float((1 + len(null) - np.searchsorted(null, seen - 1e-12)) / (1 + len(null)))
    return Test(
        statistic=seen, p=p, n=table.size, method=f"{LARGEST} ({DRAWS} Monte Carlo draws)", floor=1 / (1 + DRAWS),
        p_error=math.sqrt(p * (1 - p) / DRAWS),
    )  # fmt: skip


def _nothing(fit: Additive, table: Array) -> bool:
    """Residuals that are only rounding."""
    return float(np.abs(fit.residuals).max()) <= 1e-12 * max(1e-300, float(np.abs(table).max()))


@lru_cache(maxsize=32)
def _null(rows: int, columns: int) -> Array:
    """Sorted null statistics; the generator is fixed, so that p does not depend on what was tested before."""
    rng = np.random.default_rng(rows * 1000 + columns)
    found, left = [], DRAWS
    while left:
        count = min(left, max(1, 2_000_000 // (rows * columns)))
        draws = rng.standard_normal((count, rows, columns))
        draws -= draws.mean(axis=1, keepdims=True)
        draws -= draws.mean(axis=2, keepdims=True)
        flat = np.abs(draws.reshape(count, -1))
        found.append(flat.max(axis=1) / np.sqrt((flat**2).sum(axis=1)))
        left -= count
    return np.sort(np.concatenate(found))
