"""Looks at registered hypotheses: SciPy's t at the boundary, signs, families that hand alpha on."""

import numpy as np
import pytest
from scipy import stats

from analysis.decide import look_at, look_at_family, next_look, question_of, rule_of
from rhodb.hypotheses import Evidence, Hypothesis


def hypothesis(id: int = 1, **more: object) -> Hypothesis:  # noqa: A002
    given = {
        "id": id, "name": f"h{id}", "treatment": "rho-guided", "control": "sft-only", "model": "m",
        "behavior": "refusal", "metric": "gap", "direction": "greater", "margin": 1.0,
        "looks": (3, 5, 8), "seeds": tuple(range(8)),
    }  # fmt: skip
    return Hypothesis(**(given | more))  # type: ignore[arg-type]


def evidence(values: np.ndarray) -> Evidence:
    return Evidence(
        differences=tuple(map(float, values)), runs=tuple((f"a{k}", f"b{k}") for k in range(len(values))),
        seconds=tuple(10.0 for _ in values),
    )  # fmt: skip


def sample_with_t(t: float, n: int, rng: int = 1) -> np.ndarray:
    x = np.random.default_rng(rng).normal(size=n)
    x = (x - x.mean()) / stats.sem(x)
    return x + t


def test_supported_just_above_the_boundary_of_t_and_open_just_below():
    h = hypothesis(futility="none")
    first = rule_of(h).critical(0.05)[0]
    for factor, decision in ((1.001, "supported"), (0.999, "open")):
        x = sample_with_t(first * factor, 3)
        assert stats.ttest_1samp(x, 0).statistic == pytest.approx(first * factor)
        look = look_at(h, evidence(x), 3, level=0.05)
        assert look.decision == decision
        assert look.p == pytest.approx(0.05, rel=0.05) and len(look.runs) == 6 and look.seconds == 30


def test_less_is_greater_of_the_negated_values():
    x = np.random.default_rng(3).normal(2.0, 1.0, 8)
    up = look_at(hypothesis(), evidence(x), 8, level=0.05)
    down = look_at(hypothesis(direction="less"), evidence(-x), 8, level=0.05)
    assert up.decision == down.decision == "supported" and up.p == down.p
    assert (down.estimate, down.low, down.high) == (-up.estimate, -up.high, -up.low)
    assert down.mean == -up.mean and up.low < up.estimate < up.high


def test_verdicts_of_each_kind():
    tight = np.random.default_rng(4).normal(0, 0.05, 8)
    cases = [
        ({}, tight + 2, "supported"), ({}, tight, "refuted"), ({}, tight - 3, "refuted"),
        ({"direction": "different"}, tight - 2, "supported"), ({"direction": "different"}, tight, "refuted"),
        ({"kind": "equivalence", "direction": "different"}, tight, "supported"),
        ({"kind": "equivalence", "direction": "different"}, tight - 2, "refuted"),
        ({"kind": "non-inferiority"}, tight, "supported"), ({"kind": "non-inferiority"}, tight - 2, "refuted"),
        ({"rule": "any-time", "spending": None}, tight + 2, "supported"),
    ]  # fmt: skip
    for change, values, decision in cases:
        h = hypothesis(**change)
        assert look_at(h, evidence(values), 8, level=h.alpha).decision == decision, (change, values.mean())


def test_values_without_variation_decide_nothing():
    look = look_at(hypothesis(), evidence(np.full(8, 2.0)), 8, level=0.05)
    assert look.decision == "undecided" and look.p == 1.0 and look.mean == 2.0


def test_the_alpha_of_a_supported_hypothesis_decides_another_at_once():
    a, b = hypothesis(1, futility="none"), hypothesis(2, futility="none")
    rule = rule_of(a)
    weak = (rule.critical(0.05)[0] + rule.critical(0.025)[0]) / 2
    found = {1: evidence(sample_with_t(500.0, 3)), 2: evidence(sample_with_t(weak, 3))}
    alone = look_at_family([a, b], found, {1: [], 2: []}, {2: 3})
    assert alone[2].decision == "open" and alone[2].level == 0.025
    together = look_at_family([a, b], found, {1: [], 2: [alone[2]]}, {1: 3})
    assert together[1].decision == together[2].decision == "supported"
    assert together[2].level == 0.05
    ordered = [hypothesis(k, futility="none", procedure="ordered") for k in (1, 2)]
    gate = look_at_family(ordered, {1: evidence(sample_with_t(0.1, 3)), 2: found[1]}, {1: [], 2: []}, {1: 3, 2: 3})
    assert gate[1].decision == gate[2].decision == "open" and gate[2].level == 0


def test_the_next_look():
    h = hypothesis()
    assert next_look(h, []) == 3
    assert next_look(hypothesis(withdrawn_at="now", withdrawn_why="x"), []) is None
    x = evidence(np.random.default_rng(6).normal(0.5, 1, 8))
    looks = [look_at(h, x, 3, level=0.05)]
    assert looks[0].decision == "open" and next_look(h, looks) == 5
    assert question_of(h).kind == "superiority"
