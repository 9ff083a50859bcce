"""Additivity of two axes: replicated cells, the hybrid's axes, axes that do nothing; permuted residuals."""

import itertools

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from statsmodels.stats.anova import anova_lm

from analysis.admission import without_settings
from analysis.anomalies.additivity import NO_LAYER, Additivity, complete_table, grids_of
from analysis.anomalies.study import Anomalies, data_of
from analysis.findings import Finding
from analysis.simulate import Warehouse
from analysis.stats.twoway import (
    Replicated,
    additive,
    largest_of_all,
    largest_residual,
    permuted_columns,
    replicated_interaction,
)
from analysis.study import StudyOptions
from rhodb.errors import InputError

FREEZE, COMPRESS = (0.0, 0.5, 0.9), (0.7, 1.0)


def study(wh: Warehouse) -> list[Finding]:
    frame = wh.frame()
    for axis in ("sae_layer", "rho_weight", "margin"):
        if axis in frame:
            frame[axis] = frame[axis].astype(float)
    result = Anomalies([Additivity()]).compute(frame, StudyOptions(), np.random.default_rng(0))
    return list(result.findings)


def replicated(rng: np.random.Generator, *, product: float, seeds: int = 5, own: float = 0.1) -> Warehouse:
    """A freeze x compress grid over seeds that have levels of their own."""
    wh = Warehouse()
    for seed in range(seeds):
        level = rng.normal(0, own)
        for frozen, compress in itertools.product(FREEZE, COMPRESS):
            value = level + 0.3 * compress - 0.2 * frozen + product * frozen * (1 - compress) + rng.normal(0, 0.02)
            wh.run({"factual": value}, seed=seed, kind="freeze", compress_ratio=compress, freeze_ratio=frozen,
                   config={"fine_tuned": 1})  # fmt: skip
    return wh


def test_cells_replicated_over_seeds_are_tested_for_an_interaction(rng: np.random.Generator) -> None:
    (found,) = study(replicated(rng, product=1.0))
    assert found.verdict == "supported"
    assert "permutation of residuals" in found.tests[0].method
    assert found.tests[0].n == 30
    assert found.robustness is not None
    assert found.robustness.largest_p <= 0.05
    (nothing,) = study(replicated(rng, product=0.0))
    assert nothing.verdict in ("not supported", "suggestive")


def test_the_interaction_f_equals_that_of_statsmodels(rng: np.random.Generator) -> None:
    frame = pd.DataFrame(
        [(r, c, s, rng.normal() + r * c * 0.3) for r in range(3) for c in range(4) for s in range(3)],
        columns=["r", "c", "s", "y"],
    ).drop(index=[5, 17])  # not balanced
    columns = [frame[name].to_numpy() for name in ("r", "c", "s", "y")]
    ours = replicated_interaction(Replicated(rows=columns[0], columns=columns[1], blocks=None, values=columns[3]), rng)
    table = anova_lm(smf.ols("y ~ C(r) * C(c)", frame).fit(), typ=2)
    assert ours.statistic == pytest.approx(table.loc["C(r):C(c)", "F"])
    blocked = replicated_interaction(
        Replicated(rows=columns[0], columns=columns[1], blocks=columns[2], values=columns[3]), rng
    )
    table = anova_lm(smf.ols("y ~ C(r) * C(c) + C(s)", frame).fit(), typ=2)
    assert blocked.statistic == pytest.approx(table.loc["C(r):C(c)", "F"])
    # Normal errors: the permutation p is close to that of the F distribution.
    assert blocked.p == pytest.approx(table.loc["C(r):C(c)", "PR(>F)"], abs=0.05)


def test_one_value_a_cell_has_no_replicates_to_test() -> None:
    rows, columns = np.repeat(np.arange(3), 3), np.tile(np.arange(3), 3)
    data = Replicated(rows=rows, columns=columns, blocks=None, values=np.arange(9.0))
    assert replicated_interaction(data, np.random.default_rng(0)).status == "not enough data"


def hybrid(rng: np.random.Generator, *, sae: float = 0.2) -> Warehouse:
    """SVD x SAE x λ, one run a cell; `sae` is what the SAE does."""
    wh = Warehouse()
    for compress, layer, weight in itertools.product((0.5, 0.7, 1.0), (None, 17), (0.0, 0.1, 0.2)):
        noise = rng.normal(0, 0.01) if sae else 0.0
        value = compress + weight + (sae if layer is not None else 0.0) + noise
        wh.run({"factual": value}, seed=42, kind="hybrid", compress_ratio=compress, freeze_ratio=0.75, sae_layer=layer,
               rho_weight=weight, margin=0.1 if weight else None, config={"freeze_fraction": 0.75})  # fmt: skip
    return wh


def test_the_axes_of_the_hybrid_are_taken_two_at_a_time_and_the_others_held(rng: np.random.Generator) -> None:
    strata = {found.about["stratum"] for found in study(hybrid(rng))}
    assert strata == {
        *(f"compress x SAE layer at λ {w}" for w in ("0", "0.1", "0.2")),
        *(f"compress x λ at SAE layer {layer}" for layer in ("none", "17")),
        *(f"SAE layer x λ at compress ratio {c}" for c in ("0.5", "0.7", "1")),
    }


def test_an_axis_of_the_hybrid_that_does_nothing_is_called_a_no_op(rng: np.random.Generator) -> None:
    found = [f for f in study(hybrid(rng, sae=0.0)) if "SAE layer x" in f.about["stratum"]]
    assert {f.verdict for f in found} == {"degenerate"}
    assert "SAE layer changes no score at all" in found[0].sentence


def test_a_cell_with_two_results_of_one_seed_has_no_value(rng: np.random.Generator) -> None:
    wh = hybrid(rng)
    again = wh.rows[0]
    wh.run({"factual": 9.0}, seed=42, kind="hybrid", compress_ratio=again["compress_ratio"], freeze_ratio=0.75,
           sae_layer=again["sae_layer"], rho_weight=again["rho_weight"], config={"freeze_fraction": 0.75})  # fmt: skip
    frame = wh.frame().astype({"sae_layer": float, "rho_weight": float, "margin": float})
    grids = list(grids_of(data_of(frame).freeze))
    assert all(9.2 not in grid.values for grid in grids)
    (first,) = [g for g in grids if g.words == "compress x λ at SAE layer none"]
    assert len(first.values) == 6  # the incomplete row or column is left out
    assert next(g for g in grids if g.axes[0] == "sae_layer").rows[0] == NO_LAYER


def test_permuted_columns_keep_the_error_rate_whatever_the_errors(rng: np.random.Generator) -> None:
    heavy = rng.standard_t(3, size=(60, 2, 4, 5))
    false = sum(min(test.p or 1.0 for test in permuted_columns(tables, rng, 199)) <= 0.05 for tables in heavy)
    assert false <= 9  # binomial(60, .05): more than 9 has probability .001
    statistic = permuted_columns(heavy[0], rng, 19)[0].statistic
    fit = additive(heavy[0][0])
    assert statistic == pytest.approx(np.abs(fit.residuals).max() / np.sqrt(fit.ss))
    flat = np.zeros((2, 4, 5))
    assert {test.status for test in permuted_columns(flat, rng)} == {"degenerate"}


def test_the_worst_of_several_tables_pays_for_them(rng: np.random.Generator) -> None:
    one = largest_residual(rng.normal(size=(4, 5)))
    assert one.p is not None
    assert largest_of_all(one, 4).p == pytest.approx(1 - (1 - one.p) ** 4)


def _runs(wh: Warehouse, cells: list[tuple[float, float]], rng: np.random.Generator, **config: int) -> None:
    for frozen, compress in cells:
        value = 0.3 * compress - 0.2 * frozen + rng.normal(0, 0.02)
        wh.run({"factual": value}, seed=0, kind="freeze", compress_ratio=compress, freeze_ratio=frozen, config=config)


def _asked(frame: pd.DataFrame) -> tuple[list[Finding], tuple[str, ...]]:
    for axis in ("sae_layer", "rho_weight", "margin"):
        if axis in frame:
            frame[axis] = frame[axis].astype(float)
    result = Anomalies([Additivity()]).compute(frame, StudyOptions(), np.random.default_rng(0))
    return list(result.findings), result.messages


def test_a_level_with_one_cell_costs_that_level_and_not_the_grid(rng: np.random.Generator) -> None:
    wh = Warehouse()
    grid = list(itertools.product((0.0, 0.25, 0.5), (0.7, 0.8, 1.0)))
    _runs(wh, [*grid, (0.9, 0.7), (0.0, 0.5)], rng, fine_tuned=1)
    findings, messages = _asked(wh.frame())
    assert [finding.tests[0].n for finding in findings] == [9]
    (freeze,) = [text for text in messages if "freeze ratio 0.9 is left out" in text]
    (compress,) = [text for text in messages if "compress ratio 0.5 is left out" in text]
    assert "no run at freeze ratio 0.25 with compress ratio 0.5" in compress and "incomplete" in freeze


def test_a_grid_of_which_nothing_is_complete_says_so(rng: np.random.Generator) -> None:
    for cells, words in (
        ([(0.0, 0.7), (0.5, 1.0)], "no grid"),
        ([(0.0, 0.7), (0.5, 0.7)], "no two axes vary together"),
    ):
        wh = Warehouse()
        _runs(wh, cells, rng, fine_tuned=1)
        findings, messages = _asked(wh.frame())
        assert not findings and sum(words in text for text in messages) == 1


def test_a_flag_that_its_neighbours_contradict_is_named_and_can_be_ignored(rng: np.random.Generator) -> None:
    wh = Warehouse()
    cells = list(itertools.product((0.0, 0.25, 0.5, 0.75, 0.9), (0.7, 1.0)))
    old = [(0.0, 1.0), (0.5, 1.0)]
    _runs(wh, [cell for cell in cells if cell not in old], rng, fine_tuned=1)
    _runs(wh, old, rng, fine_tuned=0)
    findings, messages = _asked(wh.frame())
    assert [finding.tests[0].n for finding in findings] == [6]
    (told,) = [text for text in messages if "--ignore-setting fine_tuned" in text]
    assert "freeze ratio 0 with compress ratio 1; freeze ratio 0.5 with compress ratio 1" in told
    findings, messages = _asked(without_settings(wh.frame(), ("fine_tuned",)))
    assert [finding.tests[0].n for finding in findings] == [10]
    assert not any("left out" in text or "--ignore-setting" in text for text in messages)
    with pytest.raises(InputError, match="no run states the setting 'fine_tunned'; there are: "):
        without_settings(wh.frame(), ("fine_tunned",))


@pytest.mark.parametrize("shape", [(4, 3), (3, 5), (5, 5)])
def test_the_largest_complete_table_is_found(shape: tuple[int, int], rng: np.random.Generator) -> None:
    for share in (0.5, 0.7, 0.9) * 4:
        there = rng.random(shape) < share
        best = 0
        for rows in itertools.chain.from_iterable(itertools.combinations(range(shape[0]), k) for k in range(2, 6)):
            for k in range(2, 6):
                for columns in itertools.combinations(range(shape[1]), k):
                    if there[np.ix_(rows, columns)].all():
                        best = max(best, len(rows) * len(columns))
        found = complete_table(there)
        if found is None:
            assert best == 0
        else:
            assert found[0].sum() * found[1].sum() == best and there[np.ix_(*found)].all()
