-- For each model and behavior the steered layer with the largest change.
WITH changes AS (
    SELECT
        scores.model, family.alpha, scores.behavior, family.layer, scores.delta,
        row_number() OVER (
            PARTITION BY scores.model, family.alpha, scores.behavior ORDER BY abs(scores.delta) DESC
        ) AS place
    FROM v_scores AS scores
    JOIN steering_heatmap AS family ON family.run_id = scores.run_id
    WHERE scores.metric <> 'retention' AND scores.split <> 'train' AND scores.delta IS NOT NULL
        AND family.control IS NULL
)
SELECT model, alpha, behavior, layer, delta
FROM changes
WHERE place = 1
ORDER BY model, alpha, behavior
