-- Judged answers of finished stress tests, one row a run and prompt, with the run that the untouched model answered in.
SELECT runs.uuid AS run, models.key AS model, models.fingerprint AS model_fingerprint, runs.seed, runs.experiment,
       tested.condition, tested.training_run, runs.config_hash, axes.rho_weight, axes.margin, answered.judge, answered.prompt_key, answered.kind, answered.category, answered.refused,
       COALESCE(answered.prompt, answered.prompt_key) AS prompt
FROM stress_responses AS answered
JOIN runs ON runs.id = answered.run_id
JOIN models ON models.id = runs.model_id
JOIN stress_tests AS tested ON tested.run_id = runs.id
LEFT JOIN runs AS training ON training.uuid = tested.training_run
LEFT JOIN alignment_runs AS axes ON axes.run_id = training.id
WHERE runs.state = 'done' AND answered.refused IS NOT NULL AND {conditions}
ORDER BY models.key, tested.condition, runs.seed, runs.uuid, answered.prompt_key
