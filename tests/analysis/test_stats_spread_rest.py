"""One column's spread against all others at once: the same as Levene's test of each against the centred rest."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import levene

from analysis.stats.spread import each_against_rest


@given(st.integers(0, 2**32 - 1), st.integers(3, 9), st.integers(2, 6))
@settings(max_examples=40, deadline=None)
def test_smallest_levene_p_times_the_columns(seed: int, rows: int, columns: int) -> None:
    table = np.random.default_rng(seed).normal(size=(rows, columns)) * np.arange(1, columns + 1)
    centred = table - np.median(table, axis=0)
    ps = [levene(centred[:, i], np.delete(centred, i, axis=1).ravel(), center="median").pvalue for i in range(columns)]
    found = each_against_rest(table)
    assert found.p == pytest.approx(min(1.0, columns * min(ps)), rel=1e-9)


def test_tables_without_variation() -> None:
    assert each_against_rest(np.ones((5, 3))).status == "degenerate"
    assert each_against_rest(np.ones((1, 3))).status == "not enough data"
