"""`v_recomputed_scores`: every metric from single probe scores, in SQL, against NumPy and SciPy."""

import numpy as np
import pytest
from scipy.stats import mannwhitneyu, spearmanr
from warehouse_samples import identity, outcome, probe_scores, probe_set

from rhodb.records import ProbeScoreRow
from rhodb.store import insert_outcome


def by_hand(rows: list[ProbeScoreRow], split: str) -> dict[str, tuple[float, int]]:
    """Metric -> (value, n), as the words of design.md say it."""
    rows = [row for row in rows if row.split == split]
    sides = {side: {row.probe_key: row for row in rows if row.side == side} for side in ("positive", "negative")}
    keys = [key for key in sides["positive"] if key in sides["negative"]]
    positive, negative = (np.array([sides[side][key].ce for key in keys]) for side in ("positive", "negative"))
    everything = np.array([row.ce for row in rows])
    label = np.array([row.side == "positive" for row in rows], dtype=float)
    expected = {
        "gap": (np.mean(negative - positive), len(keys)),
        "pair_accuracy": (np.mean(positive < negative), len(keys)),
        "truth_corr": (spearmanr(-positive, -negative).statistic, len(keys)),
        "rho": (spearmanr(-everything, label).statistic, len(rows)),
        "auc": (
            mannwhitneyu(-everything[label == 1], -everything[label == 0]).statistic
            / (label.sum() * (1 - label).sum()),
            len(rows),
        ),
    }
    answers = [
        sides["negative"][key].answer_ce - sides["positive"][key].answer_ce
        for key in keys
        if sides["positive"][key].answer_ce is not None
    ]
    if answers:
        expected["answer_gap"] = (np.mean(answers), len(answers))
        pairs = [
            (sides["positive"][key], sides["negative"][key])
            for key in keys
            if sides["positive"][key].answer_ce is not None
        ]
        p = np.array([_chosen(*pair) for pair in pairs])
        expected["brier"] = (np.mean((1 - p) ** 2), len(p))
        confidence, right = np.maximum(p, 1 - p), p > 0.5
        bins = [(confidence >= low / 20) & (confidence < (low + 1) / 20 + (low == 19)) for low in range(10, 20)]
        gaps = [abs(right[b].mean() - confidence[b].mean()) * b.sum() for b in bins if b.any()]
        expected["ece"] = (sum(gaps) / len(p), len(p))
    return {metric: (value, n) for metric, (value, n) in expected.items() if not np.isnan(value)}


def _chosen(positive: ProbeScoreRow, negative: ProbeScoreRow) -> float:
    """Probability of the desired answer, by softmax over both answers' log-probabilities."""
    logs = np.array([-row.answer_ce * row.answer_tokens for row in (positive, negative)])
    return float(np.exp(logs[0] - np.logaddexp.reduce(logs)))


def store(wh, rows, *records, seed=1):
    assert insert_outcome(wh, outcome(identity(seed), probe_rows=rows), {r.fingerprint: r for r in records})


@pytest.mark.filterwarnings("ignore:An input array is constant")
@pytest.mark.parametrize(("decimals", "answers"), [(9, True), (1, True), (0, False)])
@pytest.mark.parametrize("pairs", [4, 61])
def test_recomputed_metrics_equal_numpy_and_scipy(wh, decimals, answers, pairs):
    rng = np.random.default_rng(pairs)
    records = [probe_set("toxicity", pairs), probe_set("bias", pairs + 5)]
    for seed in (1, 2):
        rows = {r.behavior: probe_scores(r, rng, decimals=decimals, answers=answers) for r in records}
        store(wh, [*rows["toxicity"], *rows["bias"]], *records, seed=seed)
        for behavior, own in rows.items():
            for split in ("train", "eval"):
                found = wh.rows(
                    "SELECT metric, value, n FROM v_recomputed_scores WHERE behavior = :behavior AND split = :split "
                    "AND run_id = (SELECT id FROM runs WHERE seed = :seed)",
                    behavior=behavior,
                    split=split,
                    seed=seed,
                )
                assert {row["metric"]: (pytest.approx(row["value"], abs=1e-12), row["n"]) for row in found} == by_hand(
                    own, split
                )


def test_undefined_metrics_have_no_row(wh):
    record = probe_set(pairs=4)
    rows = [row for row in probe_scores(record, np.random.default_rng(0), decimals=9) if row.split == "eval"]
    one_side = [row for row in rows if row.side == "positive"]
    store(wh, one_side, record, seed=1)
    constant = [ProbeScoreRow(**{**vars(row), "ce": 2.0}) for row in rows]
    store(wh, constant, record, seed=2)
    metrics = "SELECT metric, value FROM v_recomputed_scores WHERE run_id = :run ORDER BY metric"
    assert wh.rows(metrics, run=1) == []
    assert wh.rows(metrics, run=2) == [
        {"metric": "auc", "value": 0.5},
        {"metric": "gap", "value": 0.0},
        {"metric": "pair_accuracy", "value": 0.0},
    ]


def test_asking_for_one_run_reads_one_run(wh):
    plan = wh.rows("EXPLAIN QUERY PLAN SELECT * FROM v_recomputed_scores WHERE run_id = 7")
    reads = [row["detail"] for row in plan if row["detail"].split()[1] in ("scores", "positive")]
    assert reads and all("USING PRIMARY KEY (run_id=?" in read for read in reads), reads


def test_the_metrics_of_the_runners_are_the_same(wh):
    metrics = pytest.importorskip("runners.metrics")
    record = probe_set(pairs=40)
    rows = probe_scores(record, np.random.default_rng(3), decimals=2, answers=True)
    store(wh, rows, record)
    expected = {(s.metric, s.split): (s.value, s.n) for s in metrics.behavior_scores("toxicity", rows)}
    found = wh.rows("SELECT * FROM v_recomputed_scores")
    assert {(r["metric"], r["split"]): (pytest.approx(r["value"], abs=1e-12), r["n"]) for r in found} == expected
