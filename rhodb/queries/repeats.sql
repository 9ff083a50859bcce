-- Runs of the same settings and seed that came out differently (ingested files).
SELECT runs.uuid, runs.kind, models.key AS model, runs.seed, runs.repeat, runs.experiment, runs.config_hash
FROM runs
JOIN models ON models.id = runs.model_id
WHERE EXISTS (
    SELECT 1 FROM runs AS other
    WHERE other.kind = runs.kind AND other.model_id = runs.model_id AND other.seed = runs.seed
        AND other.config_hash = runs.config_hash AND other.id <> runs.id
)
ORDER BY runs.config_hash, runs.seed, runs.repeat
