-- The change of every behavior in one run, against its baseline, on the split that reports show.
SELECT
    model,
    model_id,
    (SELECT fingerprint FROM models WHERE models.id = v_scores.model_id) AS model_fingerprint,
    config_hash,
    condition,
    rho_weight,
    margin,
    seed,
    behavior,
    split,
    value,
    baseline_value,
    delta
FROM v_scores
WHERE run = :uuid
  AND kind <> 'baseline'
  AND metric = :metric
  AND split IN ('eval', 'none')
  AND delta IS NOT NULL
ORDER BY behavior
