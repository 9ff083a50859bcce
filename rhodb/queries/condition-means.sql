-- Mean and standard deviation over seeds of the change of each behavior, by condition, λ, γ and configuration.
-- default metric = gap
-- default split = eval
SELECT
    model, experiment, condition, rho_weight, margin, config_hash, behavior, split,
    count(delta) AS n, avg(delta) AS mean, stddev(delta) AS sd
FROM v_scores
WHERE kind = 'alignment' AND metric = :metric AND split IN (:split, 'none') AND delta IS NOT NULL
GROUP BY model_id, model, experiment, condition, rho_weight, margin, config_hash, behavior, split
ORDER BY model, experiment, behavior, condition, rho_weight, margin, config_hash
