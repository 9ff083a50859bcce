-- Every run that is not done, oldest first, with the mean duration of finished runs of its kind and model.
SELECT
    runs.uuid,
    runs.kind,
    models.key AS model,
    runs.seed,
    runs.config,
    runs.state,
    runs.host,
    runs.pid,
    runs.process_started,
    runs.started_at,
    runs.heartbeat_at,
    runs.notes,
    runs.error,
    (
        SELECT avg(done.seconds)
        FROM runs AS done
        WHERE done.state = 'done' AND done.kind = runs.kind AND done.model_id = runs.model_id
    ) AS expected_seconds
FROM runs
JOIN models ON models.id = runs.model_id
WHERE runs.state <> 'done'
ORDER BY runs.id
