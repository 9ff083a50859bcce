-- Scores of other tools' evaluations, tidy. `finished` is empty where the tool does not say how it ended.
CREATE VIEW v_external_scores AS
SELECT
    evaluations.tool,
    evaluations.tool_version,
    models.key AS model,
    scores.task,
    scores.task_version,
    scores.metric,
    scores.value,
    scores.se,
    scores.n,
    evaluations.started_at,
    sources.path AS file,
    evaluations.id AS evaluation_id,
    outcomes.status,
    outcomes.finished,
    outcomes.samples,
    outcomes.samples_done
FROM external_scores AS scores
JOIN external_evaluations AS evaluations ON evaluations.id = scores.evaluation_id
JOIN models ON models.id = evaluations.model_id
LEFT JOIN external_outcomes AS outcomes ON outcomes.evaluation_id = evaluations.id
LEFT JOIN sources ON sources.id = evaluations.source_id
