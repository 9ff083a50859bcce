-- Runs, newest first. Each condition counts only where its parameter is given.
SELECT
    runs.uuid AS run,
    runs.kind,
    alignment_runs.condition,
    models.key AS model,
    runs.seed,
    alignment_runs.rho_weight,
    alignment_runs.margin,
    runs.state,
    runs.attempt,
    runs.seconds,
    runs.finished_at,
    runs.error
FROM runs
JOIN models ON models.id = runs.model_id
LEFT JOIN alignment_runs ON alignment_runs.run_id = runs.id
WHERE (CAST(:kind AS TEXT) IS NULL OR runs.kind = :kind)
    AND (CAST(:state AS TEXT) IS NULL OR runs.state = :state)
    AND (CAST(:model AS TEXT) IS NULL OR models.key = :model)
    AND (CAST(:condition AS TEXT) IS NULL OR alignment_runs.condition = :condition)
    AND (CAST(:seed AS BIGINT) IS NULL OR runs.seed = :seed)
ORDER BY runs.id DESC
LIMIT :limit
