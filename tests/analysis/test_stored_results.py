"""Results as documents: pieces that make one JSON, read back equal; what is kept and what is too large."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from analysis import stored
from analysis.anomalies.study import Anomalies
from analysis.answers import AnswerOptions
from analysis.documents import moved, plain, read, result_of, tables_of, text_of
from analysis.findings import Result
from analysis.landscape.result import Table, Tables
from analysis.query import Query
from analysis.registry import load_answer_study
from analysis.render import answers, text
from analysis.simulate import nothing
from analysis.stored import answer_quantities, last_two, store, too_large
from analysis.study import StudyOptions
from rhodb import published
from rhodb.warehouse import Warehouse


@pytest.fixture(scope="module")
def result() -> Result:
    rng = np.random.default_rng(0)
    return Anomalies().compute(nothing()(rng).frame(), StudyOptions(), rng)


def test_pieces_make_the_document_and_the_document_the_result(result: Result) -> None:
    document = json.loads("".join(result.json_pieces()))
    assert document == result.to_json()
    assert list(document["findings"][0])[:2] == ["number", "about"]
    assert document["findings"][0]["p"] == result.findings[0].p
    again = result_of(document)
    assert again == result or again.to_json() == document


def test_many_findings_come_in_pieces_that_are_never_the_whole(result: Result) -> None:
    many = replace(result, findings=result.findings * 30)
    pieces = list(text.to_json(many))
    assert len(pieces) > 3 and len(json.loads("".join(pieces))["findings"]) == len(many.findings)
    assert next(iter(text.to_json(result))).startswith("{\n")  # few are indented for people


def test_a_result_without_findings_is_a_document(result: Result) -> None:
    empty = replace(result, findings=())
    assert json.loads("".join(empty.json_pieces()))["findings"] == []


def test_what_is_too_large_is_not_kept(result: Result, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert not too_large(result)
    monkeypatch.setattr(stored, "MOST_STORED", 3)
    assert too_large(result)


def test_moved_names_what_changed(result: Result) -> None:
    first, *rest = result.findings
    changed = replace(result, findings=(replace(first, verdict="artefact"), *rest[1:]))
    rows, looked_at = moved(result.to_json(), changed.to_json())
    assert [row["change"] for row in rows] == ["verdict", "gone"]
    assert rows[0]["verdict_now"] == "artefact" and looked_at == len(result.findings) - 1
    assert moved(result.to_json(), result.to_json())[0] == []


@pytest.mark.parametrize("study", ["gamma", "ushape", "probe-noise"])
def test_an_answer_read_back_says_the_same(study: str, tmp_path: Path) -> None:
    options = AnswerOptions(inputs="published", samples=200)
    with Warehouse.open(str(tmp_path / "a b.db")) as wh:
        published.insert_values(wh, published.read_folder())
        loaded = load_answer_study(study)
        first = answer_quantities(wh, loaded, options)
        assert not first.from_store
        store(wh, options, first)
        again = answer_quantities(wh, loaded, options)
        assert again.from_store
        assert plain(again.result.to_json()) == plain(first.result.to_json())
        assert answers.evidence(again.result, 1) == answers.evidence(first.result, 1)
        assert answers.to_csv(again.result) == answers.to_csv(first.result)
        # Figures are drawn from what is not stored.
        assert answer_quantities(wh, loaded, options, drawing=True).result.drawing is not None
        with wh.write() as connection:
            connection.exec_driver_sql(
                "UPDATE published_values SET value = value * 1.5 WHERE key = 'arm/sweep/0.1/0/factual/popsd'"
                if study == "ushape"
                else "UPDATE published_values SET value = value + 0.001 WHERE key LIKE 'arm/%/0.1/0.2/%/mean'"
            )
        changed = answer_quantities(wh, loaded, options)
        assert changed.fingerprint != first.fingerprint and not changed.from_store
        store(wh, options, changed)
        (_, new), (_, old) = last_two(wh, study, options)
        rows, compared = moved(old, new)
        assert compared == len(changed.result.quantities)
        assert rows and {"group", "name", "value_before", "value_now"} <= set(rows[0])


def test_documents_of_tables_say_what_moved() -> None:
    def tables(*values: float) -> Tables:
        rows = tuple({"behavior": name, "share": value} for name, value in zip("abc", values, strict=False))
        one = Table(
            name="t", title="T", columns={"behavior": "behavior", "share": "share"}, rows=rows, note="", method="m",
            queries=(Query(sql="SELECT :x", parameters={"x": 1}),), runs=("r",),
        )  # fmt: skip
        return Tables(study="s", options={"seed": 1}, tables=(one,), conclusions=("c",), messages=())

    first = tables(0.1, 0.2)
    assert tables_of(read(text_of(first))) == first
    rows, compared = moved(read(text_of(first)), read(text_of(tables(0.1, 0.3, 0.4))))
    assert compared == 3
    assert [(row["change"], row["row"], row["value_now"]) for row in rows] == [("new", "c", 0.4), ("moved", "b", 0.3)]
