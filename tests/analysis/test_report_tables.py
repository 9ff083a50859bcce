"""Tables and labels of a report as readers meet them: nothing repeated, nothing that cannot be told apart."""

import numpy as np

from analysis.answers import Quantity
from analysis.effects import Effects
from analysis.report.document import Column, Number, Row, Table
from analysis.report.sections import findings
from analysis.report.sections.answers import alike, folded
from analysis.report.sections.columns import slim
from analysis.report.sections.findings import _differences
from analysis.study import StudyOptions


def table(*rows: tuple) -> Table:
    columns = tuple(Column(key=key, title=key) for key in ("model", "behavior", "interval", "value"))
    return Table(
        key="t", title="T", columns=columns, caption="Read so.",
        rows=tuple(Row(key=str(i), cells=cells) for i, cells in enumerate(rows)),
    )  # fmt: skip


ONE = Number(value=1.0, text="1", address="a1")


def test_what_is_the_same_in_every_row_is_said_once_and_dashes_go():
    made = slim(table(("tiny", "bias", "—", ONE), ("tiny", "factual", "—", ONE)))
    assert [column.key for column in made.columns] == ["behavior", "value"]
    assert [row.cells for row in made.rows] == [("bias", ONE), ("factual", ONE)]
    assert made.caption == "Read so. In all rows: model tiny."


def test_numbers_are_never_left_out_and_one_row_keeps_its_labels():
    made = slim(table(("tiny", "bias", "—", ONE)))
    assert [column.key for column in made.columns] == ["model", "behavior", "value"] and made.caption == "Read so."


def test_comparisons_are_named_by_what_differs():
    pairs = [
        ("rho-guided λ=0.2 γ=0.1 epochs=1", "rho-guided λ=0.2 γ=0 epochs=1"),
        ("rho-guided λ=0.2 γ=0.1 epochs=1", "sft-only epochs=1"),
        ("rho-guided λ=0.5 γ=0.1 epochs=1", "rho-guided λ=0.2 γ=0.1 epochs=1"),
    ]
    assert _differences(pairs) == [
        "γ=0.1 − γ=0 (rho-guided λ=0.2)", "rho-guided λ=0.2 γ=0.1 − sft-only", "λ=0.5 − λ=0.2 (rho-guided γ=0.1)",
    ]  # fmt: skip


def test_names_of_an_axis_tell_models_and_experiments_apart():
    assert findings._axis_names([("lab/a", "γ=0.1"), ("lab/a", "γ=0")]) == ["γ=0.1", "γ=0"]
    assert findings._axis_names([("lab/a", "γ=0.1"), ("lab/b", "γ=0.1")]) == ["γ=0.1 · a", "γ=0.1 · b"]
    assert findings._axis_names([("x/a", "γ=0"), ("y/a", "γ=0")]) == ["γ=0 · x/a", "γ=0 · y/a"]
    long = ["(sweep_of_the_seven_billion_seeds_1)", "(sweep_of_the_seven_billion_seeds_2)"]
    assert findings._axis_names([("a", name) for name in long]) == [
        "(sweep_of_the…on_seeds_1)",
        "(sweep_of_the…on_seeds_2)",
    ]
    alike = ["sweep_of_the_x_seven_billion_seeds", "sweep_of_the_y_seven_billion_seeds"]
    assert findings._axis_names([("a", name) for name in alike]) == alike


def test_conclusions_are_said_once_for_all_they_hold_for():
    told = folded(["bias: falls.", "toxicity: rises.", "bench: falls.", "toxicity: 4 SDs: few.", "All in all, little."])
    assert told == ["bias, bench: falls.", "toxicity: rises; 4 SDs: few.", "All in all, little."]


def quantity(group: str) -> list[tuple[int, Quantity]]:
    return [(1, Quantity(group=group, name="σ", value=1.0))]


def test_groups_of_one_shape_stand_in_one_table():
    names = ("Fit: bias", "Fit: bench", "Fit: factual", "γ* (bias)", "γ* (bench)", "Resampled")
    found = alike({name: quantity(name) for name in names})
    assert {title: list(groups) for title, groups in found.items()} == {
        "Fit": ["Fit: bias", "Fit: bench", "Fit: factual"], "γ* (bias)": ["γ* (bias)"], "γ* (bench)": ["γ* (bench)"],
        "Resampled": ["Resampled"],
    }  # fmt: skip


def test_a_forest_shows_whole_rows_those_with_the_clearest_findings(make_arm, make_frame, monkeypatch):
    noise = np.random.default_rng(3).normal(0, 0.05, size=(4, 5))
    runs = make_arm("sft-only", {"bias": noise[0].tolist(), "refusal": noise[1].tolist()})
    for weight, move in ((0.1, 0.0), (0.2, 3.0), (0.5, 0.1)):
        scores = {"bias": (noise[2] + move).tolist(), "refusal": noise[3].tolist()}
        runs += make_arm("rho-guided", scores, rho_weight=weight)
    known = Effects().compute(make_frame(runs), StudyOptions(), np.random.default_rng(0)).findings
    assert len(known) == 12 and findings._clearest_rows(known) == (list(known), False)
    monkeypatch.setattr(findings, "MOST_MARKS", 7)  # three rows of two behaviors, and no half row
    shown, left = findings._clearest_rows(known)
    assert left and [f.number for f in shown] == sorted(f.number for f in shown)
    rows = {(f.about["a"], f.about["b"]) for f in shown}
    assert len(shown) == 6 and len(rows) == 3
    assert all("λ=0.2" in a + b for a, b in rows)  # the only λ that moved anything
