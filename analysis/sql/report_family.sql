-- Means over the seeds of each stratum of a family: one row an arm, behavior, metric and split. Strata are never
-- pooled: rows differ wherever the weights, the configuration (without the seed) or the experiment do.
WITH chosen AS (
    SELECT runs.id, models.key AS model, models.fingerprint AS model_fingerprint, runs.experiment, runs.config_hash, runs.baseline_run_id{axes}
    FROM runs
    JOIN models ON models.id = runs.model_id{join}
    WHERE runs.state = 'done' AND runs.kind = '{kind}' AND {where}
)
SELECT chosen.model, chosen.model_fingerprint, substr(chosen.model_fingerprint, 1, 8) AS weights,
       chosen.experiment, chosen.config_hash{group},
       score.behavior, score.metric, score.split, count(*) AS runs, max(score.n) AS n,
       avg(score.value) AS value,
       avg(untouched.value) AS baseline, avg(score.value - untouched.value) AS delta,
       stddev(COALESCE(score.value - untouched.value, score.value)) AS sd{outcomes}
FROM chosen
JOIN behavior_scores AS score ON score.run_id = chosen.id
LEFT JOIN behavior_scores AS untouched
    ON untouched.run_id = chosen.baseline_run_id
    AND untouched.behavior = score.behavior AND untouched.metric = score.metric AND untouched.split = score.split
WHERE {conditions}
GROUP BY chosen.model, chosen.model_fingerprint, chosen.experiment, chosen.config_hash{group}, score.behavior,
         score.metric, score.split
ORDER BY {first}chosen.model, chosen.model_fingerprint{group}, chosen.experiment, chosen.config_hash, score.metric, score.split, score.behavior
LIMIT {most}
