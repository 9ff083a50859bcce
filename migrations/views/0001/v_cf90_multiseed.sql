-- Compression with several seeds, wide: one row a run, with the columns described at v_alignment.
CREATE VIEW v_cf90_multiseed AS
SELECT
    runs.uuid AS run,
    models.key AS model,
    runs.seed,
    family.ratio,
    family.n_compressed,
    family.retention,
    family.rho_drop,
    runs.experiment,
    runs.origin,
    runs.repeat,
    runs.seed_known,
    runs.state,
    runs.finished_at,
    runs.seconds,
    runs.config_hash,
    runs.id AS run_id,
    runs.baseline_run_id,
    :columns
FROM cf90_multiseed AS family
JOIN runs ON runs.id = family.run_id
JOIN models ON models.id = runs.model_id
JOIN v_wide_scores AS after ON after.run_id = runs.id
LEFT JOIN v_wide_scores AS before ON before.run_id = runs.baseline_run_id
