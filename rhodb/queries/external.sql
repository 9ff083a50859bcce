-- Scores of other tools with the models that rhodb knows.
SELECT model, tool, tool_version, task, metric, value, se, n, started_at
FROM v_external_scores
ORDER BY model, task, metric
