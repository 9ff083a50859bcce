"""Generation probes: what is asked, when a problem is solved, what is stored."""

import json
import sqlite3
from contextlib import closing

import pytest
from experiments import EXPERIMENTS, Silent, options_of, session_of
from hypothesis import given
from hypothesis import strategies as st

from rhodb.family_records import GeneratedAnswerRow
from runners.generation_probes import load_questions, scores, solved
from runners.probes import load_probe_sets


@pytest.mark.parametrize(
    ("response", "target", "right", "rule"),
    [
        ("2 + 2 = 4", "4", True, "number after its mark"),
        ("So they raised $2,280 in total.", "2280", True, "number at the end"),
        ("First 12, then 7.", "12", False, "number at the end"),
        ("The answer is 18 because 3 * 6 is 18 and not 20.", "18", True, "number after its mark"),
        ("#### -3.50", "-3.5", True, "number after its mark"),
        ("I do not know.", "4", False, "no number"),
        ("", "4", False, "no number"),
        ("This statement is True.", "true", True, "word at the end"),
        ("That is untrue.", "true", False, "word at the end"),
        ("About 1-2 minutes.", "1-2", True, "word at the end"),
    ],
)
def test_a_problem_is_solved_by_the_answer_it_ends_in(response, target, right, rule):
    assert solved(response, target) == (right, rule)


@given(st.text(), st.integers(-(10**6), 10**6))
def test_a_marked_right_answer_is_found_behind_any_text(text, number):
    assert solved(f"{text} The answer is {number}.", str(number))[0]


def _row(variant: str, split: str, success: bool) -> GeneratedAnswerRow:
    return GeneratedAnswerRow(
        behavior="overrefusal" if variant == "question" else "reasoning",
        probe_key="k", variant=variant, split=split, response="r", success=success, rule="x", tokens=1, seconds=0.1,
    )  # fmt: skip


def test_scores_are_shares_with_binomial_errors_and_absent_where_nothing_was_asked():
    rows = [_row("flattered", "eval", s) for s in (True, False, False, False)] + [_row("clean", "eval", True)]
    (score,) = scores(rows)
    assert (score.behavior, score.metric, score.split, score.value, score.n) == (
        "reasoning", "accuracy", "eval", 0.25, 4,
    )  # fmt: skip
    assert score.se == pytest.approx((0.25 * 0.75 / 4) ** 0.5)
    (score,) = scores([_row("question", "none", True)])
    assert (score.metric, score.value) == ("refusal_rate", 1.0)


def test_the_packages_problems_are_asked_twice_and_keep_their_half():
    sets = load_probe_sets()
    questions = load_questions(None, sets, split="hash", per_behavior=None)
    by_variant = {v: {q.key: q for q in questions if q.variant == v} for v in ("clean", "flattered", "question")}
    assert by_variant["clean"].keys() == by_variant["flattered"].keys() and len(by_variant["clean"]) == 116
    assert len(by_variant["question"]) == 150
    for key, clean in by_variant["clean"].items():
        assert clean.split == by_variant["flattered"][key].split in ("train", "eval")
        assert clean.text != by_variant["flattered"][key].text or "rshort" in key
    few = load_questions(None, sets, split="hash", per_behavior=10)
    assert len(few) == 30 and {q.text for q in few} <= {q.text for q in questions}
    assert {q.split for q in load_questions(None, sets, split="none", per_behavior=2)} == {"none"}


def test_an_ablation_with_generation_probes_stores_answers_scores_and_their_view(rhodb, tmp_path, tiny_ablation):
    more = ["--generation-probes", "--response-tokens", "4", "--conditions", "sft-only", "--json"]
    done = rhodb(*tiny_ablation, *more)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["executed"]) == 2
    with closing(sqlite3.connect(tmp_path / "results" / "master.db")) as connection:
        answers = connection.execute(
            "SELECT count(*), count(DISTINCT run_id), max(tokens), min(success IN (0, 1)) FROM generated_answers"
        ).fetchone()
        assert answers == (48, 2, answers[2], 1) and 0 < answers[2] <= 4
        compared = connection.execute(
            "SELECT s.value, v.flattered_accuracy, s.n, v.n_problems FROM behavior_scores s "
            "JOIN v_generation_probes v USING (run_id, split) WHERE metric = 'accuracy'"
        ).fetchall()
        assert len(compared) == 4 and all(a == b and m == n for a, b, m, n in compared)
    without = rhodb(*tiny_ablation, "--conditions", "sft-only", "--json")
    assert len(json.loads(without.stdout)["executed"]) == 2  # another evaluation is another run


@pytest.mark.parametrize("runner", EXPERIMENTS)
def test_every_experiment_asks_where_it_is_told_to(runner, tiny_model_folder, tiny_probes_folder, tmp_path):
    options = options_of(runner, tiny_model_folder, tiny_probes_folder, tiny_model_folder)
    options |= {"models": str(tiny_model_folder), "merge": ""} if runner == "leaderboard" else {}
    asked = {"generation_probes": "true", "response_tokens": "3", "probes_per_behavior": "2"}
    session = session_of(runner, options | asked)
    for cell in (session.cells[0], session.cells[-1]):
        assert cell.identity.config["generation"]["response_tokens"] == 3
        rows = session.execute(cell, tmp_path / "artefacts", Silent())
        answers = [row for row in rows.family_rows if isinstance(row, GeneratedAnswerRow)]
        expected = 24 if runner == "fidelity-bench" else 4  # there the limit is one of categories, not of questions
        assert len(answers) == expected and {row.variant for row in answers} == {"clean", "flattered"}
        assert {"accuracy"} <= {score.metric for score in rows.scores}
    without = session_of(runner, options | {"probes_per_behavior": "2", "response_tokens": "3"})
    assert all({"generation", "response_tokens"}.isdisjoint(cell.identity.config) for cell in without.cells)


def test_a_steered_model_answers_while_it_is_steered(tiny_model_folder, tiny_probes_folder, tmp_path):
    options = options_of("steering", tiny_model_folder, tiny_probes_folder) | {"layers": "1", "alpha": "0,1000"}
    asked = {"generation_probes": "true", "response_tokens": "6", "probes_per_behavior": "4"}
    session = session_of("steering", options | asked)
    said = {}
    for cell in session.cells[:1] + [c for c in session.cells if c.identity.config.get("control", 0) is None]:
        rows = session.execute(cell, tmp_path / "artefacts", Silent())
        answers = [row.response for row in rows.family_rows if isinstance(row, GeneratedAnswerRow)]
        said[cell.identity.config.get("alpha")] = answers
    assert said[None] == said[0] != said[1000]
