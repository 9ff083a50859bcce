"""What the warehouse refuses to hold, whoever writes."""

import pytest
from sqlalchemy.exc import IntegrityError, OperationalError
from warehouse_samples import ALIGNMENT, identity, outcome, probe_set

from rhodb.rows import ensure_probe_set
from rhodb.store import insert_outcome
from rhodb.vocabulary import METRICS, SIGNED_UNIT_METRICS, UNIT_METRICS


@pytest.fixture
def filled(wh):
    insert_outcome(wh, outcome(identity(1)), {})
    with wh.write() as connection:
        ensure_probe_set(connection, probe_set())
    return wh


def execute(wh, sql: str, *values: object) -> None:
    with wh.write() as connection:
        connection.exec_driver_sql(sql, values)


def refuses(wh, sql: str, *values: object) -> None:
    with pytest.raises(IntegrityError):
        execute(wh, sql, *values)


SCORE = "INSERT INTO behavior_scores VALUES (1, ?, ?, ?, ?, ?, ?)"


@pytest.mark.parametrize(
    ("metric", "value"),
    [(m, v) for m in SIGNED_UNIT_METRICS for v in (-1.0001, 1.0001)]
    + [(m, v) for m in UNIT_METRICS for v in (-0.0001, 1.0001)]
    + [("gap", float("inf")), ("gap", float("-inf")), ("gap", float("nan")), ("gap", None), ("gap", "much")],
)
def test_scores_outside_their_range_are_refused(filled, metric, value):
    refuses(filled, SCORE, "bias", metric, "eval", value, None, 5)


@pytest.mark.parametrize("metric", METRICS)
def test_scores_at_the_ends_of_their_range_are_taken(filled, metric):
    low = -1.0 if metric in SIGNED_UNIT_METRICS else 0.0 if metric in UNIT_METRICS else -7.5
    execute(filled, SCORE, "bias", metric, "train", low, 0.0, 1)
    execute(filled, SCORE, "bias", metric, "eval", 1.0, None, 1)


@pytest.mark.parametrize(
    ("metric", "split", "se", "n"),
    [("nosuch", "eval", None, 5), ("gap", "test", None, 5), ("gap", "eval", -0.1, 5), ("gap", "eval", None, 0)],
)
def test_scores_with_unknown_words_or_impossible_numbers_are_refused(filled, metric, split, se, n):
    refuses(filled, SCORE, "bias", metric, split, 0.5, se, n)


def test_a_score_is_stored_once(filled):
    execute(filled, SCORE, "bias", "gap", "eval", 0.5, None, 5)
    refuses(filled, SCORE, "bias", "gap", "eval", 0.6, None, 5)


@pytest.mark.parametrize(
    "change",
    [
        "state = 'finished'",
        "seed = -1",
        "attempt = -1",
        "seconds = -1",
        "git_dirty = 2",
        "finished_at = NULL",
        "state = 'failed'",  # without an error
        "error = 'why'",  # done, and yet an error
        "seed = 'many'",
        "baseline_run_id = 99",
        "model_id = 99",
    ],
)
def test_impossible_runs_are_refused(filled, change):
    refuses(filled, f"UPDATE runs SET {change} WHERE uuid = '{outcome(identity(1)).uuid}'")


@pytest.mark.parametrize(
    "values",
    [
        (1, 1, "left", "eval", 5, 2.0, None, None, 0),
        (1, 1, "positive", "test", 5, 2.0, None, None, 0),
        (1, 1, "positive", "eval", 0, 2.0, None, None, 0),
        (1, 1, "positive", "eval", 5, None, None, None, 0),
        (1, 1, "positive", "eval", 5, float("inf"), None, None, 0),
        (1, 1, "positive", "eval", 5, 2.0, 3, None, 0),
        (1, 1, "positive", "eval", 5, 2.0, None, 1.0, 0),
        (1, 1, "positive", "eval", 5, 2.0, None, None, 2),
        (1, 99, "positive", "eval", 5, 2.0, None, None, 0),
        (99, 1, "positive", "eval", 5, 2.0, None, None, 0),
    ],
)
def test_impossible_probe_scores_are_refused(filled, values):
    insert = "INSERT INTO probe_scores VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
    execute(filled, insert, 1, 1, "negative", "eval", 5, 2.0, None, None, 0)
    refuses(filled, insert, *values)


@pytest.mark.parametrize(
    "change", ["condition = 'none'", "rho_weight = -0.1", "margin = -0.1", "lora_rank = 0", "swapped_share = 1.1"]
)
def test_impossible_alignment_runs_are_refused(filled, change):
    refuses(filled, f"UPDATE alignment_runs SET {change}")


def test_a_pair_has_two_texts(filled):
    refuses(filled, "INSERT INTO probes (set_id, key, split, kind, positive) VALUES (1, 'x', 'eval', 'pair', 'text')")
    execute(
        filled,
        "INSERT INTO probes (set_id, key, split, kind, positive) VALUES (1, 'x', 'eval', 'generation', 'text')",
    )


def test_a_run_takes_its_rows_with_it_but_a_used_probe_stays(filled):
    execute(filled, "INSERT INTO probe_scores VALUES (1, 1, 'negative', 'eval', 5, 2.0, NULL, NULL, 0)")
    refuses(filled, "DELETE FROM probes")
    execute(filled, "DELETE FROM runs")
    for table in ("behavior_scores", "probe_scores", "train_steps", "alignment_runs"):
        assert filled.rows(f"SELECT * FROM {table}") == [], table


def test_views_cannot_be_written(filled):
    with pytest.raises(OperationalError):
        execute(filled, "DELETE FROM v_scores")


def test_v_alignment_is_wide_and_v_scores_tidy(wh):
    baseline = identity(0, kind="baseline")
    insert_outcome(wh, outcome(baseline, value=0.25), {})
    insert_outcome(wh, outcome(identity(7), baseline=baseline, value=0.75), {})
    insert_outcome(wh, outcome(identity(8), value=0.5), {})
    wide = wh.rows(
        "SELECT seed, condition, toxicity_gap_eval AS value, d_toxicity_gap_eval AS delta, bias_gap_eval AS nothing_ "
        "FROM v_alignment ORDER BY seed"
    )
    assert wide == [
        {"seed": 7, "condition": "rho-guided", "value": 0.75, "delta": 0.5, "nothing_": None},
        {"seed": 8, "condition": "rho-guided", "value": 0.5, "delta": None, "nothing_": None},
    ]
    tidy = wh.rows("SELECT * FROM v_scores WHERE seed = 7")[0]
    assert (tidy["baseline_value"], tidy["delta"], tidy["se"], tidy["n"]) == (0.25, 0.5, 0.1, 3)
    assert (tidy["rho_weight"], tidy["margin"]) == (ALIGNMENT.rho_weight, ALIGNMENT.margin)
    assert wh.rows("SELECT delta, condition FROM v_scores WHERE kind = 'baseline'") == [
        {"delta": None, "condition": None}
    ]
