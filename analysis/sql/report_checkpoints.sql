-- Scores on the way, mean over the seeds of one configuration of one model (its weights), with the change against the untouched model.
SELECT models.key AS model, models.fingerprint AS model_fingerprint, substr(models.fingerprint, 1, 8) AS weights,
       runs.experiment, runs.config_hash, axes.condition, passed.behavior, passed.epochs,
       count(*) AS runs, avg(passed.value) AS value, avg(passed.value - untouched.value) AS delta,
       stddev(passed.value - untouched.value) AS sd, passed.metric, passed.split
FROM checkpoint_scores AS passed
JOIN runs ON runs.id = passed.run_id
JOIN models ON models.id = runs.model_id
JOIN alignment_runs AS axes ON axes.run_id = runs.id
LEFT JOIN behavior_scores AS untouched
    ON untouched.run_id = runs.baseline_run_id AND untouched.behavior = passed.behavior
    AND untouched.metric = passed.metric AND untouched.split = passed.split
WHERE runs.state = 'done' AND {conditions}
GROUP BY models.key, models.fingerprint, runs.experiment, runs.config_hash, axes.condition, passed.behavior,
         passed.epochs, passed.metric, passed.split
ORDER BY models.key, models.fingerprint, axes.condition, passed.behavior, passed.epochs, runs.config_hash
