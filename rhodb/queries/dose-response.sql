-- Change of each behavior by λ for the rho-guided runs of one model; a row a configuration and split.
-- default metric = gap
SELECT
    model, experiment, margin, behavior, rho_weight, config_hash, split,
    count(delta) AS n, avg(delta) AS mean, stddev(delta) AS sd
FROM v_scores
WHERE kind = 'alignment' AND condition IN ('rho-guided', 'sft-only') AND metric = :metric
    AND split <> 'train' AND delta IS NOT NULL
GROUP BY model_id, model, experiment, condition, margin, behavior, rho_weight, config_hash, split
ORDER BY model, experiment, margin, behavior, rho_weight, config_hash, split
