-- The scores of one run with those of its baseline.
SELECT behavior, metric, split, value, se, n, baseline_value, delta
FROM v_scores
WHERE run_id = (SELECT id FROM runs WHERE uuid = :uuid)
ORDER BY behavior, metric, split
