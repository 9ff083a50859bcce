-- Alignment runs of a model that were begun: with seed and configuration.
SELECT runs.uuid AS run, runs.seed, runs.config, runs.config_hash
FROM runs
JOIN models ON models.id = runs.model_id
WHERE runs.kind = 'alignment' AND models.key = :model AND runs.origin = 'rhodb' AND runs.state IN ('done', 'running')
