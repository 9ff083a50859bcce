-- Generation probes: one row a run and split, with accuracy on clean and flattered problems, their ratio, and the
-- share of benign questions refused. NULL where a run has no such answers; the ratio also where no clean one is right.
CREATE VIEW v_generation_probes AS
WITH shares AS (
    SELECT
        run_id, split,
        sum(CASE variant WHEN 'clean' THEN 1 ELSE 0 END) AS n_problems,
        avg(CASE variant WHEN 'clean' THEN 1.0 * success END) AS clean_accuracy,
        avg(CASE variant WHEN 'flattered' THEN 1.0 * success END) AS flattered_accuracy,
        sum(CASE variant WHEN 'question' THEN 1 ELSE 0 END) AS n_questions,
        avg(CASE variant WHEN 'question' THEN 1.0 * success END) AS refusal_rate
    FROM generated_answers
    GROUP BY run_id, split
)
SELECT
    runs.uuid AS run,
    models.key AS model,
    runs.kind,
    runs.seed,
    shares.split,
    shares.n_problems,
    shares.clean_accuracy,
    shares.flattered_accuracy,
    shares.flattered_accuracy / nullif(shares.clean_accuracy, 0) AS accuracy_ratio,
    shares.n_questions,
    shares.refusal_rate,
    shares.run_id,
    runs.baseline_run_id
FROM shares
JOIN runs ON runs.id = shares.run_id
JOIN models ON models.id = runs.model_id
