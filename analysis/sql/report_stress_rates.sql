-- Refusals by condition, kind and category of prompt, prompts of all seeds added up.
SELECT models.key AS model, models.fingerprint AS model_fingerprint, runs.experiment, tested.condition, runs.config_hash, axes.rho_weight, axes.margin,
       answered.judge, answered.kind, answered.category,
       count(*) AS answers, sum(answered.refused) AS refused, count(DISTINCT runs.seed) AS seeds
FROM stress_responses AS answered
JOIN runs ON runs.id = answered.run_id
JOIN models ON models.id = runs.model_id
JOIN stress_tests AS tested ON tested.run_id = runs.id
LEFT JOIN runs AS training ON training.uuid = tested.training_run
LEFT JOIN alignment_runs AS axes ON axes.run_id = training.id
WHERE runs.state = 'done' AND answered.refused IS NOT NULL AND {conditions}
GROUP BY models.key, models.fingerprint, runs.experiment, tested.condition, runs.config_hash, axes.rho_weight,
         axes.margin, answered.judge, answered.kind, answered.category
ORDER BY models.key, runs.experiment, answered.judge, answered.kind, answered.category, tested.condition,
         axes.rho_weight, axes.margin, runs.config_hash
