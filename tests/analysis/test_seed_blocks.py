"""Seeds as blocks: the gate asks for an effect of theirs, only ever raises a p, and keeps the error level."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from analysis.anomalies import load_detectors
from analysis.anomalies.additivity import Additivity
from analysis.anomalies.interaction import Interaction
from analysis.anomalies.study import data_of, held_to, with_seed_icc
from analysis.looks import Look
from analysis.simulate import BEHAVIORS, CONDITIONS, NOISE, SEEDS, Warehouse
from analysis.stats.agreement import seed_icc
from analysis.study import StudyOptions

Draw = Callable[[np.random.Generator, float], Warehouse]


def conditions(rng: np.random.Generator, icc: float) -> Warehouse:
    """Conditions x seeds; `icc` of the variance belongs to the seeds."""
    wh = Warehouse()
    own = np.sqrt(icc) * rng.normal(size=(len(SEEDS), len(BEHAVIORS)))
    for condition in CONDITIONS:
        table = NOISE * (own + np.sqrt(1 - icc) * rng.normal(size=own.shape))
        wh.arm(table, condition=condition, weight=0.2)
    return wh


def grid(rng: np.random.Generator, icc: float) -> Warehouse:
    """Freeze x compress, five seeds in every cell, effects that add up."""
    wh = Warehouse()
    own = np.sqrt(icc) * rng.normal(size=len(SEEDS))
    for compress in (0.5, 0.7, 1.0):
        for frozen in (0.0, 0.5, 0.9):
            for seed, level in zip(SEEDS, own, strict=True):
                noise = NOISE * (level + np.sqrt(1 - icc) * rng.normal())
                wh.run({"factual": compress - frozen + noise}, seed=seed, kind="freeze", baseline=None,
                       compress_ratio=compress, freeze_ratio=frozen, config={"fine_tuned": 1})  # fmt: skip
    return wh


def looks(detector: Interaction | Additivity, wh: Warehouse, rng: np.random.Generator) -> tuple[list[Look], list[str]]:
    data = data_of(wh.frame())
    found = detector.detect(data, StudyOptions(), rng)
    return held_to(data.gate, {detector.name: detector.design}, found)


@pytest.mark.parametrize("icc", [0.0, 0.4, 0.9])
@pytest.mark.parametrize(("detector", "draw", "n"), [(Interaction(), conditions, 50), (Additivity(), grid, 120)])
def test_the_error_level_holds_whatever_seeds_carry(
    detector: Interaction | Additivity, draw: Draw, n: int, icc: float
) -> None:
    rng = np.random.default_rng(5)
    p = [look.test.p for _ in range(n) for look in looks(detector, draw(rng, icc), rng)[0]]
    assert len(p) == n * (len(BEHAVIORS) if detector.name == "interaction" else 1)
    # A test at 5 % exceeds this bound once in a thousand.
    assert sum(x <= 0.05 for x in p) <= stats.binom.ppf(0.999, len(p), 0.05)


def test_blocks_without_an_effect_have_to_do_without_and_only_raise_p(rng: np.random.Generator) -> None:
    told = 0
    for _ in range(6):
        data = data_of(conditions(rng, 0.0).frame())
        before = Interaction().detect(data, StudyOptions(), rng)
        after, messages = held_to(data.gate, {"interaction": Interaction.design}, before)
        for look, was in zip(after, before, strict=True):
            carries = seed_icc(np.array([g.values for g in look.groups])).p <= 0.05
            assert look.test.p == (was.test.p if carries else max(was.test.p, was.unblocked().p))
            assert any("the larger counts" in note for note in look.notes) is not carries
        raised = sum(look.test.p > was.test.p for look, was in zip(after, before, strict=True))
        assert any(f"{raised} looks of interaction" in message for message in messages) is bool(raised)
        told += raised
    assert told  # else this test says nothing


def test_blocks_that_carry_an_effect_stay(rng: np.random.Generator) -> None:
    (look,) = Additivity().detect(data_of(grid(rng, 0.95).frame()), StudyOptions(), rng)
    held = with_seed_icc(look)
    assert held.test is look.test
    assert any("carry an effect of their own" in note for note in held.notes)


def test_a_difference_of_strata_is_never_paired_by_seed() -> None:
    assert {d.name for d in load_detectors() if d.design.seeds == "blocks"} == {"interaction", "additivity"}
    assert {d.name for d in load_detectors() if d.design.seeds == "subjects"} == {"reversal", "responder"}


def test_a_pre_test_that_picked_the_test_would_err_too_often() -> None:
    """Why the gate does not switch: the paired tests that such a check lets through err far above their level."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20_000, 2, 5))
    change = x[:, 0] - x[:, 1]
    t = change.mean(axis=1) / (change.std(axis=1, ddof=1) / np.sqrt(5))
    paired = 2 * stats.t.sf(np.abs(t), 4)
    f = 2 * x.mean(axis=1).var(axis=1, ddof=1) / (change.var(axis=1, ddof=1) / 2)
    carry = stats.f.sf(f, 4, 4) <= 0.05
    assert f[0] == pytest.approx(seed_icc(x[0]).statistic)
    welch = stats.ttest_ind(x[:, 0], x[:, 1], axis=1, equal_var=False).pvalue
    assert np.mean(paired[carry] <= 0.05) > 0.2
    assert np.mean(np.where(carry, paired, welch) <= 0.01) > 0.0115
    assert np.mean(np.where(carry, paired, np.maximum(paired, welch)) <= 0.01) < 0.0115


def test_a_look_without_a_table_of_seeds_is_left_alone(rng: np.random.Generator) -> None:
    look = Interaction().detect(data_of(conditions(rng, 0.0).frame()), StudyOptions(), rng)[0]
    bare = replace(look, blocks=None)
    assert with_seed_icc(bare) is bare


def test_cells_of_one_run_each_have_no_seed_effect_to_ask_for(rng: np.random.Generator) -> None:
    wh = grid(rng, 0.0)
    wh.rows = [row for row in wh.rows if row["seed"] == SEEDS[0]]
    ((look,), _) = looks(Additivity(), wh, rng)
    assert not any("ICC" in note for note in look.notes)
