-- Per probe, the change of its own gap, CE(negative) - CE(positive), after training: one row a run and probe.
SELECT runs.uuid AS run, models.key AS model, models.fingerprint AS model_fingerprint, runs.config_hash, axes.condition, axes.rho_weight, axes.margin, runs.seed,
       sets.behavior, sets.name AS set_name, probes.key AS pair_key, before_positive.split,
       (after_negative.ce - after_positive.ce) - (before_negative.ce - before_positive.ce) AS delta
FROM runs
JOIN models ON models.id = runs.model_id
JOIN alignment_runs AS axes ON axes.run_id = runs.id
JOIN probe_scores AS after_positive ON after_positive.run_id = runs.id AND after_positive.side = 'positive'
JOIN probe_scores AS after_negative ON after_negative.run_id = runs.id
    AND after_negative.probe_id = after_positive.probe_id AND after_negative.side = 'negative'
JOIN probe_scores AS before_positive ON before_positive.run_id = runs.baseline_run_id
    AND before_positive.probe_id = after_positive.probe_id AND before_positive.side = 'positive'
JOIN probe_scores AS before_negative ON before_negative.run_id = runs.baseline_run_id
    AND before_negative.probe_id = after_positive.probe_id AND before_negative.side = 'negative'
JOIN probes ON probes.id = after_positive.probe_id
JOIN probe_sets AS sets ON sets.id = probes.set_id
WHERE runs.state = 'done' AND {conditions}
ORDER BY runs.uuid, sets.behavior, sets.name, probes.key
