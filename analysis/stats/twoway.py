"""Two factors with one value a cell: additive residuals, Tukey's test, the largest residual against its null."""

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import special

from analysis.stats.results import Array, Test, finite, is_constant, no_test

DRAWS = 99_999
TUKEY = "Tukey's test for non-additivity with one degree of freedom"
PERMUTED = "largest residual of the additive model over all cells and tables (max-T), values permuted within rows"
LARGEST = "largest residual of the additive model over all cells (max-T), normal errors"
LARGEST_OF_ROWS = "largest deviation from the row's mean over all cells (max-T), normal errors"


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
    grand = finite(table, "a table").mean()
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
    return _against_null(fit.residuals, _null(*table.shape), LARGEST)


def largest_of_rows(table: Array) -> Test:
    """The same for columns that carry no effect: max |deviation from the row's mean| / sqrt(SS)."""
    deviations = finite(table, "a table") - table.mean(axis=1, keepdims=True)
    if min(table.shape) < 2 or table.size < 4:
        return no_test("not enough data", LARGEST_OF_ROWS, table.size)
    if float(np.abs(deviations).max()) <= 1e-12 * max(1e-300, float(np.abs(table).max())):
        return no_test("degenerate", LARGEST_OF_ROWS, table.size)
    return _against_null(deviations, _null(*table.shape, blocks=False), LARGEST_OF_ROWS)


def _against_null(residuals: Array, null: Array, method: str) -> Test:
    seen = float(np.abs(residuals).max() / math.sqrt(float((residuals**2).sum())))
    p = float((1 + len(null) - np.searchsorted(null, seen - 1e-12)) / (1 + len(null)))
    return Test(
        statistic=seen, p=p, n=residuals.size, method=f"{method} ({DRAWS} Monte Carlo draws)", floor=1 / (1 + DRAWS),
        p_error=math.sqrt(p * (1 - p) / DRAWS),
    )  # fmt: skip


def largest_of_all(test: Test, tables: int) -> Test:
    """The largest residual where the worst of several tables was looked for: Sidak 1967, a bound under dependence."""
    if test.p is None:
        return test
    p = -math.expm1(tables * math.log1p(-test.p)) if test.p < 1 else 1.0
    return replace(test, p=p, floor=None, p_error=None, method=f"{test.method}, and over {tables} tables (Sidak bound)")


def permuted_columns(tables: Array, rng: np.random.Generator, draws: int = 999) -> list[Test]:
    """Each table's largest residual against the largest of all tables as values change columns within rows (max-T).

    `tables` x rows x columns; the tables are rearranged alike, so that their dependence is kept. Exact whatever the
    errors' distribution where columns (seeds) carry no effect. (Permuting residuals instead is not: they shrink when
    they are fitted again, and with t(3) errors a quarter of the tests at 5 % was wrong.) A single odd cell is hardly
    told from an error with a heavy tail, which is the price of one value a cell.
    """
    count, rows, columns = tables.shape
    method = f"{PERMUTED} ({draws} random arrangements, {count} tables)"
    usable = np.array([not _nothing(additive(table), table) for table in tables], dtype=bool)
    if not usable.any():
        return [no_test("degenerate", method, rows * columns)] * count
    kept = tables[usable]
    orders = rng.permuted(np.broadcast_to(np.arange(columns), (draws, rows, columns)), axis=2)
    moved = np.concatenate([kept[:, None], kept[:, np.arange(rows)[:, None], orders]], axis=1)
    moved -= moved.mean(axis=2, keepdims=True)
    moved -= moved.mean(axis=3, keepdims=True)
    sizes = np.abs(moved).max(axis=(2, 3)) / np.sqrt((moved**2).sum(axis=(2, 3)))
    largest = sizes.max(axis=0)
    tests = iter(
        Test(statistic=float(own[0]), p=float(np.mean(largest >= own[0] - 1e-12)), n=rows * columns, method=method,
             floor=1 / (draws + 1))
        for own in sizes
    )  # fmt: skip
    return [next(tests) if good else no_test("degenerate", method, rows * columns) for good in usable.tolist()]


Codes = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Replicated:
    """Values of a two-way layout with several values a cell."""

    rows: Codes
    columns: Codes
    blocks: Codes | None
    """What values of one block share (a seed that ran every cell); None: nothing is shared."""
    values: Array


def replicated_interaction(data: Replicated, rng: np.random.Generator, draws: int = 4_999) -> Test:
    """Does the effect of one factor depend on the other? F of the cell means beyond row, column and block effects.

    p is by permutation of the residuals of the additive model (Freedman & Lane 1983), which needs no normal errors;
    the statistic is the F of the analysis of variance, and its own p is in the method.
    """
    cells = data.rows * (int(data.columns.max()) + 1) + data.columns
    method, n = "F test of the interaction over replicated cells", len(data.values)
    shared = [_dummies(part) for part in (data.rows, data.columns, data.blocks) if part is not None]
    small, large = _basis(np.hstack(shared)), _basis(np.hstack([*shared, _dummies(cells)]))
    df, df_error = large.shape[1] - small.shape[1], n - large.shape[1]
    finite(data.values)
    if df < 1 or df_error < 1:
        return no_test("not enough data", method, n)
    rest = data.values - small @ (small.T @ data.values)
    total = float(rest @ rest)
    if is_constant(data.values) or total <= 1e-24 * float(data.values @ data.values):
        return no_test("degenerate", method, n)
    shuffled = np.vstack([rest, rng.permuted(np.broadcast_to(rest, (draws, n)), axis=1)])
    outside = (shuffled**2).sum(axis=1) - ((shuffled @ small) ** 2).sum(axis=1)
    error = (shuffled**2).sum(axis=1) - ((shuffled @ large) ** 2).sum(axis=1)
    between = outside - error
    if error[0] <= 1e-12 * total:
        return no_test("degenerate", method, n)
    ratios = between / np.maximum(error, 1e-300)
    p = float(np.mean(ratios >= ratios[0] * (1 - 1e-10)))
    f = float(ratios[0]) * df_error / df
    by_f = float(special.fdtrc(df, df_error, f))
    return Test(
        statistic=f, p=p, n=n, floor=1 / (draws + 1), p_error=math.sqrt(p * (1 - p) / draws),
        method=f"{method}, permutation of residuals ({draws} random orders); F({df}, {df_error}), p = {by_f:.2g} by F",
    )  # fmt: skip


def _dummies(codes: Codes) -> Array:
    return np.asarray(codes[:, None] == np.unique(codes), dtype=np.float64)


def _basis(columns: Array) -> Array:
    """Orthonormal basis of the space of some columns."""
    vectors, sizes, _ = np.linalg.svd(columns, full_matrices=False)
    return np.asarray(vectors[:, sizes > 1e-9 * sizes[0]])


def _nothing(fit: Additive, table: Array) -> bool:
    """Residuals that are only rounding."""
    return float(np.abs(fit.residuals).max()) <= 1e-12 * max(1e-300, float(np.abs(table).max()))


@lru_cache(maxsize=32)
def _null(rows: int, columns: int, *, blocks: bool = True) -> Array:
    """Sorted null statistics; the generator is fixed, so that p does not depend on what was tested before."""
    rng = np.random.default_rng(rows * 1000 + columns)
    found, left = [], DRAWS
    while left:
        count = min(left, max(1, 2_000_000 // (rows * columns)))
        draws = rng.standard_normal((count, rows, columns))
        if blocks:
            draws -= draws.mean(axis=1, keepdims=True)
        draws -= draws.mean(axis=2, keepdims=True)
        flat = np.abs(draws.reshape(count, -1))
        found.append(flat.max(axis=1) / np.sqrt((flat**2).sum(axis=1)))
        left -= count
    return np.sort(np.concatenate(found))
