-- Finished and failed runs with provenance, course of training and scores: one row a run and score, or one a run without.
WITH run_axes AS (
    SELECT runs.id, runs.uuid AS run, runs.kind, models.key AS model, models.fingerprint AS model_fingerprint,
           models.architecture, models.quantization,
           runs.seed, runs.seed_known, runs.experiment, runs.origin, runs.config, runs.config_hash, runs.baseline_run_id,
           runs.state, runs.host, runs.device, runs.platform, runs.git_commit, runs.versions, runs.started_at,
           runs.notes, trained.condition, trained.rho_weight, trained.margin, trained.sft_size, trained.lora_rank,
           trained.lora_alpha, trained.epochs, trained.lr, trained.train_ce_loss, trained.train_rho_loss
    FROM runs
    JOIN models ON models.id = runs.model_id
    LEFT JOIN alignment_runs AS trained ON trained.run_id = runs.id
    WHERE runs.state IN ('done', 'failed')
),
chosen AS (
    SELECT * FROM run_axes
    WHERE ({where}
    )
),
training AS (
    SELECT run_id, COUNT(*) AS steps, MAX(ce_loss) AS highest_ce, AVG(ce_loss) AS mean_ce, SUM(active_pairs) AS active,
           MAX(rho_loss) AS highest_rho
    FROM train_steps
    GROUP BY run_id
)
SELECT chosen.run, chosen.kind, chosen.model, chosen.model_fingerprint, chosen.architecture,
       chosen.quantization, chosen.seed, chosen.seed_known,
       chosen.experiment, chosen.origin, chosen.config, chosen.config_hash, chosen.state, chosen.host, chosen.device, chosen.platform,
       chosen.versions, chosen.git_commit, chosen.started_at, chosen.notes, chosen.condition, chosen.rho_weight, chosen.margin,
       chosen.train_ce_loss, chosen.train_rho_loss, base.uuid AS baseline,
       training.steps, training.highest_ce, training.mean_ce, training.active, training.highest_rho,
       score.behavior, score.metric, score.split, score.value, score.n, untouched.value AS baseline_value
FROM chosen
LEFT JOIN runs AS base ON base.id = chosen.baseline_run_id
LEFT JOIN training ON training.run_id = chosen.id
LEFT JOIN behavior_scores AS score ON score.run_id = chosen.id
LEFT JOIN behavior_scores AS untouched
    ON untouched.run_id = chosen.baseline_run_id
    AND untouched.behavior = score.behavior AND untouched.metric = score.metric AND untouched.split = score.split
WHERE {conditions}
ORDER BY chosen.id, score.behavior, score.metric, score.split
