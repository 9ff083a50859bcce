"""The keys of the reference that test_sample_truth.py leaves: dose contrasts, margins, seeds, distances, cells."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sample_tree import SHARED, needs_sample
from scipy import stats as scipy_stats

from analysis.anomalies.base import seed_table
from analysis.anomalies.dose import reversals
from analysis.anomalies.geometry import Cloud
from analysis.anomalies.study import Anomalies, data_of
from analysis.panel import Panel, Sheet
from analysis.stats.effect_size import hedges_correction, hedges_g
from analysis.stats.intervals import welch_error, welch_test
from analysis.stats.outliers import largest_z
from analysis.stats.permutation import two_sample_test
from analysis.stats.ratios import fieller_welch
from analysis.stats.slopes import fit_line, seed_slopes, slope_difference
from analysis.stats.twoway import additive
from analysis.study import StudyOptions
from analysis.summaries import Ablation, zero_mean_test

pytestmark = needs_sample
QWEN, LLAMA = "Qwen/Qwen2.5-7B-Instruct", "mlx-community/Meta-Llama-3.1-8B-Instruct-4bit"
OPTIONS = StudyOptions(split="none")
DOSES = np.array([0.0, 0.1, 0.2, 0.5])


def near(value: float, *, scale: float = 1e-9) -> Any:
    return pytest.approx(value, abs=scale, rel=1e-9)


RETENTION = """
SELECT freeze_ratio, compress_ratio, behavior, value FROM freeze_sweep JOIN behavior_scores USING (run_id)
WHERE metric = 'retention'
"""


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
    from rhodb.ingest.driver import ingest
    from rhodb.warehouse import Warehouse

    assert SHARED is not None
    with Warehouse.open(str(tmp_path_factory.mktemp("sample") / "master.db")) as wh:
        ingest(wh, [SHARED / "legacy_sample"])
        yield Anomalies().load(wh, OPTIONS), wh.frame(RETENTION)


@pytest.fixture(scope="module")
def frame(loaded: tuple[pd.DataFrame, pd.DataFrame]) -> pd.DataFrame:
    return loaded[0]


@pytest.fixture(scope="module")
def panel(frame: pd.DataFrame) -> Panel:
    return data_of(frame).panel


def sweep(panel: Panel, model: str = QWEN) -> list[Sheet]:
    return max((ladder for d in panel.designs if d.model == model for ladder in d.ladders()), key=len)


def no_margin(panel: Panel) -> Sheet:
    return next(sheet for sheet in panel.sheets if sheet.model == QWEN and sheet.arm.margin == 0.0)


def ablation(panel: Panel) -> list[Sheet]:
    return next(s for d in panel.designs if d.model == QWEN for s in d.ablations() if len(s[0].seeds) == 5)


def by_seed(sheet: Sheet, behavior: str) -> dict[int, float]:
    values, seeds, _ = sheet.sample(behavior)
    return dict(zip(seeds, values.tolist(), strict=True))


def check_contrast(a: Sheet, b: Sheet, behavior: str, expected: dict[str, float]) -> None:
    """b against a: every key of a contrast, by the functions of the statistics layer."""
    first, second = by_seed(b, behavior), by_seed(a, behavior)
    x, y = np.array(list(first.values())), np.array(list(second.values()))
    assert (len(x), len(y)) == (expected["n_a"], expected["n_b"])
    welch = welch_test(x, y)
    assert welch.effect is not None and welch.effect.value is not None
    side = math.copysign(1.0, welch.effect.value * expected["diff"])
    assert side * welch.effect.value == near(expected["diff"])
    assert side * (welch.statistic or 0) == near(expected["welch_t"])
    assert welch_error(x, y)[1] == near(expected["welch_df"])
    assert welch.p == near(expected["welch_p"])
    g = hedges_g(x, y).value
    assert g is not None
    assert side * g == near(expected["hedges_g_gamma"])
    cohen = g / hedges_correction(len(x) + len(y) - 2)
    assert side * cohen == near(expected["cohen_d"])
    # The reference's other g takes Hedges' approximation 1 - 3 / (4 df - 1) instead of the exact factor.
    assert side * cohen * (1 - 3 / (4 * (len(x) + len(y) - 2) - 1)) == near(expected["hedges_g"])
    student = scipy_stats.ttest_ind(x, y)
    t = cohen / math.sqrt(1 / len(x) + 1 / len(y))
    assert (side * t, float(student.pvalue)) == (near(expected["student_t"]), near(expected["student_p"]))
    assert two_sample_test(x, y, np.random.default_rng(0)).p == near(expected["permutation_p"])
    paired = np.array([first[seed] - second[seed] for seed in first])
    test = zero_mean_test(paired)
    assert side * (test.statistic or 0) == near(expected["paired_t"])
    assert test.p == near(expected["paired_p"])
    assert side * paired.mean() / paired.std(ddof=1) == near(expected["paired_dz"])


def test_every_dose_against_none(panel: Panel, truth: dict[str, Any]) -> None:
    strata = {f"{sheet.dose:.1f}": sheet for sheet in sweep(panel)}
    for dose in ("0.1", "0.2", "0.5"):
        for behavior, expected in truth["effects_dose"][dose].items():
            check_contrast(strata["0.0"], strata[dose], behavior, expected)
    for dose, behaviors in truth["effects_dose"]["versus_zero"].items():
        for behavior, expected in behaviors.items():
            test = zero_mean_test(strata[dose].sample(behavior)[0])
            assert (test.statistic, test.p) == (near(expected["t"]), near(expected["p"]))


def test_every_pair_of_conditions_in_every_number(panel: Panel, truth: dict[str, Any]) -> None:
    sheets = {sheet.arm.condition: sheet for sheet in ablation(panel)}
    for pair, behaviors in truth["effects_ablation"].items():
        if "~" in pair:
            a, b = pair.split("~")
            for behavior, expected in behaviors.items():
                check_contrast(sheets[a], sheets[b], behavior, expected)
    for key, of in (("mean_delta", lambda v: v.mean()), ("sd_delta", lambda v: v.std(ddof=1))):
        for condition, behaviors in truth["effects_ablation"][key].items():
            for behavior, expected in behaviors.items():
                assert of(sheets[condition].sample(behavior)[0]) == near(expected)


def test_condition_means_of_the_study(frame: pd.DataFrame, truth: dict[str, Any]) -> None:
    found = Ablation().compute(frame, OPTIONS, np.random.default_rng(0)).findings
    means = {(f.about["behavior"], round(f.effect.value or 0, 12)) for f in found if f.about["model"] == QWEN}
    for behaviors in truth["effects_ablation"]["mean_delta"].values():
        for behavior, expected in behaviors.items():
            assert (behavior, round(expected, 12)) in means


def test_two_margins(panel: Panel, truth: dict[str, Any]) -> None:
    at_zero, at_tenth = no_margin(panel), next(s for s in sweep(panel) if s.dose == 0.2)
    for behavior, expected in truth["gamma"].items():
        a, b = (sheet.sample(behavior)[0] for sheet in (at_zero, at_tenth))
        assert a.mean() == near(expected["mean_margin_0"])
        assert b.mean() == near(expected["mean_margin_0.1"])
        assert b.mean() - a.mean() == near(expected["swing"])
        check_contrast(at_zero, at_tenth, behavior, expected["compare"])
        if expected["gamma_star"] is not None:
            found = fieller_welch(
                [a.mean(), b.mean()], [a.std(ddof=1) / math.sqrt(5), b.std(ddof=1) / math.sqrt(5)], [5, 5],
                numerator=[-0.1, 0.0], denominator=[-1.0, 1.0],
            )  # fmt: skip
            assert found.value == near(expected["gamma_star"])


def test_spread_without_margin_and_pooled(panel: Panel, truth: dict[str, Any]) -> None:
    expected = truth["p01_variance"]
    at_zero, at_tenth = no_margin(panel), next(s for s in sweep(panel) if s.dose == 0.2)
    samples = {
        "margin_0.0": lambda b: at_zero.sample(b)[0],
        "margin_0.1": lambda b: at_tenth.sample(b)[0],
        "pooled": lambda b: np.concatenate([at_zero.sample(b)[0], at_tenth.sample(b)[0]]),
    }
    for stratum, values_of in samples.items():
        for behavior, known in expected[stratum]["0.2"].items():
            values = values_of(behavior)
            assert len(values) == known["n"]
            for key, number in (("mean", values.mean()), ("sd", values.std(ddof=1)), ("range", np.ptp(values))):
                assert number == near(known[key]), (stratum, behavior, key)
        ratio = values_of("bias").std(ddof=1) / values_of("sycophancy").std(ddof=1)
        assert ratio == near(expected["sd_ratio_bias_over_sycophancy_at_0.2"][stratum])
    within = [
        math.sqrt((at_zero.sample(b)[0].var(ddof=1) + at_tenth.sample(b)[0].var(ddof=1)) / 2)
        for b in ("bias", "sycophancy")
    ]
    assert within[0] / within[1] == near(expected["sd_ratio_bias_over_sycophancy_at_0.2"]["pooled_within"])
    for dose in ("0.0", "0.1", "0.5"):  # one margin only: the pooled stratum is the sweep's
        sheet = next(s for s in sweep(panel) if f"{s.dose:.1f}" == dose)
        for behavior, known in expected["pooled"][dose].items():
            assert sheet.sample(behavior)[0].std(ddof=1) == near(known["sd"])


def test_what_single_seeds_do_over_the_doses(panel: Panel, truth: dict[str, Any]) -> None:
    expected = truth["p03_monotonic"]
    ladder = sweep(panel)
    table, seeds, _ = seed_table(ladder, "factual")
    for column, seed in zip(table.T, seeds, strict=True):
        assert column.tolist() == [near(value) for value in expected["per_seed"][str(seed)].values()]
        assert bool((np.diff(column) >= 0).all()) is expected["seed_monotonic"][str(seed)]
    assert table.mean(axis=1).tolist() == [near(value) for value in expected["mean"].values()]
    assert bool((np.diff(table.mean(axis=1)) >= 0).all()) is expected["mean_monotonic"]
    found = reversals(table, DOSES.tolist(), seeds)
    assert len(found) == expected["n_factual_reversals"] == expected["n_reversals"]
    assert sorted({seed for seed, *_ in found}) == sorted(expected["seeds_with_factual_reversal"])
    assert len({seed for seed, *_ in found}) == expected["n_nonmonotonic_seeds"]
    known = expected["regression_to_mean"]
    assert np.corrcoef(table[0], table[1] - table[0])[0, 1] == near(known["pearson_start_vs_change"])
    assert np.corrcoef(table[0], table[1])[0, 1] == near(known["pearson_start_vs_next"])
    line = fit_line(table[0], table[1])
    assert line is not None and line.slope == near(known["slope_next_on_start"])
    assert seeds[int(table[0].argmax())] == known["largest_start_seed"]


def test_distances_with_and_without_refusal(panel: Panel, truth: dict[str, Any]) -> None:
    expected = truth["p05_clustering"]
    cloud = Cloud.of(ablation(panel))
    assert cloud is not None
    assert len(cloud.points) == expected["n_vectors"]
    keep = [i for i, behavior in enumerate(cloud.behaviors) if behavior != "refusal"]
    smaller = Cloud(
        points=cloud.points[:, keep], labels=cloud.labels, runs=cloud.runs, seeds=cloud.seeds,
        behaviors=tuple(cloud.behaviors[i] for i in keep),
    )  # fmt: skip
    for key, found in (
        ("distance", cloud.distances(standardised=False)),
        ("distance_without_refusal", smaller.distances(standardised=False)),
        ("distance_standardised", cloud.distances(standardised=True)),
    ):
        assert {"~".join(pair): value for pair, value in found.items()} == {
            k: near(v) for k, v in expected[key].items()
        }
        assert "~".join(min(found, key=found.__getitem__)) == expected[f"{key}_closest"]
        assert "~".join(max(found, key=found.__getitem__)) == expected[f"{key}_farthest"]
    shares = np.linalg.svd(cloud.points - cloud.points.mean(axis=0), compute_uv=False) ** 2
    assert 100 * shares[:2].sum() / shares.sum() == near(expected["explained_variance_2pc_percent"])
    for condition, centroid in expected["centroid"].items():
        mean = cloud.points[np.array(cloud.labels) == condition].mean(axis=0)
        assert dict(zip(cloud.behaviors, mean.tolist(), strict=True)) == {b: near(v) for b, v in centroid.items()}


def test_slopes_on_two_models(panel: Panel, truth: dict[str, Any]) -> None:
    for behavior, expected in truth["p06_transfer"].items():
        if isinstance(expected, dict):
            lines = []
            for model in (QWEN, LLAMA):
                ladder = sweep(panel, model)
                x = np.concatenate([np.full(len(s.sample(behavior)[0]), s.dose) for s in ladder])
                lines.append(fit_line(x, np.concatenate([s.sample(behavior)[0] for s in ladder])))
            first, second = lines
            assert first is not None and second is not None
            assert first.slope == near(expected["qwen_slope"])
            assert second.slope == near(expected["llama_slope"])
            assert (abs(first.slope / second.slope - 1) <= 0.15) is expected["within_15_percent"]
            assert first.df + second.df == expected["slope_difference_df"]
            assert slope_difference(first, second).p == near(expected["slope_difference_p"])
    assert truth["p06_transfer"]["all_within_15_percent"]


def test_every_cell_of_condition_by_seed(panel: Panel, truth: dict[str, Any]) -> None:
    sheets = sorted(ablation(panel), key=lambda sheet: sheet.arm.condition)
    for behavior, expected in truth["p07_interaction"].items():
        table, seeds, _ = seed_table(sheets, behavior)
        fit = additive(table)
        assert fit.ss / fit.df == near(expected["ms_interaction"])
        for sheet, row in zip(sheets, fit.residuals, strict=True):
            for seed, residual in zip(seeds, row, strict=True):
                assert residual == near(expected["residual"][f"{sheet.arm.condition}~{seed}"])
        # The cell's t: its shift of the mean, taken out, against what is left with one degree of freedom less.
        i, j = np.unravel_index(np.abs(fit.residuals).argmax(), table.shape)
        share = (1 - 1 / table.shape[0]) * (1 - 1 / table.shape[1])
        own = float(fit.residuals[i, j]) ** 2 / share
        t = math.copysign(math.sqrt(own / ((fit.ss - own) / (fit.df - 1))), fit.residuals[i, j])
        assert t == near(expected["cell_t"])
        p = 2 * float(scipy_stats.t.sf(abs(t), fit.df - 1))
        assert p == near(expected["cell_p"])
        assert min(1.0, p * table.size) == near(expected["cell_p_bonferroni"])


def test_freeze_gaps_are_the_same_at_every_ratio(
    loaded: tuple[pd.DataFrame, pd.DataFrame], truth: dict[str, Any]
) -> None:
    # All cells of the family: those that were neither compressed nor fine-tuned are stored as baselines.
    rows = loaded[1]
    for behavior, expected in truth["p08_freeze"]["qwen2.5-7b"].items():
        cells = rows[rows["behavior"] == behavior].pivot(index="freeze_ratio", columns="compress_ratio", values="value")
        cells = cells.dropna(axis=1)
        signed = np.abs(cells[cells.columns[-1]] - cells[cells.columns[0]]).to_numpy()
        assert signed.tolist() == [near(value) for value in expected["gap"].values()]
        assert len(signed) == expected["n_gaps"]
        assert signed.mean() == near(expected["gap_mean"])
        assert signed.std(ddof=1) == near(expected["gap_sd"])
        assert signed.std(ddof=1) / signed.mean() == near(expected["gap_cv"])
        assert expected["additive"] and expected["testable"]


def test_baselines_and_single_seeds_at_the_highest_dose(
    frame: pd.DataFrame, panel: Panel, truth: dict[str, Any]
) -> None:
    ladder = sweep(panel)
    top = ladder[-1]
    for behavior, expected in truth["p09_baseline"].items():
        if isinstance(expected, dict):
            base = top.baselines[:, top.behaviors.index(behavior)]
            assert len(base) == expected["n_seeds"]
            assert base.mean() == near(expected["grand_mean"])
            assert base.std(ddof=1) == near(expected["between_seed_sd"])
            assert np.ptp(base) == near(expected["max_difference"])
            assert len(np.unique(base)) == expected["n_distinct_values"]
    known = truth["p10_responder"]
    table, seeds, _ = seed_table(ladder, "toxicity")
    slopes = dict(zip(seeds, seed_slopes(DOSES, table.T).tolist(), strict=True))
    last = dict(zip(seeds, table[-1].tolist(), strict=True))
    assert {str(s): v for s, v in last.items()} == {s: near(v) for s, v in known["value_at_0.5"].items()}
    assert table[-1].mean() == near(known["mean_at_0.5"])
    assert table[-1].std(ddof=1) == near(known["sd_at_0.5"])
    z = (table[-1] - table[-1].mean()) / table[-1].std(ddof=1)
    assert {str(s): v for s, v in zip(seeds, z.tolist(), strict=True)} == {
        s: near(v) for s, v in known["z_at_0.5"].items()
    }
    assert max(last, key=last.__getitem__) == known["top_seed"]
    assert max(slopes, key=slopes.__getitem__) == known["steepest_seed"]
    assert min(slopes, key=slopes.__getitem__) == known["flattest_seed"]
    assert min(slopes.values()) == near(known["slope_min"])
    assert max(slopes.values()) == near(known["slope_max"])
    assert max(slopes.values()) / min(slopes.values()) == near(known["slope_ratio"])
    assert largest_z(len(seeds)) == near(known["max_possible_z"])
    highest = {f"{s.dose:.1f}": seeds[int(row.argmax())] for s, row in zip(ladder, table, strict=True)}
    assert highest == known["highest_seed_per_dose"]
