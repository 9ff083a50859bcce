"""Fidelity-Bench: rows by category that the stored probe scores reproduce."""

import json
import sqlite3
from contextlib import closing

import numpy as np
import pytest
from scipy.stats import spearmanr

from rhodb.records import ProbeScoreRow
from runners.fidelity_session import category_row, spearman_p


def rows_of(pairs):
    return [
        ProbeScoreRow(probe_set="s", probe_key=str(i), side=side, split="none", tokens=3, ce=ce)
        for i, both in enumerate(pairs)
        for side, ce in zip(("positive", "negative"), both, strict=True)
    ]


def test_a_category_by_hand():
    row = category_row("logic", rows_of([(1.0, 2.0), (2.0, 3.0), (3.0, 2.5), (4.0, 6.0)]))
    assert (row.category, row.n_probes) == ("logic", 4)
    assert row.mean_delta == pytest.approx((1 + 1 - 0.5 + 2) / 4)
    assert row.pair_accuracy == 0.75
    assert row.truth_corr == pytest.approx(0.8)  # ranks 1 2 3 4 and 1 3 2 4
    assert row.p == pytest.approx(8 / 24)  # of the 24 orders, 1 has |r| = 1 each way, 3 have 0.8 each way


def test_where_the_correlation_is_undefined_it_is_absent():
    row = category_row("logic", rows_of([(1.0, 2.0), (1.0, 3.0), (1.0, 2.5)]))
    assert row.truth_corr is None and row.p is None and row.pair_accuracy == 1


def test_few_pairs_get_an_exact_p_that_never_reaches_zero_and_many_the_approximation():
    rising = np.arange(6.0)
    assert spearman_p(rising, rising) == pytest.approx(2 / 720)
    assert spearman_p(rising, -rising) == pytest.approx(2 / 720)
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 8))
    assert spearman_p(a, b) == pytest.approx(spearmanr(a, b).pvalue, abs=0.03)
    a, b = rng.standard_normal((2, 30))
    assert spearman_p(a, b) == spearmanr(a, b).pvalue


@pytest.fixture
def two_categories(tiny_probes_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("categories")
    (folder / "factual").mkdir()
    source = json.loads((tiny_probes_folder / "factual" / "tiny.json").read_text())
    for name, part in (("mandela", source[:5]), ("medical", source[5:])):
        (folder / "factual" / f"{name}.json").write_text(json.dumps(part))
    return folder


@pytest.fixture
def common(tiny_model_folder, two_categories):
    return ["--model", tiny_model_folder, "--probes", two_categories, "--behaviors", "factual", "--max-length", "64"]


def test_an_audit_has_a_row_a_category_that_its_probe_scores_reproduce(rhodb, common, tmp_path):
    done = rhodb("run", "fidelity-bench", *common)
    assert done.returncode == 0, done.stderr
    with closing(sqlite3.connect(tmp_path / "results" / "master.db")) as db:
        assert db.execute("SELECT n_categories FROM fidelity_bench").fetchall() == [(2,)]
        found = db.execute(
            "SELECT category, n_probes, truth_corr, p, mean_delta FROM fidelity_categories ORDER BY 1"
        ).fetchall()
        assert [row[:2] for row in found] == [("mandela", 5), ("medical", 7)]
        for category, _, corr, p, delta in found:
            ces = db.execute(
                "SELECT max(CASE side WHEN 'positive' THEN ce END), max(CASE side WHEN 'negative' THEN ce END) "
                "FROM probe_scores s JOIN probes p ON p.id = s.probe_id JOIN probe_sets t ON t.id = p.set_id "
                "WHERE t.name = ? GROUP BY p.id",
                (category,),
            ).fetchall()
            true, false = np.array(ces).T
            assert corr == pytest.approx(spearmanr(true, false).statistic)
            assert p == pytest.approx(spearman_p(true, false))
            assert delta == pytest.approx(np.mean(false - true))
    again = rhodb("run", "fidelity-bench", *common, "--json")
    assert json.loads(again.stdout)["executed"] == []


def test_categories_can_be_chosen_and_wrong_ones_are_named(rhodb, common, tmp_path):
    wrong = rhodb("run", "fidelity-bench", *common, "--categories", "alchemy")
    assert wrong.returncode == 2 and "mandela, medical" in wrong.stderr
    assert not (tmp_path / "results").exists()
    chosen = rhodb("run", "fidelity-bench", *common, "--categories", "mandela", "--probes-per-behavior", "3")
    assert chosen.returncode == 0, chosen.stderr
    with closing(sqlite3.connect(tmp_path / "results" / "master.db")) as db:
        assert db.execute("SELECT category, n_probes FROM fidelity_categories").fetchall() == [("mandela", 3)]
