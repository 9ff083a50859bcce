-- Cross-entropy of every probe pair after training and, for the same pair, before: one row a run and pair.
SELECT runs.uuid AS run, runs.seed, axes.rho_weight, axes.margin, probe_sets.behavior, positive.split,
       probes.key AS probe, COALESCE(NULLIF(TRIM(probes.prompt), ''), probes.positive) AS wording,
       positive.ce AS positive, negative.ce AS negative,
       before_positive.ce AS before_positive, before_negative.ce AS before_negative
FROM runs
JOIN alignment_runs AS axes ON axes.run_id = runs.id
JOIN probe_scores AS positive ON positive.run_id = runs.id AND positive.side = 'positive'
JOIN probe_scores AS negative
    ON negative.run_id = runs.id AND negative.probe_id = positive.probe_id AND negative.side = 'negative'
JOIN probe_scores AS before_positive
    ON before_positive.run_id = runs.baseline_run_id AND before_positive.probe_id = positive.probe_id
    AND before_positive.side = 'positive'
JOIN probe_scores AS before_negative
    ON before_negative.run_id = runs.baseline_run_id AND before_negative.probe_id = positive.probe_id
    AND before_negative.side = 'negative'
JOIN probes ON probes.id = positive.probe_id
JOIN probe_sets ON probe_sets.id = probes.set_id
WHERE {conditions}
ORDER BY probe_sets.behavior, axes.margin, runs.seed, runs.uuid, probes.key
