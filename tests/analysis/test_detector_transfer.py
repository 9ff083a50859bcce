"""Slopes on two models: equivalent, different or not to be told, each with its own sentence."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from statsmodels.stats.multitest import multipletests

from analysis.anomalies.study import Anomalies
from analysis.anomalies.transfer import Transfer
from analysis.findings import Finding
from analysis.study import StudyOptions
from rhodb.warehouse import Warehouse

DOSES = (0.0, 0.1, 0.2, 0.5)
SEEDS = tuple(range(12))


def ladder(make: Callable[..., Any], model: str, noise: float, rng: np.random.Generator, **slopes: float) -> list[Any]:
    """Runs at all doses whose scores rise by the slopes, with normal errors."""
    runs = []
    for dose in DOSES:
        scores = {b: (slope * dose + noise * rng.normal(size=len(SEEDS))).tolist() for b, slope in slopes.items()}
        condition = "rho-guided" if dose else "sft-only"
        runs += make(condition, scores, seeds=SEEDS, model=model, rho_weight=dose)
    return runs


def transfer_of(db: Path, fill: Callable[..., None], runs: list[Any]) -> dict[str, Finding]:
    fill(db, runs)
    with Warehouse.open(str(db)) as wh:
        found = Anomalies([Transfer()]).run(wh, StudyOptions()).findings
    return {finding.about["behavior"]: finding for finding in found}


@pytest.fixture
def findings(tmp_path: Path, make_arm: Callable[..., Any], fill_warehouse: Callable[..., None]) -> dict[str, Finding]:
    """factual: equal slopes, little scatter; bias: slopes of other sign; toxicity: slopes within the scatter."""
    rng = np.random.default_rng(5)
    one = ladder(make_arm, "one", 0.004, rng, factual=1.0, bias=0.082)
    other = ladder(make_arm, "other", 0.004, rng, factual=1.0, bias=-0.033)
    vague = [ladder(make_arm, model, 0.4, rng, toxicity=0.1) for model in ("one", "other")]
    for guided, extra in zip((one, other), vague, strict=True):
        for run, more in zip(guided, extra, strict=True):
            run.scores.update(more.scores)
    return transfer_of(tmp_path / "three.db", fill_warehouse, [*one, *other])


def test_a_question_of_equivalence_has_three_outcomes(findings: dict[str, Finding]) -> None:
    assert {b: f.verdict for b, f in findings.items()} == {
        "factual": "supported", "bias": "contradicted", "toxicity": "not supported"
    }  # fmt: skip
    words = {"factual": "equivalent: ", "bias": "different: ", "toxicity": "cannot tell: "}
    for behavior, word in words.items():
        told = [other for other in words.values() if other in findings[behavior].sentence]
        assert told == [word], findings[behavior].sentence


def test_what_it_would_take_stands_only_beside_an_open_question(findings: dict[str, Finding]) -> None:
    takes = {behavior: "times as many runs" in finding.sentence for behavior, finding in findings.items()}
    assert takes == {"factual": False, "bias": False, "toxicity": True}


def test_the_difference_is_that_of_an_interaction_and_both_tests_are_corrected(
    tmp_path: Path,
    make_arm: Callable[..., Any],
    make_frame: Callable[..., pd.DataFrame],
    fill_warehouse: Callable[..., None],
    findings: dict[str, Finding],
) -> None:
    rng = np.random.default_rng(8)
    runs = [*ladder(make_arm, "one", 0.01, rng, bias=0.082), *ladder(make_arm, "other", 0.01, rng, bias=0.06)]
    finding = transfer_of(tmp_path / "two.db", fill_warehouse, runs)["bias"]
    fit = smf.ols("value ~ rho_weight * C(model)", data=make_frame(runs)).fit()
    assert finding.tests[1].p == pytest.approx(fit.pvalues["rho_weight:C(model)[T.other]"])
    tests = [test for one in findings.values() for test in one.tests]
    expected = multipletests([test.p for test in tests], method="holm")[1]
    assert [test.p_adjusted for test in tests] == pytest.approx(expected)
