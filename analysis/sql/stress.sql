-- Stress tests: counts of refusals and the single answers; one row a run and answer (a run without answers: one row).
SELECT runs.uuid AS run, models.key AS model, models.fingerprint AS model_fingerprint, runs.seed, runs.experiment,
       runs.config, training.config AS training_config, axes.rho_weight, axes.margin,
       tested.condition, tested.n_jailbreak, tested.jailbreak_refused, tested.n_benign, tested.benign_refused,
       tested.judge, answered.prompt_key, answered.kind, answered.category, answered.refused,
       COALESCE(answered.prompt, answered.prompt_key) AS prompt
FROM runs
JOIN models ON models.id = runs.model_id
JOIN stress_tests AS tested ON tested.run_id = runs.id
LEFT JOIN runs AS training ON training.uuid = tested.training_run
LEFT JOIN alignment_runs AS axes ON axes.run_id = training.id
LEFT JOIN stress_responses AS answered ON answered.run_id = runs.id AND answered.refused IS NOT NULL
WHERE runs.state = 'done' AND {conditions}
ORDER BY models.key, tested.condition, runs.seed, runs.uuid, answered.prompt_key
