-- Texts that one run scored, and how many of them were longer than its limit.
SELECT
    coalesce(sum(probe_scores.truncated), 0) AS truncated,
    count(*) AS texts
FROM probe_scores
JOIN runs ON runs.id = probe_scores.run_id
WHERE runs.uuid = :uuid
