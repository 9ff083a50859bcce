-- What a report says about the runs behind its numbers: one row a run.
SELECT runs.uuid, runs.kind, models.key AS model, models.fingerprint AS model_fingerprint, runs.seed, runs.config_hash, runs.experiment,
       runs.versions, runs.state,
       axes.condition, axes.rho_weight, axes.margin
FROM runs
JOIN models ON models.id = runs.model_id
LEFT JOIN alignment_runs AS axes ON axes.run_id = runs.id
ORDER BY runs.id
