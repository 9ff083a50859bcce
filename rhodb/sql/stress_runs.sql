-- Finished stress tests of rhodb's own with model, training and judge.
SELECT
    runs.id AS run_id,
    runs.uuid,
    runs.seed,
    runs.config,
    before.config AS baseline_config,
    family.condition,
    family.training_run,
    family.judge,
    alignment_runs.adapter_path,
    models.key,
    models.source,
    models.revision,
    models.fingerprint,
    models.architecture,
    models.n_layers,
    models.n_parameters,
    models.quantization
FROM stress_tests AS family
JOIN runs ON runs.id = family.run_id
JOIN models ON models.id = runs.model_id
LEFT JOIN runs AS before ON before.id = runs.baseline_run_id
LEFT JOIN runs AS training ON training.uuid = family.training_run
LEFT JOIN alignment_runs ON alignment_runs.run_id = training.id
WHERE runs.state = 'done' AND runs.origin = 'rhodb' AND runs.kind = 'stress'
ORDER BY runs.baseline_run_id IS NOT NULL, runs.id
