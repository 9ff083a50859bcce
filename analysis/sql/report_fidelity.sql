-- Fidelity-Bench: one row a run and category.
SELECT runs.uuid AS run, models.key AS model, runs.seed, categories.category, categories.n_probes,
       categories.truth_corr, categories.p, categories.mean_delta, categories.pair_accuracy
FROM fidelity_categories AS categories
JOIN runs ON runs.id = categories.run_id
JOIN models ON models.id = runs.model_id
WHERE runs.state = 'done' AND {conditions}
ORDER BY models.key, categories.category, runs.id
