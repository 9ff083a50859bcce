"""The study `effects`: what is compared, what is refused, what the verdicts promise."""

import csv
import io
import json
import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from analysis.effects import Effects
from analysis.findings import Finding, Result
from analysis.needed import seeds_a_side
from analysis.render.text import evidence, to_csv, to_json
from analysis.study import StudyOptions

Make = Callable[..., list]  # type: ignore[type-arg]
Frame = Callable[..., pd.DataFrame]

LOW = [-0.008, 0.205, 0.026, 0.178, -0.01]
HIGH = [1.155, 1.181, 1.16, 1.173, 1.136]


def effects(frame: pd.DataFrame, **options: object) -> Result:
    return Effects().compute(frame, StudyOptions(**options), np.random.default_rng(0))  # type: ignore[arg-type]


def only(result: Result) -> Finding:
    assert len(result.findings) == 1
    return result.findings[0]


def test_one_comparison_holds_every_number(make_arm: Make, make_frame: Frame) -> None:
    frame = make_frame([*make_arm("sft-only", {"bias": LOW}), *make_arm("rho-guided", {"bias": HIGH})])
    finding = only(effects(frame))
    a, b = finding.groups
    assert (a.label, b.label) == ("rho-guided", "sft-only")
    assert a.seeds == (42, 123, 456, 789, 1337)
    assert a.mean == pytest.approx(np.mean(HIGH) - 0.1)  # Δ against the baseline of 0.1
    assert finding.about["quantity"] == "delta"
    assert b.sd == pytest.approx(np.std(LOW, ddof=1))
    expected = stats.ttest_ind(HIGH, LOW, equal_var=False)
    assert finding.p == pytest.approx(expected.pvalue)
    assert finding.effect.value == pytest.approx(np.mean(HIGH) - np.mean(LOW))
    assert finding.tests[1].p == pytest.approx(2 / 252)
    assert finding.verdict == "supported"
    assert finding.robustness is not None
    loo = [stats.ttest_ind(np.delete(HIGH, i), np.delete(LOW, i), equal_var=False).pvalue for i in range(5)]
    assert finding.robustness.largest_p == pytest.approx(max(loo))
    assert finding.robustness.seed_of_largest_p == a.seeds[int(np.argmax(loo))]
    assert len(finding.evidence.runs) == 10


def test_without_a_baseline_the_scores_themselves_are_compared(make_arm: Make, make_frame: Frame) -> None:
    runs = [*make_arm("sft-only", {"bias": LOW}), *make_arm("rho-guided", {"bias": HIGH})]
    finding = only(effects(make_frame(runs, baseline=None)))
    assert finding.about["quantity"] == "value"
    assert finding.groups[0].mean == pytest.approx(np.mean(HIGH))


def test_p_values_are_corrected_over_all_tests_of_the_call(make_arm: Make, make_frame: Frame) -> None:
    draw = np.random.default_rng(5)
    names = ("sft-only", "rho-guided", "contrastive-only", "shuffled-pairs")
    runs = [
        run
        for i, name in enumerate(names)
        for run in make_arm(name, {b: draw.normal(0.3 * i, 0.2, 5) for b in ("bias", "toxicity")})
    ]
    for correction, theirs in (("holm", "holm"), ("bh", "fdr_bh")):
        result = effects(make_frame(runs), correction=correction)
        assert result.looks == len(result.findings) == 12
        p = [finding.p for finding in result.findings]
        assert [f.p_adjusted for f in result.findings] == pytest.approx(multipletests(p, method=theirs)[1])
    unadjusted = effects(make_frame(runs), correction="none")
    assert all(f.p == f.p_adjusted for f in unadjusted.findings)


def test_strata_are_never_pooled(make_arm: Make, make_frame: Frame) -> None:
    runs = [
        *make_arm("sft-only", {"bias": LOW}),
        *make_arm("rho-guided", {"bias": HIGH}, rho_weight=0.2, margin=0.1),
        *make_arm("rho-guided", {"bias": [x + 1 for x in HIGH]}, rho_weight=0.2, margin=0.0),
        *make_arm("rho-guided", {"bias": [x + 2 for x in HIGH]}, rho_weight=0.5, margin=0.0),
    ]
    result = effects(make_frame(runs))
    pairs = {(f.about["a"], f.about["b"]) for f in result.findings}
    one, two, three = "rho-guided λ=0.2 γ=0.1", "rho-guided λ=0.2 γ=0", "rho-guided λ=0.5 γ=0"
    # λ and γ both differ between the first and the third: not compared
    assert pairs == {(one, "sft-only"), (two, "sft-only"), (three, "sft-only"), (one, two), (three, two)}
    assert {group.n for f in result.findings for group in f.groups} == {5}


@pytest.mark.parametrize("nested", [False, True])
def test_runs_of_another_configuration_or_model_are_not_compared(
    make_arm: Make, make_frame: Frame, nested: bool
) -> None:
    other = {"train": {"lr": 1e-3, "seed": 7}} if nested else {"lr": 1e-3}
    same = {"train": {"lr": 2e-4, "seed": 8}} if nested else {"lr": 2e-4}
    key = "train.lr" if nested else "lr"
    runs = [
        *make_arm("sft-only", {"bias": LOW}, settings=same),
        *make_arm("rho-guided", {"bias": HIGH}, settings=other),
    ]
    result = effects(make_frame(runs))
    assert not result.findings
    assert f"rho-guided {key}=0.001" in result.messages[0]
    runs += make_arm("rho-guided", {"bias": HIGH}, settings=same)
    result = effects(make_frame(runs))
    assert (only(result).about["a"], only(result).about["b"]) == ("rho-guided", "sft-only")
    assert any(f"where a label does not say otherwise, {key}=0.0002" in words for words in result.messages)
    elsewhere = [
        *make_arm("sft-only", {"bias": LOW}),
        *make_arm("rho-guided", {"bias": HIGH}, model="another"),
    ]
    assert not effects(make_frame(elsewhere)).findings


def test_a_setting_may_be_absent_only_between_conditions(make_arm: Make, make_frame: Frame) -> None:
    runs = [
        *make_arm("sft-only", {"bias": LOW}),
        *make_arm("rho-guided", {"bias": HIGH}, margin=0.1, settings={"contrast": "text"}),
        *make_arm("rho-guided", {"bias": HIGH[::-1]}, margin=0.0),  # says nothing about `contrast`
    ]
    pairs = {(f.about["a"], f.about["b"]) for f in effects(make_frame(runs)).findings}
    assert pairs == {
        ("rho-guided γ=0.1 contrast=text", "sft-only"),
        ("rho-guided γ=0 contrast=unset", "sft-only"),
    }


def test_seeds_that_change_nothing_are_pointed_out(make_arm: Make, make_frame: Frame) -> None:
    runs = [*make_arm("sft-only", {"bias": [0.11, 0.11, 0.11, 0.2, 0.3]}), *make_arm("rho-guided", {"bias": HIGH})]
    result = effects(make_frame(runs))
    assert [m for m in result.messages if "of sft-only: 5 seeds gave only 3 different scores" in m]
    assert not [m for m in result.messages if "rho-guided" in m]


def test_a_copied_run_counts_once(make_arm: Make, make_frame: Frame) -> None:
    runs = [*make_arm("sft-only", {"bias": LOW}), *make_arm("rho-guided", {"bias": HIGH})]
    plain = only(effects(make_frame(runs)))
    result = effects(make_frame([*runs, runs[0], runs[7]]))
    assert only(result).effect == plain.effect
    assert sum("counted once" in message for message in result.messages) == 2


def test_a_run_measured_twice_with_different_results_is_refused(make_arm: Make, make_frame: Frame) -> None:
    runs = [*make_arm("sft-only", {"bias": LOW}), *make_arm("rho-guided", {"bias": HIGH})]
    again = make_arm("rho-guided", {"bias": [0.5]})
    result = effects(make_frame([*runs, *again]))
    finding = only(result)
    assert finding.verdict == "artefact"
    assert "seed 42 was measured twice with different results" in finding.sentence
    assert (finding.p, finding.effect.value, result.looks) == (None, None, 0)


def test_scores_over_different_probes_are_refused(make_arm: Make, make_frame: Frame) -> None:
    runs = [*make_arm("sft-only", {"bias": LOW}, n=20), *make_arm("rho-guided", {"bias": HIGH}, n=40)]
    finding = only(effects(make_frame(runs)))
    assert finding.verdict == "artefact"
    assert "different numbers of probes (20, 40)" in finding.sentence


def test_a_missing_score_is_left_out_and_said(make_arm: Make, make_frame: Frame) -> None:
    frame = make_frame([*make_arm("sft-only", {"bias": LOW}), *make_arm("rho-guided", {"bias": HIGH})])
    frame.loc[0, ["value", "delta"]] = np.nan
    result = effects(frame)
    assert only(result).groups[1].n == 4
    assert any("without a value" in message for message in result.messages)
    assert any("sft-only has no run for seed 42" in message for message in result.messages)


def test_three_seeds_cannot_support_anything_and_it_says_what_would(make_arm: Make, make_frame: Frame) -> None:
    runs = [*make_arm("sft-only", {"bias": LOW[:3]}), *make_arm("rho-guided", {"bias": HIGH[:3]})]
    result = effects(make_frame(runs))
    finding = only(result)
    assert any("run at least 4 seeds a condition" in message for message in result.messages)
    assert finding.tests[1].floor == pytest.approx(0.1)
    assert finding.verdict == "suggestive"
    assert "with 3 and 3 seeds no exact test reaches 0.05, 4 a side could" in finding.sentence


def test_one_seed_is_not_enough_data(make_arm: Make, make_frame: Frame) -> None:
    runs = [*make_arm("sft-only", {"bias": LOW[:1]}), *make_arm("rho-guided", {"bias": HIGH[:1]})]
    finding = only(effects(make_frame(runs)))
    assert finding.verdict == "not enough data"
    assert finding.effect.value == pytest.approx(HIGH[0] - LOW[0])
    assert (finding.effect.low, finding.p, finding.robustness) == (None, None, None)


def test_scores_that_never_vary_are_degenerate_not_certain(make_arm: Make, make_frame: Frame) -> None:
    same = make_frame([*make_arm("sft-only", {"bias": [0.3] * 5}), *make_arm("rho-guided", {"bias": [0.3] * 5})])
    assert only(effects(same)).verdict == "degenerate"
    apart = make_frame([*make_arm("sft-only", {"bias": [0.3] * 5}), *make_arm("rho-guided", {"bias": [0.7] * 5})])
    finding = only(effects(apart))
    assert (finding.verdict, finding.p) == ("degenerate", None)
    assert "no variation over seeds" in finding.sentence


def test_no_rows_is_a_result_with_advice(make_arm: Make, make_frame: Frame) -> None:
    empty = make_frame(make_arm("sft-only", {"bias": LOW})).iloc[:0]
    result = effects(empty)
    assert (result.findings, result.looks) == ((), 0)
    assert "no finished alignment run has scores for metric gap" in result.messages[0]


def test_order_of_rows_does_not_matter(make_arm: Make, make_frame: Frame) -> None:
    frame = make_frame([*make_arm("sft-only", {"bias": LOW}), *make_arm("rho-guided", {"bias": HIGH})])
    shuffled = frame.sample(frac=1, random_state=1)
    left, right = only(effects(frame)), only(effects(shuffled))
    assert left.groups == right.groups
    assert (left.tests, left.sentence) == (right.tests, right.sentence)


def test_results_are_json_without_nan(make_arm: Make, make_frame: Frame) -> None:
    runs = [
        *make_arm("sft-only", {"bias": LOW, "toxicity": [0.11] * 5}),
        *make_arm("rho-guided", {"bias": HIGH, "toxicity": [0.11] * 5}),
        *make_arm("shuffled-pairs", {"bias": HIGH[:1]}),
    ]
    document = json.loads("".join(to_json(effects(make_frame(runs)))))
    assert {finding["verdict"] for finding in document["findings"]} == {"supported", "degenerate", "not enough data"}
    first = document["findings"][0]
    assert first["n"] == first["groups"][0]["n"] + first["groups"][1]["n"]
    assert first["p_adjusted"] == first["tests"][0]["p_adjusted"]


def test_seeds_needed_follow_from_the_floor() -> None:
    assert [seeds_a_side(alpha) for alpha in (0.5, 0.1, 0.05, 0.01, 0.005)] == [2, 3, 4, 5, 6]


def test_without_effects_at_most_alpha_of_the_warehouses_report_one(make_arm: Make, make_frame: Frame) -> None:
    draw = np.random.default_rng(11)
    trials, wrong = 120, 0
    for _ in range(trials):
        runs = [
            run
            for name in ("sft-only", "rho-guided", "contrastive-only")
            for run in make_arm(name, {b: draw.normal(0, 1, 5) for b in ("bias", "toxicity")})
        ]
        wrong += any(f.verdict == "supported" for f in effects(make_frame(runs)).findings)
    assert wrong / trials <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / trials)


def test_a_large_planted_effect_is_found(make_arm: Make, make_frame: Frame) -> None:
    draw = np.random.default_rng(12)
    found = 0
    for _ in range(30):
        values = {name: {b: draw.normal(0, 1, 5) for b in ("bias", "toxicity")} for name in ("sft-only", "rho-guided")}
        values["rho-guided"]["bias"] += 5
        result = effects(make_frame([run for name, v in values.items() for run in make_arm(name, v)]))
        found += next(f.verdict for f in result.findings if f.about["behavior"] == "bias") == "supported"
    assert found >= 27


def test_what_is_asked_alone_is_answered_as_in_the_whole(make_arm: Make, make_frame: Frame) -> None:
    scores = {"bias": LOW, "refusal": HIGH}
    conditions = ("sft-only", "shuffled-pairs", "rho-guided")
    frame = make_frame([run for i, c in enumerate(conditions) for run in make_arm(c, {
        behavior: [value + i * value**2 for value in values] for behavior, values in scores.items()
    })])  # fmt: skip
    options = StudyOptions(correction="none")
    study = Effects({("bias", frozenset({"rho-guided", "sft-only"}))})
    asked = only(study.compute(frame, options, np.random.default_rng(0)))
    whole = Effects().compute(frame, options, np.random.default_rng(0)).findings
    assert len(whole) == 6
    twin = next(f for f in whole if f.about == asked.about)
    assert (asked.about["a"], asked.about["b"]) == ("rho-guided", "sft-only")
    assert (asked.effect, asked.tests) == (twin.effect, twin.tests)
    assert asked.standardised.low == pytest.approx(twin.standardised.low, rel=1e-12)
    assert (asked.verdict, asked.robustness, asked.evidence.runs) == (
        twin.verdict, twin.robustness, twin.evidence.runs)  # fmt: skip


def test_json_csv_and_evidence_give_the_numbers_of_papers(make_arm: Make, make_frame: Frame) -> None:
    frame = make_frame([*make_arm("sft-only", {"bias": LOW}), *make_arm("rho-guided", {"bias": HIGH})])
    result = effects(frame)
    (written,) = json.loads("".join(to_json(result)))["findings"]
    student, paired = stats.ttest_ind(HIGH, LOW), stats.ttest_rel(HIGH, LOW)
    printed = written["as_papers_print"]
    assert (printed["student_t"], printed["student_df"], printed["student_p"]) == pytest.approx(
        (student.statistic, 8, student.pvalue)
    )
    assert printed["pairs"] == 5 and printed["paired_p"] == pytest.approx(paired.pvalue)
    assert printed["wilcoxon_p"] == pytest.approx(stats.wilcoxon(HIGH, LOW).pvalue)
    (line,) = csv.DictReader(io.StringIO(to_csv(result)))
    assert float(line["cohens_d"]) == pytest.approx(student.statistic / math.sqrt(2.5))
    assert float(line["paired_t"]) == pytest.approx(paired.statistic)
    assert f"Student's t: {student.statistic:.4g}, df 8" in evidence(result, 1)
