-- The scores of every run, wide: one row a run, one column a behavior, metric and split. The wide views of the
-- experiments join it twice, for a run and for its baseline. Each column is a lookup by primary key, made only
-- when the column is asked for. The revision writes the columns out.
CREATE VIEW v_wide_scores AS
SELECT
    runs.id AS run_id,
    :scores
FROM runs
