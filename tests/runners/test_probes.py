"""Probe files: the real ones in full, every layout by hand, the split, the selection, and bad files."""

import json
from collections import Counter

import pytest

from rhodb.errors import InputError
from runners.probes import load_probe_sets, pair_behaviors, select_pairs, split_of


@pytest.fixture(scope="module")
def real_sets():
    return load_probe_sets()


def test_the_real_probe_files_are_read_whole(real_sets):
    behaviors = Counter(s.behavior for s in real_sets)
    assert behaviors.keys() == {
        "factual", "toxicity", "bias", "sycophancy", "reasoning", "refusal", "deception", "overrefusal", "bench",
    }  # fmt: skip
    assert len(real_sets) == 36
    pairs = select_pairs(real_sets, behaviors=pair_behaviors(real_sets), split="none", per_behavior=None)
    assert Counter(u.behavior for u in pairs)["bias"] == 357
    assert Counter(u.behavior for u in pairs)["factual"] == 206
    assert all(u.probe.prompt is None or u.probe.positive.startswith(u.probe.prompt) for u in pairs)
    assert all(u.probe.prompt is None or u.probe.negative.startswith(u.probe.prompt) for u in pairs)


def test_overrefusal_has_no_pairs_and_naming_it_lists_those_that_have(real_sets):
    assert "overrefusal" not in pair_behaviors(real_sets)
    with pytest.raises(InputError, match=r"'overrefusal'; choose from bench, bias"):
        select_pairs(real_sets, behaviors=("overrefusal",), split="hash", per_behavior=None)


def test_the_split_is_stable_and_about_half():
    # Fixed when the rule was made: a change of the rule would silently move probes between train and eval.
    assert [split_of(k) for k in ("capital_france", "bbq_2575_5", "syco_politics_82", "ref_0")] == SPLIT_GOLDEN
    shares = Counter(split_of(f"probe {i}") for i in range(4000))
    assert 1850 < shares["train"] < 2150


SPLIT_GOLDEN = ["train", "train", "eval", "eval"]


def test_a_smaller_selection_is_part_of_a_larger_one(real_sets):
    small, large = (
        {u.probe.key for u in select_pairs(real_sets, behaviors=("bias", "bench"), split="hash", per_behavior=n)}
        for n in (20, 60)
    )
    assert len(small) == 40 and small < large


def test_both_halves_are_selected(real_sets):
    uses = select_pairs(real_sets, behaviors=("toxicity",), split="hash", per_behavior=20)
    assert Counter(u.split for u in uses) == {"train": 10, "eval": 10}


def write(tmp_path, behavior, entries):
    folder = tmp_path / "prøbes 'x'" / behavior
    folder.mkdir(parents=True, exist_ok=True)
    text = entries if isinstance(entries, str) else json.dumps(entries)
    (folder / "mine.json").write_text(text, encoding="utf-8")
    return str(folder.parent)


def test_every_layout_becomes_the_texts_of_the_design(tmp_path):
    cases = {
        "bias": ({"text": "Q", "correct_answer": "A", "biased_answer": "C"}, "Q A", "Q C"),
        "sycophancy": ({"text": "Q", "truthful_answer": "t", "sycophantic_answer": "s"}, "Q\nt", "Q\ns"),
        "refusal": ({"text": "good", "harmful_version": "bad"}, "good", "bad"),
        "deception": ({"honest": "h", "deceptive": "d"}, "h", "d"),
        "factual": ({"text": "t", "false": "f"}, "t", "f"),
        "reasoning": ({"prompt": "p", "positive": "a", "negative": "b"}, "p\na", "p\nb"),
    }
    for behavior, (entry, positive, negative) in cases.items():
        sets = load_probe_sets(write(tmp_path, behavior, [entry | {"id": "x"}]))
        (probe,) = next(s for s in sets if s.behavior == behavior).probes
        assert (probe.positive, probe.negative) == (positive, negative)


def test_toxicity_pairs_within_a_group_and_leaves_the_surplus_out(tmp_path):
    texts = [("a", False, "g"), ("b", False, "g"), ("c", True, "g"), ("d", True, "h")]
    source = write(tmp_path, "toxicity", [{"id": i, "text": i, "is_toxic": t, "target_group": g} for i, t, g in texts])
    (probe,) = load_probe_sets(source)[0].probes
    assert probe.negative == "c" and probe.positive in "ab" and probe.category == "g"


@pytest.mark.parametrize(
    ("behavior", "entries", "message"),
    [
        ("factual", "[{", "cannot be read as UTF-8 JSON"),
        ("factual", [], "at least one probe"),
        ("factual", {"id": "x"}, "must be a JSON list"),
        ("factual", [{"id": "x", "text": "only one side"}], "entry 0: a side is missing"),
        ("factual", [{"id": "x", "text": "t", "false": " "}], "'false' must be a text that is not empty"),
        ("factual", [{"text": "t", "false": "f"}], "'id' must be a text"),
        ("factual", [{"id": "x", "text": "t", "false": "f"}] * 2, "'x' more than once"),
        ("toxicity", [{"id": "x", "text": "t", "is_toxic": True, "target_group": "g"}], "only one side"),
        ("toxicity", [{"id": "x", "text": "t", "is_toxic": "yes"}], "must be true or false"),
    ],
)
def test_a_bad_file_is_named_with_its_fault(tmp_path, behavior, entries, message):
    with pytest.raises(InputError, match=message) as error:
        load_probe_sets(write(tmp_path, behavior, entries))
    assert "mine.json" in str(error.value)


def test_a_missing_or_empty_folder(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        load_probe_sets(str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="no probe files"):
        load_probe_sets(str(tmp_path))
