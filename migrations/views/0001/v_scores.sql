-- Every score, tidy: one row a run, behavior, metric and split, with the score of the run's baseline
-- under the same behavior, metric and split, and the difference to it (NULL where there is no baseline).
CREATE VIEW v_scores AS
SELECT
    runs.uuid AS run,
    models.key AS model,
    runs.kind,
    alignment_runs.condition,
    runs.seed,
    alignment_runs.rho_weight,
    alignment_runs.margin,
    scores.behavior,
    scores.metric,
    scores.split,
    scores.value,
    scores.se,
    scores.n,
    before.value AS baseline_value,
    before.se AS baseline_se,
    scores.value - before.value AS delta,
    runs.id AS run_id,
    runs.baseline_run_id,
    runs.experiment,
    runs.origin,
    runs.repeat,
    runs.seed_known,
    runs.model_id,
    runs.config_hash
FROM behavior_scores AS scores
JOIN runs ON runs.id = scores.run_id
JOIN models ON models.id = runs.model_id
LEFT JOIN alignment_runs ON alignment_runs.run_id = runs.id
LEFT JOIN behavior_scores AS before
    ON before.run_id = runs.baseline_run_id
    AND before.behavior = scores.behavior
    AND before.metric = scores.metric
    AND before.split = scores.split
