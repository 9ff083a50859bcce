-- Scores of finished runs of all families with the axes of each family: one row a run, behavior and metric.
WITH run_axes AS (
    SELECT runs.id, runs.uuid AS run, runs.kind, models.key AS model, models.fingerprint AS model_fingerprint,
           runs.seed, runs.seed_known, runs.experiment, runs.origin, runs.notes, runs.config, runs.baseline_run_id,
           runs.host, runs.device, runs.git_commit, runs.started_at,
           trained.condition, COALESCE(trained.rho_weight, mixed.rho_weight) AS rho_weight,
           COALESCE(trained.margin, mixed.margin) AS margin, trained.sft_size, trained.lora_rank,
           trained.lora_alpha, trained.epochs, trained.lr,
           steered.layer, steered.alpha, steered.control, steered.steered_behavior,
           COALESCE(frozen.compress_ratio, mixed.compress_ratio) AS compress_ratio,
           COALESCE(frozen.freeze_ratio, mixed.freeze_fraction) AS freeze_ratio,
           mixed.sae_layer
    FROM runs
    JOIN models ON models.id = runs.model_id
    LEFT JOIN alignment_runs AS trained ON trained.run_id = runs.id
    LEFT JOIN steering_heatmap AS steered ON steered.run_id = runs.id
    LEFT JOIN freeze_sweep AS frozen ON frozen.run_id = runs.id
    LEFT JOIN hybrid_sweep AS mixed ON mixed.run_id = runs.id
    WHERE runs.state = 'done' AND runs.kind IN ('alignment', 'steering', 'freeze', 'hybrid')
),
chosen AS (
    SELECT * FROM run_axes
    WHERE ({where}
    )
)
SELECT chosen.run, chosen.kind, chosen.model, chosen.model_fingerprint, chosen.seed, chosen.seed_known,
       chosen.experiment, chosen.origin, chosen.notes, chosen.config, base.uuid AS baseline,
       base.config_hash AS baseline_settings, chosen.condition,
       chosen.rho_weight, chosen.margin,
       chosen.layer, chosen.alpha, chosen.control, chosen.steered_behavior, chosen.compress_ratio,
       chosen.freeze_ratio, chosen.sae_layer, score.behavior, score.metric, score.split, score.value, score.se, score.n,
       untouched.value AS baseline_value, score.value - untouched.value AS delta
FROM chosen
JOIN behavior_scores AS score ON score.run_id = chosen.id
LEFT JOIN runs AS base ON base.id = chosen.baseline_run_id
LEFT JOIN behavior_scores AS untouched
    ON untouched.run_id = chosen.baseline_run_id
    AND untouched.behavior = score.behavior AND untouched.metric = score.metric AND untouched.split = score.split
WHERE {conditions}
ORDER BY chosen.id, score.behavior, score.metric
