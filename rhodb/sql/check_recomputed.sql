-- Scores of one run that differ from what its probe scores give, or that only one of the two has.
WITH stored AS (
    SELECT behavior, metric, split, value, n FROM behavior_scores
    WHERE run_id = :run_id AND metric IN ('gap', 'answer_gap', 'rho', 'pair_accuracy', 'auc', 'truth_corr', 'brier', 'ece')
),
computed AS (
    SELECT behavior, metric, split, value, n FROM v_recomputed_scores WHERE run_id = :run_id
),
scores AS (
    SELECT behavior, metric, split FROM stored UNION SELECT behavior, metric, split FROM computed
)
SELECT
    scores.behavior, scores.metric, scores.split,
    stored.value AS stored, computed.value AS computed,
    stored.n AS stored_n, computed.n AS computed_n
FROM scores
LEFT JOIN stored
    ON stored.behavior = scores.behavior AND stored.metric = scores.metric AND stored.split = scores.split
LEFT JOIN computed
    ON computed.behavior = scores.behavior AND computed.metric = scores.metric AND computed.split = scores.split
WHERE stored.value IS NULL OR computed.value IS NULL OR stored.n <> computed.n
    OR abs(stored.value - computed.value) > :tolerance
ORDER BY scores.behavior, scores.metric, scores.split
