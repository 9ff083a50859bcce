-- Scores of finished alignment runs beside those of the untouched model: one row a run, behavior, metric, split.
WITH run_axes AS (
    SELECT runs.id, runs.uuid AS run, runs.kind, models.key AS model, models.fingerprint AS model_fingerprint,
           runs.seed, runs.seed_known, runs.experiment, runs.origin, runs.notes, runs.config, runs.baseline_run_id,
           runs.host, runs.device, runs.git_commit, runs.started_at,
           axes.condition, axes.rho_weight, axes.margin, axes.sft_size, axes.lora_rank, axes.lora_alpha,
           axes.epochs, axes.lr
    FROM runs
    JOIN models ON models.id = runs.model_id
    JOIN alignment_runs AS axes ON axes.run_id = runs.id
    WHERE runs.state = 'done'
),
chosen AS (
    SELECT * FROM run_axes
    WHERE ({where}
    )
)
SELECT chosen.run, chosen.kind, chosen.model, chosen.model_fingerprint, chosen.seed, chosen.seed_known,
       chosen.experiment, chosen.origin, chosen.notes, chosen.config, chosen.condition, chosen.rho_weight, chosen.margin,
       score.behavior, score.metric, score.split, score.value, score.se, score.n,
       untouched.value AS baseline_value, score.value - untouched.value AS delta
FROM chosen
JOIN behavior_scores AS score ON score.run_id = chosen.id
LEFT JOIN behavior_scores AS untouched
    ON untouched.run_id = chosen.baseline_run_id
    AND untouched.behavior = score.behavior AND untouched.metric = score.metric AND untouched.split = score.split
WHERE {conditions}
ORDER BY chosen.model, chosen.condition, chosen.rho_weight, chosen.margin, score.behavior, score.metric,
         chosen.seed, chosen.run
