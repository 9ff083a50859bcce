-- Every metric of probe texts, computed anew from probe_scores: one row a run, behavior, metric and split.
-- A centred rank is the rank (ties averaged) minus the mean rank. With S the sum of the centred ranks of
-- the n1 positive among n1 + n0 texts, ordered by confidence = -ce:
--   auc = 1/2 + S / (n1 n0)                               (Mann-Whitney, ties count one half)
--   rho = S / sqrt(sum of squared ranks * n1 n0 / n)      (Spearman with a label of two values)
--   p = probability of the desired answer by softmax over the log-probabilities -answer_ce * answer_tokens of both
--   brier = mean of (1 - p)^2;  ece = sum over ten bins of max(p, 1 - p) of |right - max(p, 1 - p), summed| / n
-- A metric that is not defined (one side only, all equal) has no row. n counts pairs, for rho and auc texts.
-- Sums are window functions, of which one row a group is kept, instead of GROUP BY: SQLite hands a
-- condition on run_id (not on run) down through windows, and so reads one run's probe scores, not all.
CREATE VIEW v_recomputed_scores AS
WITH texts AS NOT MATERIALIZED (
    SELECT scores.run_id, probe_sets.behavior, scores.split, scores.side, scores.ce
    FROM probe_scores AS scores
    JOIN probes ON probes.id = scores.probe_id
    JOIN probe_sets ON probe_sets.id = probes.set_id
),
ranked_texts AS NOT MATERIALIZED (
    SELECT
        run_id, behavior, split, side,
        (count(*) OVER (PARTITION BY run_id, behavior, split) + 1) / 2.0
            - (rank() OVER by_ce + count(*) OVER by_ce) / 2.0 AS centred
    FROM texts
    WINDOW by_ce AS (PARTITION BY run_id, behavior, split ORDER BY ce)
),
text_sums AS NOT MATERIALIZED (
    SELECT
        run_id, behavior, split,
        row_number() OVER grouped AS number,
        count(*) OVER grouped AS n,
        1.0 * sum(CASE side WHEN 'positive' THEN 1 ELSE 0 END) OVER grouped
            * sum(CASE side WHEN 'positive' THEN 0 ELSE 1 END) OVER grouped AS n1_n0,
        sum(CASE side WHEN 'positive' THEN centred ELSE 0 END) OVER grouped AS s,
        sum(centred * centred) OVER grouped AS squares
    FROM ranked_texts
    WINDOW grouped AS (PARTITION BY run_id, behavior, split)
),
pairs AS NOT MATERIALIZED (
    SELECT
        positive.run_id, probe_sets.behavior, positive.split,
        positive.ce AS ce_positive,
        negative.ce AS ce_negative,
        negative.answer_ce - positive.answer_ce AS answer_difference,
        negative.answer_ce * negative.answer_tokens - positive.answer_ce * positive.answer_tokens AS log_odds
    FROM probe_scores AS positive
    JOIN probe_scores AS negative
        ON negative.run_id = positive.run_id
        AND negative.probe_id = positive.probe_id
        AND negative.side = 'negative'
    JOIN probes ON probes.id = positive.probe_id
    JOIN probe_sets ON probe_sets.id = probes.set_id
    WHERE positive.side = 'positive'
),
ranked_pairs AS NOT MATERIALIZED (
    SELECT
        run_id, behavior, split, ce_positive, ce_negative, answer_difference,
        (rank() OVER by_positive + count(*) OVER by_positive) / 2.0
            - (count(*) OVER (PARTITION BY run_id, behavior, split) + 1) / 2.0 AS centred_positive,
        (rank() OVER by_negative + count(*) OVER by_negative) / 2.0
            - (count(*) OVER (PARTITION BY run_id, behavior, split) + 1) / 2.0 AS centred_negative
    FROM pairs
    WINDOW
        by_positive AS (PARTITION BY run_id, behavior, split ORDER BY ce_positive),
        by_negative AS (PARTITION BY run_id, behavior, split ORDER BY ce_negative)
),
pair_sums AS NOT MATERIALIZED (
    SELECT
        run_id, behavior, split,
        row_number() OVER grouped AS number,
        count(*) OVER grouped AS n,
        count(answer_difference) OVER grouped AS n_answers,
        avg(ce_negative - ce_positive) OVER grouped AS gap,
        avg(answer_difference) OVER grouped AS answer_gap,
        avg(CASE WHEN ce_positive < ce_negative THEN 1.0 ELSE 0.0 END) OVER grouped AS pair_accuracy,
        sum(centred_positive * centred_negative) OVER grouped AS products,
        sum(centred_positive * centred_positive) OVER grouped AS squares_positive,
        sum(centred_negative * centred_negative) OVER grouped AS squares_negative
    FROM ranked_pairs
    WINDOW grouped AS (PARTITION BY run_id, behavior, split)
),
chosen AS NOT MATERIALIZED (
    SELECT
        run_id, behavior, split,
        1.0 / (1.0 + exp(-(CASE WHEN log_odds > 700 THEN 700 WHEN log_odds < -700 THEN -700 ELSE log_odds END))) AS p
    FROM pairs
    WHERE log_odds IS NOT NULL
),
binned AS NOT MATERIALIZED (
    SELECT
        run_id, behavior, split, p,
        CASE WHEN p > 0.5 THEN 1.0 - p ELSE p - 1.0 END AS excess,
        CASE WHEN abs(p - 0.5) < 0.5 THEN floor(abs(p - 0.5) * 20) ELSE 9 END AS bin
    FROM chosen
),
summed_bins AS NOT MATERIALIZED (
    SELECT
        run_id, behavior, split, p,
        CASE row_number() OVER in_bin WHEN 1 THEN abs(sum(excess) OVER in_bin) ELSE 0 END AS miscalibration
    FROM binned
    WINDOW in_bin AS (PARTITION BY run_id, behavior, split, bin)
),
calibration AS NOT MATERIALIZED (
    SELECT
        run_id, behavior, split,
        row_number() OVER grouped AS number,
        count(*) OVER grouped AS n,
        avg((1.0 - p) * (1.0 - p)) OVER grouped AS brier,
        avg(miscalibration) OVER grouped AS ece
    FROM summed_bins
    WINDOW grouped AS (PARTITION BY run_id, behavior, split)
),
metrics AS NOT MATERIALIZED (
    SELECT
        run_id, behavior, metric, split,
        CASE metric
            WHEN 'rho' THEN s / nullif(sqrt(squares * n1_n0 / n), 0)
            ELSE 0.5 + s / nullif(n1_n0, 0)
        END AS value,
        n
    FROM text_sums
    CROSS JOIN (SELECT 'rho' AS metric UNION ALL SELECT 'auc') AS names
    WHERE number = 1
    UNION ALL
    SELECT
        run_id, behavior, metric, split,
        CASE metric
            WHEN 'gap' THEN gap
            WHEN 'answer_gap' THEN answer_gap
            WHEN 'pair_accuracy' THEN pair_accuracy
            ELSE products / nullif(sqrt(squares_positive * squares_negative), 0)
        END AS value,
        CASE metric WHEN 'answer_gap' THEN n_answers ELSE n END AS n
    FROM pair_sums
    CROSS JOIN (
        SELECT 'gap' AS metric UNION ALL SELECT 'answer_gap'
        UNION ALL SELECT 'pair_accuracy' UNION ALL SELECT 'truth_corr'
    ) AS names
    WHERE number = 1
    UNION ALL
    SELECT run_id, behavior, metric, split, CASE metric WHEN 'brier' THEN brier ELSE ece END AS value, n
    FROM calibration
    CROSS JOIN (SELECT 'brier' AS metric UNION ALL SELECT 'ece') AS names
    WHERE number = 1
)
SELECT runs.uuid AS run, metrics.run_id, metrics.behavior, metrics.metric, metrics.split, metrics.value, metrics.n
FROM metrics
JOIN runs ON runs.id = metrics.run_id
WHERE metrics.value IS NOT NULL
