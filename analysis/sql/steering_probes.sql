-- Change of the gap of every probe pair under a steering vector (not under its random controls): one row a run and pair.
SELECT runs.uuid AS run, probe_sets.behavior, probes.key AS probe,
       COALESCE(NULLIF(TRIM(probes.prompt), ''), probes.positive) AS wording,
       (negative.ce - positive.ce) - (before_negative.ce - before_positive.ce) AS change
FROM runs
JOIN models ON models.id = runs.model_id
JOIN steering_heatmap AS steered ON steered.run_id = runs.id AND steered.control IS NULL
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
WHERE runs.state = 'done' AND {conditions}
ORDER BY probe_sets.behavior, runs.uuid, probes.key
