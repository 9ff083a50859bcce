"""The intraclass correlation of seeds: against pingouin, on tables without variation, and as a note of paired looks."""

import numpy as np
import pandas as pd
import pingouin
import pytest

from analysis.anomalies.study import Anomalies
from analysis.simulate import built, ladder
from analysis.stats.agreement import seed_icc
from analysis.study import StudyOptions


def test_icc_agrees_with_pingouin(rng: np.random.Generator) -> None:
    table = rng.normal(size=(4, 6)) + rng.normal(size=6)
    long = pd.DataFrame([(j, i, table[i, j]) for i in range(4) for j in range(6)], columns=["seed", "arm", "value"])
    known = pingouin.intraclass_corr(long, targets="seed", raters="arm", ratings="value").set_index("Type")
    row = known.loc[next(name for name in ("ICC3", "ICC(C,1)") if name in known.index)]
    found = seed_icc(table)
    assert found.effect is not None and found.statistic == pytest.approx(row["F"], rel=1e-9)
    assert found.effect.value == pytest.approx(row["ICC"], rel=1e-9)
    assert [found.effect.low, found.effect.high] == pytest.approx(list(row["CI95"]), abs=0.006)


def test_tables_that_cannot_answer() -> None:
    assert seed_icc(np.ones((3, 4))).status == "degenerate"
    assert seed_icc(np.add.outer([0.0, 1.0], [0.0, 1.0, 5.0])).status == "degenerate"  # nothing is left to compare with
    assert seed_icc(np.ones((1, 4))).status == "not enough data"


@pytest.mark.parametrize(("own", "words"), [(0.0, "no effect that can be told"), (2.0, "carry an effect of their own")])
def test_paired_looks_say_first_whether_seeds_carry_an_effect(own: float, words: str) -> None:
    rng = np.random.default_rng(3)
    frame = built(ladder, odd_seed=1.0)(rng).frame()
    seeds = {seed: own * k for k, seed in enumerate(sorted(frame["seed"].unique()))}
    shift = frame["seed"].map(seeds) + (frame["rho_weight"] == 0.1) * (frame["seed"] == 42) * -9.0 * (own == 0)
    frame[["value", "delta"]] = frame[["value", "delta"]].add(shift, axis=0)
    findings = Anomalies().compute(frame, StudyOptions(), rng).findings
    paired = [f for f in findings if f.about["detector"] == "reversal" and f.about["behavior"] == "bias"]
    assert paired and all(any("seed ICC" in note and words in note for note in f.notes) for f in paired)
