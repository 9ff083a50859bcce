runs.id IN (
    SELECT id FROM (
        SELECT runs.id, runs.uuid AS run, runs.kind, models.key AS model, models.fingerprint AS model_fingerprint,
               runs.seed, runs.seed_known, runs.experiment, runs.config, runs.host, runs.device, runs.git_commit,
               runs.started_at, COALESCE(trained.condition, tested.condition) AS condition, trained.rho_weight,
               trained.margin, trained.sft_size, trained.lora_rank, trained.lora_alpha, trained.epochs, trained.lr,
               steered.layer, steered.alpha, steered.control, steered.steered_behavior,
               COALESCE(frozen.compress_ratio, mixed.compress_ratio) AS compress_ratio,
               COALESCE(frozen.freeze_ratio, mixed.freeze_fraction) AS freeze_ratio
        FROM runs
        JOIN models ON models.id = runs.model_id
        LEFT JOIN alignment_runs AS trained ON trained.run_id = runs.id
        LEFT JOIN stress_tests AS tested ON tested.run_id = runs.id
        LEFT JOIN steering_heatmap AS steered ON steered.run_id = runs.id
        LEFT JOIN freeze_sweep AS frozen ON frozen.run_id = runs.id
        LEFT JOIN hybrid_sweep AS mixed ON mixed.run_id = runs.id
    ) AS chosen
    WHERE ({where}
    )
)
