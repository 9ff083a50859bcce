-- Mean and standard deviation over seeds of the change of each behavior, by condition, λ and γ.
-- default metric = gap
-- default split = eval
SELECT
    model, experiment, condition, rho_weight, margin, behavior,
    count(delta) AS n, avg(delta) AS mean, stddev(delta) AS sd
FROM v_scores
WHERE kind = 'alignment' AND metric = :metric AND split IN (:split, 'none') AND delta IS NOT NULL
GROUP BY model, experiment, condition, rho_weight, margin, behavior
ORDER BY model, experiment, behavior, condition, rho_weight, margin
