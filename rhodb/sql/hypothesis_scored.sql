-- What alignment runs of a model were ever scored on.
SELECT DISTINCT scores.behavior, scores.metric, scores.split
FROM behavior_scores AS scores
JOIN runs ON runs.id = scores.run_id
JOIN models ON models.id = runs.model_id
WHERE runs.kind = 'alignment' AND models.key = :model
