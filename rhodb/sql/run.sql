-- One run with its model and the uuid of its baseline.
SELECT
    runs.*,
    models.key AS model,
    models.source AS model_source,
    models.fingerprint AS model_fingerprint,
    baselines.uuid AS baseline
FROM runs
JOIN models ON models.id = runs.model_id
LEFT JOIN runs AS baselines ON baselines.id = runs.baseline_run_id
WHERE runs.uuid = :uuid
