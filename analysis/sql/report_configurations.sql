-- Distinct configurations of finished runs with how often each was run: one row a kind, model (key and weights) and configuration.
SELECT runs.kind, models.key AS model, models.fingerprint AS model_fingerprint, runs.config_hash, min(runs.config) AS config, count(*) AS runs,
       count(DISTINCT runs.seed) AS seeds, min(runs.started_at) AS first, max(runs.finished_at) AS last,
       min(runs.seed) AS lowest_seed, max(runs.seed) AS highest_seed, min(runs.origin) AS origin
FROM runs
JOIN models ON models.id = runs.model_id
WHERE runs.state = 'done' AND {conditions}
GROUP BY runs.kind, models.key, models.fingerprint, runs.config_hash
ORDER BY runs.kind, models.key, models.fingerprint, runs.config_hash
