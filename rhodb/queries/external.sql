-- Scores of other tools with the models that rhodb knows, of evaluations that came to their end (unfinished 1: of all).
-- default unfinished = 0
SELECT model, tool, tool_version, task, metric, value, se, n, status, samples_done, samples, started_at
FROM v_external_scores
WHERE :unfinished = 1 OR finished IS NULL OR finished = 1
ORDER BY model, task, metric
