-- Runs by kind, model and state.
SELECT runs.kind, models.key AS model, models.n_parameters, models.quantization, runs.state, count(*) AS runs,
       count(DISTINCT runs.seed) AS seeds, count(DISTINCT runs.config_hash) AS configurations
FROM runs
JOIN models ON models.id = runs.model_id
WHERE {conditions}
GROUP BY runs.kind, models.key, models.n_parameters, models.quantization, runs.state
ORDER BY runs.kind, models.key, runs.state
