"""Tables and labels of a report as readers meet them: nothing repeated, nothing that cannot be told apart."""

from analysis.answers import Quantity
from analysis.report.document import Column, Number, Row, Table
from analysis.report.sections.answers import alike, folded
from analysis.report.sections.columns import slim
from analysis.report.sections.findings import _differences


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
