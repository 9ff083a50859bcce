-- Scores of alignment runs that were begun after a hypothesis was registered.
SELECT scores.run, scores.seed, scores.value, scores.baseline_value, scores.config_hash, runs.config, runs.seconds
FROM v_scores AS scores
JOIN runs ON runs.id = scores.run_id
WHERE scores.kind = 'alignment'
    AND scores.origin = 'rhodb'
    AND scores.model = :model
    AND scores.behavior = :behavior
    AND scores.metric = :metric
    AND scores.split = :split
    AND runs.state = 'done'
    AND runs.started_at >= :since
ORDER BY scores.run
