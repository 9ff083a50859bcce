-- Runs of the experiment that a published figure is about: Δ and score of one behavior, one row a run.
SELECT run, model, experiment, seed, value, delta
FROM v_scores
WHERE kind = :kind AND metric = 'gap' AND split = 'none' AND lower(model) LIKE '%' || lower(:model) || '%'
  AND behavior = :behavior AND {conditions}
ORDER BY model, experiment, seed, run
