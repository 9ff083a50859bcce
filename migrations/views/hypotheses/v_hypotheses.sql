-- Registered hypotheses with their last look. What was withdrawn stays visible.
CREATE VIEW v_hypotheses AS
SELECT
    hypotheses.id AS hypothesis_id,
    hypotheses.name,
    hypotheses.kind,
    hypotheses.treatment,
    hypotheses.control,
    hypotheses.model,
    hypotheses.behavior,
    hypotheses.metric,
    hypotheses.split,
    hypotheses.direction,
    hypotheses.margin,
    hypotheses.family,
    CASE
        WHEN hypotheses.withdrawn_at IS NOT NULL THEN 'withdrawn'
        ELSE COALESCE(last.decision, 'open')
    END AS state,
    COALESCE(last.seeds, 0) AS seeds_used,
    (SELECT COUNT(*) FROM hypothesis_looks AS made WHERE made.hypothesis_id = hypotheses.id) AS looks_made,
    last.level,
    last.p,
    last.estimate,
    last.low,
    last.high,
    last.seconds,
    hypotheses.registered_at,
    hypotheses.withdrawn_at
FROM hypotheses
LEFT JOIN hypothesis_looks AS last
    ON last.hypothesis_id = hypotheses.id
    AND last.seeds = (SELECT MAX(seeds) FROM hypothesis_looks AS made WHERE made.hypothesis_id = hypotheses.id)
