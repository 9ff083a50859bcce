-- Settings that were run with fewer seeds than the best-covered setting of the same kind.
WITH settings AS (
    SELECT kind, model_id, config_hash, count(DISTINCT seed) AS seeds, min(uuid) AS example
    FROM runs
    WHERE state = 'done' AND kind <> 'baseline'
    GROUP BY kind, model_id, config_hash
)
SELECT settings.kind, models.key AS model, settings.seeds, settings.example AS run
FROM settings
JOIN models ON models.id = settings.model_id
WHERE settings.seeds < (SELECT max(seeds) FROM settings AS best WHERE best.kind = settings.kind)
ORDER BY settings.kind, settings.seeds
