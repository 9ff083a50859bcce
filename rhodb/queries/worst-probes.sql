-- The probes of a behavior whose pair a run orders most wrongly. Needs -p run=UUID.
-- default behavior = toxicity
-- default n = 20
SELECT
    probes.key, probes.category, positive.ce - negative.ce AS wrong_by, positive.ce AS ce_positive,
    negative.ce AS ce_negative, probes.positive AS desired_text, probes.negative AS undesired_text
FROM runs
JOIN probe_scores AS positive ON positive.run_id = runs.id AND positive.side = 'positive'
JOIN probe_scores AS negative
    ON negative.run_id = runs.id AND negative.probe_id = positive.probe_id AND negative.side = 'negative'
JOIN probes ON probes.id = positive.probe_id
JOIN probe_sets ON probe_sets.id = probes.set_id
WHERE runs.uuid = :run AND probe_sets.behavior = :behavior
ORDER BY wrong_by DESC
LIMIT :n
