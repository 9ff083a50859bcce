"""Detectors and studies on the ingested sample tree against the recomputed numbers of the reference."""

import math
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sample_tree import SHARED, needs_sample

from analysis.anomalies.dose import reversals
from analysis.anomalies.study import Anomalies, data_of
from analysis.answers import AnswerOptions
from analysis.effects import Effects
from analysis.findings import Finding, Result
from analysis.gamma.study import Gamma
from analysis.panel import Design, Panel, Sheet
from analysis.quality.study import Quality
from analysis.stats.couplings import spearman_pairs
from analysis.stats.twoway import additive, largest_residual, tukey_one_df
from analysis.study import StudyOptions
from analysis.summaries import DoseResponse

pytestmark = needs_sample
QWEN, LLAMA = "Qwen/Qwen2.5-7B-Instruct", "mlx-community/Meta-Llama-3.1-8B-Instruct-4bit"
OPTIONS = StudyOptions(split="none")
DOSES = (0.0, 0.1, 0.2, 0.5)


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, pd.DataFrame]]:
    from rhodb.ingest.driver import ingest
    from rhodb.warehouse import Warehouse

    assert SHARED is not None
    with Warehouse.open(str(tmp_path_factory.mktemp("sample") / "master.db")) as wh:
        ingest(wh, [SHARED / "legacy_sample"])
        studies = (Anomalies(), Quality(), Effects())
        yield {study.name: study.load(wh, OPTIONS) for study in studies}


@pytest.fixture(scope="module")
def effects(frames: dict[str, pd.DataFrame]) -> Result:
    return Effects().compute(frames["effects"], OPTIONS, np.random.default_rng(0))


@pytest.fixture(scope="module")
def panel(frames: dict[str, pd.DataFrame]) -> Panel:
    return data_of(frames["anomalies"]).panel


@pytest.fixture(scope="module")
def result(frames: dict[str, pd.DataFrame]) -> Result:
    return Anomalies().compute(frames["anomalies"], OPTIONS, np.random.default_rng(0))


def sweep(panel: Panel, model: str = QWEN) -> list[Sheet]:
    """The five-seed dose series of a model."""
    ladders = [ladder for design in panel.designs if design.model == model for ladder in design.ladders()]
    return max(ladders, key=len)


def ablation(panel: Panel) -> list[Sheet]:
    found: list[Design] = [d for d in panel.designs if d.model == QWEN]
    return next(s for d in found for s in d.ablations() if len(s[0].seeds) == 5)


def of(result: Result, detector: str, **about: str) -> list[Finding]:
    return [
        f
        for f in result.findings
        if f.about["detector"] == detector and all(f.about[key] == value for key, value in about.items())
    ]


def test_means_and_spreads_of_every_stratum(panel: Panel, truth: dict[str, Any]) -> None:
    strata = {f"{sheet.dose:.1f}": sheet for sheet in sweep(panel)}
    for dose, behaviors in truth["p01_variance"]["margin_0.1"].items():
        for behavior, expected in behaviors.items():
            values = strata[dose].column(behavior)
            assert len(values) == expected["n"]
            assert values.mean() == pytest.approx(expected["mean"], abs=1e-9)
            assert values.std(ddof=1) == pytest.approx(expected["sd"], abs=1e-9)
            assert np.ptp(values) == pytest.approx(expected["range"], abs=1e-9)


def test_correlations_and_their_exact_p(panel: Panel, truth: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    strata = {("margin_0.1", f"{s.dose:.1f}"): s for s in sweep(panel)}
    strata["margin_0.0", "0.2"] = next(s for s in panel.sheets if s.arm.margin == 0.0)
    checked = 0
    for (margin, dose), sheet in strata.items():
        tests = spearman_pairs(sheet.values, rng)
        for pair, expected in truth["p02_correlation"][margin][dose].items():
            a, b = (sheet.behaviors.index(name) for name in pair.split("~"))
            test = tests[min(a, b), max(a, b)]
            assert test.statistic == pytest.approx(expected["rho"], abs=1e-9)
            assert test.p == pytest.approx(expected["p_exact"], abs=1e-9)
            checked += 1
    assert checked == truth["p02_correlation"]["n_tests"]


def test_no_coupling_of_five_seeds_is_supported(result: Result) -> None:
    assert not [f for f in of(result, "coupling") if f.verdict == "supported"]


def test_reversals_are_regression_to_the_mean(panel: Panel, result: Result, truth: dict[str, Any]) -> None:
    ladder = sweep(panel)
    table = np.array([sheet.column("factual") for sheet in ladder])
    seeds = list(ladder[0].seeds)
    expected = truth["p03_monotonic"]
    found = reversals(table, list(DOSES), seeds)
    assert [(r[0], r[1], r[2]) for r in found] == [(r["seed"], r["from"], r["to"]) for r in expected["reversals"]]
    assert [r[3] for r in found] == pytest.approx([r["delta"] for r in expected["reversals"]], abs=1e-9)
    (finding,) = of(result, "reversal", behavior="factual", model=QWEN)
    assert finding.verdict == "artefact"
    assert finding.effect.value == pytest.approx(expected["regression_to_mean"]["slope_next_on_start"], abs=1e-9)
    change = float(re.search(r"correlate at (-?[\d.]+)", finding.sentence)[1])  # type: ignore[index]
    assert change == pytest.approx(expected["regression_to_mean"]["pearson_start_vs_change"], abs=0.005)


def test_peak_layers(result: Result, truth: dict[str, Any]) -> None:
    for model, behaviors in truth["p04_layers"].items():
        for behavior, expected in behaviors["alpha_4"].items():
            if isinstance(expected, dict):
                (finding,) = of(result, "layers", model=model, behavior=behavior)
                assert finding.effect.value == expected["peak_layer"]
                at = finding.groups[0].seeds.index(expected["peak_layer"])
                assert finding.groups[0].values[at] == pytest.approx(expected["peak_delta"], abs=1e-9)
                assert finding.verdict == "not enough data"  # no random vectors, no null
        spans = [f for f in of(result, "layers", model=model) if " / " in f.about["behavior"]]
        assert [f.effect.value for f in spans] == [behaviors["alpha_4"]["span"]]


def test_condition_geometry(result: Result, truth: dict[str, Any]) -> None:
    finding = next(f for f in of(result, "geometry", model=QWEN) if f.tests[0].n == 20)
    notes = {note.partition(": ")[0]: note.partition(": ")[2] for note in finding.notes}
    for name, key in (("raw", "distance"), ("standardised", "distance_standardised")):
        found = dict(part.rsplit(" ", 1) for part in notes[f"{name} distances"].split(", "))
        for pair, value in truth["p05_clustering"][key].items():
            assert float(found[pair]) == pytest.approx(value, abs=1e-9)
    for name, key in (("raw", "explained_variance_ratio"), ("standardised", "explained_variance_ratio_standardised")):
        shares = [float(x) for x in notes[f"explained variance, {name}"].split(", ")]
        assert shares == pytest.approx(truth["p05_clustering"][key], abs=1e-9)
    closest = truth["p05_clustering"]["distance_standardised_closest"].split("~")
    assert all(name in finding.sentence for name in closest)


def test_transfer_slopes(result: Result, truth: dict[str, Any]) -> None:
    for behavior, expected in truth["p06_transfer"].items():
        if isinstance(expected, dict):
            (finding,) = of(result, "transfer", behavior=behavior)
            assert finding.about["model"] == f"{QWEN} / {LLAMA}"
            assert finding.effect.value == pytest.approx(expected["ratio"], abs=1e-9)
            difference = finding.tests[1]
            assert difference.statistic == pytest.approx(-expected["slope_difference_t"], abs=1e-9)
            assert difference.p == pytest.approx(expected["slope_difference_p"], abs=1e-9)
            assert finding.verdict != "supported"  # a ratio near 1 is not yet equivalence


def test_condition_by_seed_interaction(panel: Panel, result: Result, truth: dict[str, Any]) -> None:
    sheets = sorted(ablation(panel), key=lambda sheet: sheet.arm.condition)
    for behavior, expected in truth["p07_interaction"].items():
        table = np.array([sheet.column(behavior) for sheet in sheets])
        fit = additive(table)
        assert fit.ss == pytest.approx(expected["ss_interaction"], abs=1e-9)
        assert fit.df == expected["df_interaction"]
        at = np.abs(fit.residuals).argmax()
        assert fit.residuals.ravel()[at] == pytest.approx(expected["max_residual"], abs=1e-9)
        tukey, largest = tukey_one_df(table), largest_residual(table)
        assert tukey.statistic == pytest.approx(expected["tukey_F"], rel=1e-6)
        assert tukey.p == pytest.approx(expected["tukey_p"], abs=1e-9)
        assert largest.statistic == pytest.approx(expected["max_normed_residual"], abs=1e-9)
        p = expected["max_normed_residual_p_mc"]
        # Both sides are Monte Carlo: 1e5 draws here, at least as many there.
        assert largest.p == pytest.approx(p, abs=6 * math.sqrt(2 * p * (1 - p) / 1e5) + 1e-5)
        finding = next(f for f in of(result, "interaction", behavior=behavior) if f.tests[0].n == 20)
        assert finding.effect.value == pytest.approx(expected["planted_size_estimate"], abs=1e-9)
        assert f"of {expected['max_condition']}, seed {expected['max_seed']}," in finding.sentence


def test_exact_additivity_is_called_an_artefact(result: Result, truth: dict[str, Any]) -> None:
    for behavior, expected in truth["p08_freeze"]["qwen2.5-7b"].items():
        (finding,) = of(result, "additivity", behavior=behavior, metric="retention")
        assert abs(finding.effect.value or 0.0) == pytest.approx(expected["gap_mean"], abs=1e-9)
        assert finding.verdict in ("artefact", "degenerate")


def test_shared_baselines_are_reported_as_such(result: Result, truth: dict[str, Any]) -> None:
    assert truth["p09_baseline"]["identical"]
    findings = of(result, "baseline")
    assert {f.about["model"] for f in findings} >= {QWEN, LLAMA}
    assert {f.verdict for f in findings} == {"artefact"}


def test_slopes_of_seeds(result: Result, truth: dict[str, Any]) -> None:
    expected = truth["p10_responder"]
    (finding,) = of(result, "responder", model=QWEN, behavior="toxicity")
    slopes = dict(part.split(": ") for part in finding.notes[0].removeprefix("slopes: ").split(", "))
    for seed, slope in expected["slope"].items():
        assert float(slopes[seed]) == pytest.approx(slope, abs=1e-9)
    at_top = finding.tests[2]
    assert at_top.statistic == pytest.approx(expected["grubbs_G"], abs=1e-9)
    assert at_top.p == pytest.approx(expected["grubbs_p"], abs=1e-9)
    assert finding.verdict == "not supported"


def test_pooling_over_gamma_is_named(frames: dict[str, pd.DataFrame], truth: dict[str, Any]) -> None:
    quality = Quality().compute(frames["quality"], OPTIONS, np.random.default_rng(0))
    shares = [f.effect.value for f in of(quality, "pooled strata", behavior="bias")]
    expected = truth["p01_variance"]["share_of_pooled_bias_variance_between_margins"]
    assert any(share == pytest.approx(expected, abs=1e-9) for share in shares)
    assert {f.verdict for f in of(quality, "pooled strata")} == {"artefact"}
    checks = {f.about["detector"] for f in quality.findings}
    assert checks >= {"contradiction", "survivorship", "seeds"}


def test_rising_doses_are_supported(frames: dict[str, pd.DataFrame], truth: dict[str, Any]) -> None:
    found = DoseResponse().compute(frames["anomalies"], OPTIONS, np.random.default_rng(0))
    (factual,) = [f for f in of(found, "dose", model=QWEN, behavior="factual") if len(f.groups) == 4]
    means = [group.mean for group in factual.groups]
    assert means == pytest.approx(list(truth["p03_monotonic"]["mean"].values()), abs=1e-9)
    assert factual.verdict == "supported"


def test_two_margins_of_two_experiments_are_compared_by_every_study(
    frames: dict[str, pd.DataFrame], effects: Result, truth: dict[str, Any]
) -> None:
    # The control without a margin was run apart; each of two experiments has the arm at γ 0.1 that it lacks.
    answer = Gamma().compute(frames["effects"], "db", AnswerOptions(split="none"), np.random.default_rng(0))
    inputs = answer.drawing.inputs
    for behavior, expected in truth["gamma"].items():
        at_zero, at_tenth = inputs.sweeps[behavior]
        assert (at_zero.mean, at_tenth.mean) == pytest.approx((expected["mean_margin_0"], expected["mean_margin_0.1"]))
        pairs = [
            finding
            for finding in effects.findings
            if finding.about["behavior"] == behavior
            and {run for g in (at_zero, at_tenth) for run in g.inputs} == set(finding.evidence.runs)
        ]
        assert [pair.tests[0].p for pair in pairs] == pytest.approx([expected["compare"]["welch_p"]])
    assert inputs.sound.point == pytest.approx(truth["gamma"]["bias"]["gamma_star"])
    assert sum("left out, as the same arms were measured there again" in text for text in answer.messages) == 1


def test_effects_of_the_ablation(effects: Result, truth: dict[str, Any]) -> None:
    checked = 0
    pairs = {key: found for key, found in truth["effects_ablation"].items() if "~" in key}
    for pair, behaviors in pairs.items():
        for behavior, expected in behaviors.items():
            for finding in effects.findings:
                sides = {g.label.split()[0] for g in finding.groups}
                same = finding.about["model"] == QWEN and finding.about["behavior"] == behavior
                if same and sides == set(pair.split("~")) and all("5seed" in g.label for g in finding.groups):
                    welch, exact = finding.tests[:2]
                    assert abs(finding.effect.value or 0) == pytest.approx(abs(expected["diff"]), abs=1e-9)
                    assert welch.p == pytest.approx(expected["welch_p"], abs=1e-9)
                    assert exact.p == pytest.approx(expected["permutation_p"], abs=1e-9)
                    g = abs(finding.standardised.value or 0)
                    assert g == pytest.approx(abs(expected["hedges_g_gamma"]), abs=1e-9)
                    checked += 1
    assert checked == sum(len(behaviors) for behaviors in pairs.values())
