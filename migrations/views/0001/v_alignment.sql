-- Rho-guided fine-tuning runs, wide: one row a run. For every behavior, metric that it can have and split there
-- are <behavior>_<metric>_<split>, the run's score; with before_ in front the score of its baseline; with d_ the
-- difference. Each is a lookup by primary key, made only when the column is asked for. The revision writes the
-- columns out.
CREATE VIEW v_alignment AS
SELECT
    runs.uuid AS run,
    models.key AS model,
    family.condition,
    runs.seed,
    family.rho_weight,
    family.margin,
    family.sft_size,
    family.lora_rank,
    family.lora_alpha,
    family.epochs,
    family.lr,
    family.train_ce_loss,
    family.train_rho_loss,
    family.steps,
    family.updates,
    family.swapped_share,
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
FROM alignment_runs AS family
JOIN runs ON runs.id = family.run_id
JOIN models ON models.id = runs.model_id
JOIN v_wide_scores AS after ON after.run_id = runs.id
LEFT JOIN v_wide_scores AS before ON before.run_id = runs.baseline_run_id
