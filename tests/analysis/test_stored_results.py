"""Results as documents: pieces that make one JSON, read back equal; what is kept and what is too large."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from analysis import stored
from analysis.anomalies.study import Anomalies
from analysis.findings import Result
from analysis.render import text
from analysis.simulate import nothing
from analysis.stored import from_json, moved, too_large
from analysis.study import StudyOptions


@pytest.fixture(scope="module")
def result() -> Result:
    rng = np.random.default_rng(0)
    return Anomalies().compute(nothing()(rng).frame(), StudyOptions(), rng)


def test_pieces_make_the_document_and_the_document_the_result(result: Result) -> None:
    document = json.loads("".join(result.json_pieces()))
    assert document == result.to_json()
    assert list(document["findings"][0])[:2] == ["number", "about"]
    assert document["findings"][0]["p"] == result.findings[0].p
    again = from_json(document)
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
    rows = moved(result, changed)
    assert [row["change"] for row in rows] == ["verdict", "gone"]
    assert rows[0]["verdict_now"] == "artefact" and moved(result, result) == []
