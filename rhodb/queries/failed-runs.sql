-- Runs that failed, with their error, newest first.
SELECT runs.uuid, runs.kind, models.key AS model, runs.seed, runs.attempt, runs.finished_at, runs.error
FROM runs
JOIN models ON models.id = runs.model_id
WHERE runs.state = 'failed'
ORDER BY runs.id DESC
