"""Data frames of scores and runs hold what the tables hold, and only what was asked for."""

import pytest
from legacy_files import write_tree
from warehouse_samples import BASELINE, identity, outcome

from rhodb.errors import InputError, UnknownNameError
from rhodb.ingest import ingest
from rhodb.store import insert_outcome


@pytest.fixture
def filled(wh, tmp_path):
    insert_outcome(wh, outcome(BASELINE, value=0.1), {})
    insert_outcome(wh, outcome(identity(7), baseline=BASELINE, value=0.4), {})
    ingest(wh, [write_tree(tmp_path / "results")])
    return wh


def test_scores_equal_the_view_and_conditions_select(filled):
    assert len(filled.scores()) == filled.rows("SELECT count(*) AS n FROM behavior_scores")[0]["n"]
    (one,) = filled.scores(seed=7).to_dict("records")
    assert (one["value"], one["baseline_value"], one["delta"]) == (0.4, 0.1, pytest.approx(0.3))
    assert (one["condition"], one["split"], one["se"], one["n"]) == ("rho-guided", "eval", 0.1, 3)
    assert set(filled.scores(kind="alignment", origin="legacy")["split"]) == {"none"}
    assert set(filled.scores(behavior=["bias", "factual"])["behavior"]) == {"bias", "factual"}
    assert len(filled.scores(seed=[7, 42])) == len(filled.scores(seed=7)) + len(filled.scores(seed=42))
    assert filled.scores(model="x'; DROP TABLE runs; --").empty and len(filled.runs()) > 10


@pytest.mark.parametrize(
    "wrong", [{"kind": "nosuch"}, {"metric": "rho; --"}, {"split": "test"}, {"behavior": ["bias", "x"]}]
)
def test_unknown_words_are_refused(filled, wrong):
    with pytest.raises(UnknownNameError, match="choose from"):
        filled.scores(**wrong)


def test_an_empty_list_is_a_mistake(filled):
    with pytest.raises(InputError, match="empty list"):
        filled.scores(seed=[])


def test_runs_bring_the_columns_of_their_experiment(filled):
    runs = filled.runs(kind="alignment")
    assert {"condition", "rho_weight", "lora_rank"} <= set(runs.columns)
    assert set(filled.runs(state="failed")["error"]) == {"RuntimeError: out of memory"}
    assert "condition" not in filled.runs(kind=["alignment", "steering"]).columns
    assert list(filled.runs(kind="steering", model="lab/m")["layer"]) == [3]
    assert filled.runs(seed=7)["baseline"].notna().all()
