"""The keys of the reference that the other two files leave: counts, heaps, F ratios of Pattern 7, the U-shape, γ*."""

import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sample_tree import SHARED, needs_sample
from scipy import stats as scipy_stats

from analysis.anomalies.base import seed_table
from analysis.anomalies.study import Anomalies, data_of
from analysis.panel import Panel, Sheet
from analysis.stats.couplings import spearman_pairs
from analysis.stats.ratios import fieller, fieller_welch
from analysis.stats.slopes import fit_line
from analysis.stats.twoway import additive
from analysis.study import StudyOptions
from analysis.ushape.model import FREE, least_squares, optimal_weight
from rhodb.ingest.driver import IngestReport, ingest
from rhodb.warehouse import Warehouse

pytestmark = needs_sample
QWEN = "Qwen/Qwen2.5-7B-Instruct"
OPTIONS = StudyOptions(split="none")


def near(value: float) -> Any:
    return pytest.approx(value, abs=1e-9, rel=1e-9)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Warehouse, IngestReport]]:
    assert SHARED is not None
    with Warehouse.open(str(tmp_path_factory.mktemp("sample") / "master.db")) as wh:
        yield wh, ingest(wh, [SHARED / "legacy_sample"])


@pytest.fixture(scope="module")
def frame(loaded: tuple[Warehouse, IngestReport]) -> pd.DataFrame:
    return Anomalies().load(loaded[0], OPTIONS)


@pytest.fixture(scope="module")
def panel(frame: pd.DataFrame) -> Panel:
    return data_of(frame).panel


def ablations(panel: Panel) -> list[list[Sheet]]:
    found = [sheets for d in panel.designs if d.model == QWEN for sheets in d.ablations()]
    return sorted(found, key=lambda sheets: -len(sheets[0].seeds))


def one(wh: Warehouse, sql: str) -> Any:
    ((value,),) = [row.values() for row in wh.rows(sql)]
    return value


def test_files_and_rows(loaded: tuple[Warehouse, IngestReport], truth: dict[str, Any]) -> None:
    wh, report = loaded
    counts = truth["counts"]
    assert len(report.files) == counts["json_files"]
    assert report.problems == counts["unreadable_alignment_files"] == []
    files = {file.path.name: file for file in report.files}
    for name, rows in counts["alignment_rows_per_file"].items():
        # A stress test's file holds no alignment run; its four conditions are stress tests.
        assert files[name].read == (4 if name in counts["alignment_files_without_rows"] else rows), name
    for copy, original in counts["duplicate_files"].items():
        assert (files[copy].status, files[copy].already) == ("known", files[original].added)
    assert sum(len(file.failed_runs) for file in report.files) == counts["error_runs"]
    twice = sum(files[copy].read for copy in counts["duplicate_files"])
    stored = one(wh, "SELECT COUNT(*) FROM alignment_runs")
    assert stored == counts["alignment_rows_without_duplicate_files"] == counts["rows"]["alignment_runs"] - twice
    known = one(wh, "SELECT COUNT(*) FROM v_alignment WHERE d_factual_gap_none IS NOT NULL")
    assert known == counts["rows_with_factual_delta"] - twice
    assert stored - known == counts["rows_without_factual_delta"]


def test_rows_of_the_other_families(loaded: tuple[Warehouse, IngestReport], truth: dict[str, Any]) -> None:
    wh, report = loaded
    rows = truth["counts"]["rows"]
    scores = (
        "SELECT COUNT(*) FROM behavior_scores JOIN runs ON runs.id = run_id WHERE metric <> 'retention' AND "
        "(kind = '{0}' OR run_id IN (SELECT run_id FROM {1}))"
    )
    refused = sum("no share" in warning for file in report.files for warning in file.warnings)
    found = {
        "alignment_runs": sum(file.read for file in report.files if file.path.parent.name == "alignment") - 4,
        "hybrid_sweep": one(wh, "SELECT COUNT(*) FROM hybrid_sweep") - truth["counts"]["hybrid_replaced"],
        # One layer has no rho: a missing score is an absent row.
        "steering_heatmap": one(wh, scores.format("steering", "steering_heatmap")) + 1,
        "attack_defense": one(wh, "SELECT COUNT(*) FROM attack_defense"),
        "leaderboard": one(wh, scores.format("leaderboard", "leaderboard")) + refused,
        "fidelity_bench": one(wh, "SELECT COUNT(*) FROM v_fidelity_bench"),
        "cf90_multiseed": one(wh, "SELECT COUNT(*) FROM cf90_multiseed"),
        "freeze_sweep": one(wh, scores.format("freeze", "freeze_sweep")),
    }
    assert found == {name: count for name, count in rows.items() if name != "total"}
    assert sum(found.values()) == rows["total"]
    assert one(wh, "SELECT COUNT(*) FROM hybrid_sweep") == truth["counts"]["hybrid_files"]


def test_merged_files_state_no_cell_that_is_absent(
    loaded: tuple[Warehouse, IngestReport], truth: dict[str, Any]
) -> None:
    wh, _ = loaded
    merged = "FROM v_alignment WHERE experiment IN ('ablation_5seed_analysis', 'ablation_llama_pilot')"
    behaviors = truth["counts"]["missing_deltas_in_measured_runs"]
    known = sum(one(wh, f"SELECT COUNT(d_{name}_gap_none) {merged}") for name in behaviors)
    runs = one(wh, f"SELECT COUNT(*) {merged}")
    assert runs == truth["counts"]["merged_rows"]
    # Beside the behaviors that a file does not name: a null, and a list that is one short.
    assert SHARED is not None
    pilot = json.loads((SHARED / "legacy_sample/results/alignment/ablation_merged_llama_pilot.json").read_text())
    lists = [values for deltas in pilot["merged_deltas"].values() for values in deltas.values()]
    unmeasured = sum(2 - sum(value is not None for value in values) for values in lists)
    assert unmeasured == 2
    assert len(behaviors) * runs - known - unmeasured == truth["counts"]["merged_cells_absent_from_file"]


def test_a_hybrid_with_missing_scores_is_compared_in_pairs(
    loaded: tuple[Warehouse, IngestReport], truth: dict[str, Any]
) -> None:
    wh, _ = loaded
    scores = (
        "SELECT score.behavior, score.value FROM hybrid_sweep AS hybrid JOIN runs ON runs.id = hybrid.run_id "
        "JOIN behavior_scores AS score ON score.run_id = {} WHERE hybrid.compress_ratio = 0.7 "
        "AND hybrid.sae_layer IS NULL AND hybrid.rho_weight = 0.1 AND score.metric <> 'retention'"
    )
    after, start = (
        {row["behavior"]: row["value"] for row in wh.rows(scores.format(run))}
        for run in ("runs.id", "runs.baseline_run_id")
    )
    (known,) = truth["counts"]["hybrid_partial_after"].values()
    assert 0 < len(after) < len(start)
    assert np.mean([after[b] - start[b] for b in after]) == near(known["paired_mean_delta"])
    unpaired = np.mean(list(after.values())) - np.mean(list(start.values()))
    assert unpaired == near(known["difference_of_unpaired_means"])


def test_heaps_of_everything_called_7b(frame: pd.DataFrame, truth: dict[str, Any]) -> None:
    heap = frame[
        frame["model"].str.contains("7B") & frame["experiment"].fillna("").str.contains("rho_sft_sweep")
        & (frame["kind"] == "alignment") & (frame["metric"] == "gap")
    ]  # fmt: skip
    table = heap.pivot_table(index="run", columns="behavior", values="delta")
    copied = table.loc[[run for run in table.index if "mistral" in heap.loc[heap["run"] == run, "model"].iloc[0]]]
    rng = np.random.default_rng(0)
    for name, rows in (("without", table), ("with", pd.concat([table, copied]))):
        for pair, expected in truth["p02_correlation"][f"heap_any_7B_{name}_duplicates"].items():
            values = rows[pair.split("~")].to_numpy(dtype=float)
            assert len(values) == expected["n"]
            test = spearman_pairs(values, rng)[0, 1]
            assert test.statistic == near(expected["rho"])
            n, rho = len(values), expected["rho"]
            t = rho * math.sqrt((n - 2) / (1 - rho**2))
            assert 2 * scipy_stats.t.sf(abs(t), n - 2) == near(expected["p_t"])
            if n > 30:  # beyond, the t test is what rhodb uses, too
                assert test.p == near(expected["p_t"])


def test_the_f_ratios_of_pattern_7(panel: Panel, truth: dict[str, Any]) -> None:
    five, two = ablations(panel)
    small = {sheet.arm.condition: sheet for sheet in two}
    for behavior, expected in truth["p07_interaction"].items():
        fit = additive(seed_table(five, behavior)[0])
        # Published: against the spread over the two seeds of the first file, condition by condition.
        spread = [sheet.sample(behavior)[0].var(ddof=1) for sheet in two]
        assert len(spread) == expected["published_F_df_error"]
        f = fit.ss / fit.df / float(np.mean(spread))
        assert f == near(expected["published_F"])
        assert scipy_stats.f.sf(f, fit.df, len(spread)) == near(expected["published_F_p"])
        # What the error should be: the same condition and seed, run twice.
        twice = []
        for sheet in five:
            again = dict(zip(*reversed(small[sheet.arm.condition].sample(behavior)[:2]), strict=True))
            twice += [x - again[s] for x, s in zip(*sheet.sample(behavior)[:2], strict=True) if s in again]
        assert len(twice) == expected["replicate_df_error"]
        f = fit.ss / fit.df / (float(np.square(twice).sum()) / 2 / len(twice))
        assert f == near(expected["replicate_F"])
        assert scipy_stats.f.sf(f, fit.df, len(twice)) == near(expected["replicate_F_p"])


def test_the_u_shape_of_the_sweep(panel: Panel, truth: dict[str, Any]) -> None:
    expected = truth["ushape"]
    ladder = max((ladder for d in panel.designs if d.model == QWEN for ladder in d.ladders()), key=len)
    sds = np.array([sheet.sample("factual")[0].std(ddof=1) for sheet in ladder])
    doses = np.array([sheet.dose for sheet in ladder])
    assert dict(zip((f"{dose:.1f}" for dose in doses), sds.tolist(), strict=True)) == {
        dose: near(sd) for dose, sd in expected["sigma_factual"].items()
    }
    assert doses[sds.argmin()] == expected["lowest_observed_dose"]
    fit = least_squares(sds[None, :], doses, FREE)
    # An iteration, not a closed form: its minimum is as low as the reference's, to the digits both have settled.
    assert fit.objective[0] == pytest.approx(expected["loss"], rel=1e-9)
    assert fit.objective[0] <= expected["loss"] * (1 + 1e-12)
    names = ("sigma0", "tau", "sigma_p")
    assert fit.parameters[0] == pytest.approx([expected[name] for name in names], rel=1e-5)
    assert float(fit.optimum()[0]) == pytest.approx(expected["lambda_star"], rel=1e-5)
    assert float(optimal_weight(*(expected[name] for name in names))) == near(expected["lambda_star"])


def test_the_margin_of_no_effect_in_closed_form(panel: Panel, truth: dict[str, Any]) -> None:
    expected = truth["gamma"]["bias"]
    at_zero = next(s for s in panel.sheets if s.model == QWEN and s.arm.margin == 0.0)
    ladder = max((ladder for d in panel.designs if d.model == QWEN for ladder in d.ladders()), key=len)
    at_tenth = next(s for s in ladder if s.dose == 0.2)
    samples = [sheet.sample("bias")[0] for sheet in (at_zero, at_tenth)]
    means = [float(values.mean()) for values in samples]
    errors = [float(values.std(ddof=1)) / math.sqrt(len(values)) for values in samples]
    low, high = expected["gamma_star_fieller_95"]
    first, second = (error**2 for error in errors)
    found = fieller(
        -0.1 * means[0], means[1] - means[0], var_numerator=0.01 * first, var_denominator=first + second,
        covariance=0.1 * first, df=expected["compare"]["welch_df"],
    )  # fmt: skip
    assert found.value == near(expected["gamma_star"])
    assert (found.low, found.high) == (near(low), near(high))
    # The reference takes the degrees of freedom of the swing for all ratios; rhodb's own set takes each ratio's.
    own = fieller_welch(means, errors, [len(s) for s in samples], numerator=[-0.1, 0.0], denominator=[-1.0, 1.0])
    assert own.value == near(expected["gamma_star"])
    assert own.low is not None and own.high is not None and low < own.low < own.high < high


def sweep(panel: Panel) -> list[Sheet]:
    return max((ladder for d in panel.designs if d.model == QWEN for ladder in d.ladders()), key=len)


def test_how_many_correlations_seem_significant(panel: Panel, truth: dict[str, Any]) -> None:
    expected = truth["p02_correlation"]
    at_zero = next(s for s in panel.sheets if s.model == QWEN and s.arm.margin == 0.0)
    rng, behaviors = np.random.default_rng(0), ("factual", "toxicity", "bias", "sycophancy")
    tests = []
    for sheet in (*sweep(panel), at_zero):
        tests += list(spearman_pairs(np.column_stack([sheet.column(b) for b in behaviors]), rng).values())
    by_t = [2 * scipy_stats.t.sf(abs(r) * math.sqrt(3 / (1 - r * r)), 3) for r in (test.statistic for test in tests)]
    assert len(tests) == expected["n_tests"]
    assert sum(p < 0.05 for p in by_t) == expected["n_p_t_below_0.05"]
    assert sum(test.p < 0.05 for test in tests) == expected["n_p_exact_below_0.05"]
    assert min(test.p for test in tests) == near(expected["smallest_p_exact"])
    assert min(test.floor for test in tests) == near(expected["smallest_possible_p_exact_without_ties"])
    # Of five values without ties, t calls significant what the exact test gives .0833: |rho| of .9 and more.
    rank = np.column_stack([np.arange(5.0), [0.0, 1.0, 2.0, 4.0, 3.0]])
    assert spearman_pairs(rank, rng)[0, 1].p * len(tests) == near(expected["expected_false_positives_p_t_below_0.05"])


def test_layers_that_were_and_were_not_scored(frame: pd.DataFrame, truth: dict[str, Any]) -> None:
    steering = frame[(frame["kind"] == "steering") & frame["control"].isna() & (frame["metric"] != "retention")]
    for model, found in truth["p04_layers"].items():
        peaks = []
        own = steering[(steering["model"] == model) & (steering["alpha"] == 4.0)]
        for behavior, expected in found["alpha_4"].items():
            if isinstance(expected, dict):
                rows = own[(own["behavior"] == behavior) & own["delta"].notna()]
                assert rows["layer"].nunique() == expected["n_layers"] - expected["n_missing"]
                peaks.append(expected["peak_layer"])
        assert (max(peaks) == min(peaks)) is found["alpha_4"]["converges"]


def test_a_gap_that_never_changes_correlates_with_nothing(truth: dict[str, Any]) -> None:
    for expected in truth["p08_freeze"]["qwen2.5-7b"].values():
        gaps = np.array([[float(ratio), gap] for ratio, gap in expected["gap"].items()])
        assert expected["gap_spearman_with_freeze"] is None
        assert spearman_pairs(gaps, np.random.default_rng(0))[0, 1].status == "degenerate"


def test_a_second_margin_at_the_mean_dose_moves_no_slope(panel: Panel, truth: dict[str, Any]) -> None:
    at_zero = next(s for s in panel.sheets if s.model == QWEN and s.arm.margin == 0.0)
    sheets = [*sweep(panel), at_zero]
    for seed, slope in truth["p10_responder"]["slope_margins_pooled"].items():
        points = [(s.dose, s.column("toxicity")[s.seeds.index(int(seed))]) for s in sheets]
        line = fit_line(*(np.array(side, dtype=float) for side in zip(*points, strict=True)))
        assert line is not None and line.slope == near(slope)
    assert truth["p01_variance"]["artefact_of_pooling"]
