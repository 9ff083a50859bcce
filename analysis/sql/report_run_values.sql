-- Scores of finished alignment runs with their configuration: one row a run and behavior.
SELECT runs.uuid AS run, models.key AS model, substr(models.fingerprint, 1, 8) AS weights, runs.seed, runs.experiment, runs.config, axes.condition, axes.rho_weight,
       axes.margin, axes.epochs, score.behavior, score.metric, score.split, score.value,
       score.value - untouched.value AS delta
FROM runs
JOIN models ON models.id = runs.model_id
JOIN alignment_runs AS axes ON axes.run_id = runs.id
JOIN behavior_scores AS score ON score.run_id = runs.id
LEFT JOIN behavior_scores AS untouched
    ON untouched.run_id = runs.baseline_run_id AND untouched.behavior = score.behavior
    AND untouched.metric = score.metric AND untouched.split = score.split
WHERE runs.state = 'done' AND {conditions}
ORDER BY models.key, models.fingerprint, axes.condition, score.behavior, runs.seed, runs.uuid
