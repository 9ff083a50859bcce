-- Share of a behavior's pairs that untouched models order rightly.
SELECT runs.uuid AS run, models.key AS model, score.split, score.value, score.n
FROM runs
JOIN models ON models.id = runs.model_id
JOIN behavior_scores AS score ON score.run_id = runs.id
WHERE runs.state = 'done' AND runs.kind = 'baseline' AND score.behavior = :behavior AND score.metric = 'pair_accuracy'
ORDER BY models.key, score.split, score.n DESC, runs.uuid
