-- How much more a behavior moved on the probes that were trained on than on those held out.
-- default metric = gap
SELECT
    train.model, train.experiment, train.condition, train.rho_weight, train.margin, train.config_hash, train.behavior,
    count(*) AS n,
    avg(train.delta) AS train_delta, avg(held_out.delta) AS eval_delta, avg(train.delta - held_out.delta) AS difference
FROM v_scores AS train
JOIN v_scores AS held_out
    ON held_out.run_id = train.run_id AND held_out.behavior = train.behavior
    AND held_out.metric = train.metric AND held_out.split = 'eval'
WHERE train.split = 'train' AND train.metric = :metric AND train.kind = 'alignment' AND train.delta IS NOT NULL
GROUP BY train.model_id, train.model, train.experiment, train.condition, train.rho_weight, train.margin,
    train.config_hash, train.behavior
ORDER BY difference DESC
