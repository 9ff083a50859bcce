"""The texts of a landscape: which entry gives which nodes, in which order."""

import json

import pytest

from rhodb.errors import InputError
from runners.landscape_nodes import fingerprint, load_nodes


@pytest.fixture
def folder(tmp_path):
    def write(**files: object):
        for name, entries in files.items():
            behavior, _, stem = name.partition("__")
            (tmp_path / behavior).mkdir(exist_ok=True)
            (tmp_path / behavior / f"{stem}.json").write_text(json.dumps(entries))
        return str(tmp_path)

    return write


def test_the_package_holds_the_notes_nodes():
    nodes = load_nodes()
    assert (len(nodes), sum(node.variant == "primary" for node in nodes)) == (2236, 1826)


def test_each_layout_gives_its_texts_and_a_variant_follows_its_primary(folder):
    root = folder(
        toxicity__t=[{"id": "t1", "text": "bad", "is_toxic": True}],
        refusal__r=[{"id": "r1", "text": "safe", "harmful_version": "harm"}],
        deception__d=[{"id": "d1", "honest": "yes", "deceptive": "no"}],
        bias__b=[{"id": "b1", "prompt": "Q", "positive": "P", "negative": "N"}],
        factual__f=[{"id": "f1", "text": "true", "false": "untrue"}],
    )
    assert [(n.behavior, n.key, n.variant, n.text) for n in load_nodes(root)] == [
        ("bias", "b1", "primary", "Q\nP"),
        ("bias", "b1", "negative", "Q\nN"),
        ("deception", "d1", "primary", "yes"),
        ("deception", "d1", "deceptive", "no"),
        ("factual", "f1", "primary", "true"),
        ("refusal", "r1", "primary", "safe"),
        ("refusal", "r1", "harmful", "harm"),
        ("toxicity", "t1", "primary", "bad"),
    ]
    assert all(node.variant == "primary" for node in load_nodes(root, variants=False))


def test_the_fingerprint_follows_text_and_order(folder):
    nodes = load_nodes(folder(factual__f=[{"id": "a", "text": "x"}, {"id": "b", "text": "y"}]))
    other = load_nodes(folder(factual__f=[{"id": "a", "text": "x"}, {"id": "b", "text": "z"}]))
    assert len({fingerprint(nodes), fingerprint(nodes[::-1]), fingerprint(other)}) == 3


@pytest.mark.parametrize(
    ("entries", "told"),
    [
        ([{"id": "a", "question": "x"}], "has no text"),
        ([{"id": "a", "text": " "}], "primary text must be a text that is not empty"),
        ([{"id": "a", "honest": "x", "deceptive": 3}], "deceptive text must be"),
        ([{"text": "x"}], "'id' must be"),
        ({"id": "a"}, "must be a JSON list"),
    ],
)
def test_a_bad_entry_is_named(folder, entries, told):
    with pytest.raises(InputError, match=told) as caught:
        load_nodes(folder(factual__f=entries))
    assert "f.json" in str(caught.value)


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="no probe files"):
        load_nodes(str(tmp_path))


def test_nodes_stand_in_the_order_of_their_keys_unless_the_files_order_is_asked_for(folder):
    entries = [{"id": "b", "text": "y"}, {"id": "a", "honest": "x", "deceptive": "z"}]
    root = folder(deception__d=entries)
    assert [(n.key, n.variant) for n in load_nodes(root)] == [("a", "primary"), ("a", "deceptive"), ("b", "primary")]
    assert [n.key for n in load_nodes(root, order="file")] == ["b", "a", "a"]
    turned = load_nodes(folder(deception__d=entries[::-1]))
    assert fingerprint(turned) == fingerprint(load_nodes(root))
