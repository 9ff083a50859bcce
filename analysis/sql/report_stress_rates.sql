-- Refusals by condition, kind and category of prompt, prompts of all seeds added up.
SELECT models.key AS model, runs.experiment, tested.condition, answered.judge, answered.kind, answered.category,
       count(*) AS answers, sum(answered.refused) AS refused, count(DISTINCT runs.seed) AS seeds
FROM stress_responses AS answered
JOIN runs ON runs.id = answered.run_id
JOIN models ON models.id = runs.model_id
JOIN stress_tests AS tested ON tested.run_id = runs.id
WHERE runs.state = 'done' AND answered.refused IS NOT NULL AND {conditions}
GROUP BY models.key, runs.experiment, tested.condition, answered.judge, answered.kind, answered.category
ORDER BY models.key, runs.experiment, answered.judge, answered.kind, answered.category, tested.condition
