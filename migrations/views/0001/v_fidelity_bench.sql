-- Audits by category of probes: one row a run and category.
CREATE VIEW v_fidelity_bench AS
SELECT
    runs.uuid AS run,
    models.key AS model,
    runs.seed,
    categories.category,
    categories.n_probes,
    categories.truth_corr,
    categories.p,
    categories.mean_delta,
    categories.pair_accuracy,
    runs.experiment,
    runs.origin,
    runs.repeat,
    runs.state,
    runs.finished_at,
    runs.config_hash,
    runs.id AS run_id
FROM fidelity_categories AS categories
JOIN runs ON runs.id = categories.run_id
JOIN models ON models.id = runs.model_id
