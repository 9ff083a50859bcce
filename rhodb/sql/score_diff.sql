-- The scores that two runs have in common or that one of them lacks.
SELECT
    keys.behavior, keys.metric, keys.split,
    a.value AS a, b.value AS b, b.value - a.value AS difference
FROM (
    SELECT behavior, metric, split FROM behavior_scores WHERE run_id = (SELECT id FROM runs WHERE uuid = :a)
    UNION
    SELECT behavior, metric, split FROM behavior_scores WHERE run_id = (SELECT id FROM runs WHERE uuid = :b)
) AS keys
LEFT JOIN behavior_scores AS a
    ON a.run_id = (SELECT id FROM runs WHERE uuid = :a)
    AND a.behavior = keys.behavior AND a.metric = keys.metric AND a.split = keys.split
LEFT JOIN behavior_scores AS b
    ON b.run_id = (SELECT id FROM runs WHERE uuid = :b)
    AND b.behavior = keys.behavior AND b.metric = keys.metric AND b.split = keys.split
ORDER BY keys.behavior, keys.metric, keys.split
