-- Stress tests: refusals of jailbreaks and benign prompts, one row a run.
SELECT runs.uuid AS run, models.key AS model, models.fingerprint AS model_fingerprint, runs.seed, runs.experiment,
       tested.condition, tested.n_jailbreak, tested.jailbreak_refused, tested.n_benign, tested.benign_refused,
       tested.judge
FROM runs
JOIN models ON models.id = runs.model_id
JOIN stress_tests AS tested ON tested.run_id = runs.id
WHERE runs.state = 'done' AND {conditions}
ORDER BY models.key, tested.condition, runs.seed, runs.uuid
