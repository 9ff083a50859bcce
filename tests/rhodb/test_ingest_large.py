"""Large files are read piece by piece: the same values, messages and rows as at once, and bounded memory."""

import json
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from legacy_files import FILES, sample, write_file, write_tree

from rhodb.ingest import files, ingest, rows, stream
from rhodb.ingest.fields import FormatError
from rhodb.ingest.stream import LongList, read_large

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("aä\"\\\n", max_size=3), inner),
    max_leaves=20,
)  # fmt: skip


@pytest.fixture
def small_pieces(monkeypatch):
    """Every file is large, every list long, and read a few characters at a time."""
    monkeypatch.setattr(files, "WHOLE", 0)
    monkeypatch.setattr(stream, "LONG", 40)
    monkeypatch.setattr(stream, "CHUNK", 7)
    monkeypatch.setattr(rows, "BATCH", 2)


def plain(value):
    """With lists in the place of long ones, and NaN as a word (it equals nothing)."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | LongList):
        return [plain(inner) for inner in value]
    return "NaN" if isinstance(value, float) and math.isnan(value) else value


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=3).filter(str.isprintable), JSON), st.sampled_from([None, 1]))
def test_any_object_is_read_as_json_reads_it(tmp_path_factory, value, indent):
    path = tmp_path_factory.mktemp("large") / "x.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream, "LONG", 20)
        patch.setattr(stream, "CHUNK", 5)
        for ascii_only in (True, False):
            path.write_text(json.dumps(value, indent=indent, ensure_ascii=ascii_only), encoding="utf-8")
            assert plain(read_large(path)) == plain(value)


@pytest.mark.parametrize(
    "text",
    ['{"a": [1, 2', '{"a": "unclosed', '{"a": [1,\n2,\nx]}', '{"a" 1}', '{"a": 1} x', '{a: 1}', "{", '{"a": [1 2]}',
     '{"a": 1', '{"a": nul}', '{"a": [1, {"b": [2, ]}]}', '{"a": "\\ud800"}', '{"a": ["\\x"]}'],
)  # fmt: skip
def test_what_is_broken_is_said_in_the_same_words(tmp_path, monkeypatch, text):
    path = tmp_path / "x.json"
    path.write_text(text)
    said = []
    for whole in (10**6, 0):
        monkeypatch.setattr(files, "WHOLE", whole)
        monkeypatch.setattr(stream, "CHUNK", 1000 if whole else 3)
        with pytest.raises(FormatError) as caught:
            files.parse(files.load(files.Candidate(path=path, named=True)))
        said.append(caught.value.reason)
    assert said[0] == said[1]


def test_not_utf8_is_said_with_the_place(tmp_path, small_pieces):
    path = tmp_path / "x.json"
    path.write_bytes(b'{"abc": "de\xfff"}')
    with pytest.raises(FormatError, match=r"not UTF-8 \(byte 11\)"):
        read_large(path)


def content(wh):
    sql = (
        "SELECT runs.uuid, state, error, runs.extra, place, behavior, metric, value, sources.name, runs_read, "
        "runs_added, sources.extra AS kept FROM runs LEFT JOIN behavior_scores AS s ON s.run_id = runs.id "
        "LEFT JOIN run_sources AS r ON r.run_id = runs.id LEFT JOIN sources ON sources.id = source_id"
    )
    return sorted((tuple(row.values()) for row in wh.rows(sql)), key=repr)


def test_every_format_gives_the_same_rows(wh, tmp_path, request):
    from rhodb.warehouse import Warehouse

    tree = write_tree(tmp_path / "results")
    at_once = ingest(wh, [tree])
    request.getfixturevalue("small_pieces")
    with Warehouse.open(tmp_path / "other.db") as other:
        in_pieces = ingest(other, [tree])
        assert content(other) == content(wh)
        assert [vars(file) for file in in_pieces.files] == [vars(file) for file in at_once.files]
        again = ingest(
            other, [write_file(tmp_path / "copy", name, json.dumps(FILES[name], indent=3)) for name in FILES]
        )
        assert again.total("added") == 0 and again.problems == []


def test_a_large_file_that_breaks_at_its_end_leaves_nothing(wh, tmp_path, small_pieces):
    value = sample("alignment/sweep.json")
    value["runs"] += [{"rho_weight": 0.2, "seed": seed, "quick_deltas": {"factual": 0.1}} for seed in range(100, 120)]
    value["runs"].append({"seed": "x"})
    (report,) = ingest(wh, [write_file(tmp_path, "alignment/sweep.json", value)]).files
    assert (report.status, report.json_path, report.added) == ("broken", "$.runs[23].seed", 0)
    assert wh.rows("SELECT count(*) AS n FROM runs") == [{"n": 0}]
    assert wh.rows("SELECT count(*) AS n FROM sources") == [{"n": 0}]


def test_a_changed_large_file_is_a_conflict_run_by_run(wh, tmp_path, small_pieces):
    value = sample("alignment/sweep.json")
    value["runs"] = [{"rho_weight": 0.2, "seed": seed, "quick_deltas": {"factual": 0.125}} for seed in range(9)]
    ingest(wh, [write_file(tmp_path, "alignment/sweep.json", value)])
    for seed in (2, 7):
        value["runs"][seed]["quick_deltas"]["factual"] = 0.25
    (report,) = ingest(wh, [write_file(tmp_path, "alignment/sweep.json", value)]).files
    assert report.status == "conflict" and [c.place for c in report.conflicts] == ["$.runs[2]", "$.runs[7]"]
    (report,) = ingest(wh, [write_file(tmp_path, "alignment/sweep.json", value)], on_conflict="replace").files
    assert (report.replaced, report.already, report.added) == (2, 7, 0)


def test_a_file_that_changes_while_it_is_read_is_refused(wh, tmp_path, small_pieces, monkeypatch):
    path = write_file(tmp_path, "alignment/sweep.json", sample("alignment/sweep.json"))
    original = stream.read_large

    def read_then_change(place: Path):
        value = original(place)
        place.write_text(place.read_text() + " ")
        return value

    monkeypatch.setattr(files, "read_large", read_then_change)
    (report,) = ingest(wh, [path]).files
    assert report.status == "broken" and "changed while" in report.reason
    assert wh.rows("SELECT count(*) AS n FROM runs") == [{"n": 0}]


@pytest.mark.parametrize(
    ("large", "words"), [({"a": {"b": "x" * 300}}, "outside"), ({"a": ["y" * 300] * 2}, "a value")]
)
def test_what_cannot_be_read_in_pieces_is_bounded(tmp_path, small_pieces, monkeypatch, large, words):
    monkeypatch.setattr(stream, "MOST", 200)
    path = tmp_path / "x.json"
    path.write_text(json.dumps(large))
    with pytest.raises(FormatError, match=f"{words}|a value of more"):
        read_large(path)
