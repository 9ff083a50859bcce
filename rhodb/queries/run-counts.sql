-- Runs by kind, model and state.
SELECT runs.kind, models.key AS model, runs.state, count(*) AS runs, max(runs.finished_at) AS last
FROM runs
JOIN models ON models.id = runs.model_id
GROUP BY runs.kind, models.key, runs.state
ORDER BY runs.kind, models.key, runs.state
