-- Runs of the experiment that a published figure is about: Δ and score of one behavior, one row a run, with all that
-- tells strata apart.
SELECT scores.run, scores.kind, scores.model, models.fingerprint AS model_fingerprint, scores.experiment, scores.seed,
       scores.condition, scores.rho_weight, scores.margin, runs.config, scores.value, scores.delta
FROM v_scores AS scores
JOIN runs ON runs.id = scores.run_id
JOIN models ON models.id = runs.model_id
WHERE scores.kind = :kind AND scores.metric = 'gap' AND scores.split = 'none'
  AND lower(scores.model) LIKE '%' || lower(:model) || '%' AND scores.behavior = :behavior AND {conditions}
ORDER BY scores.model, scores.experiment, scores.seed, scores.run
