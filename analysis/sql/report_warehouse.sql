-- The warehouse at a glance: one row.
SELECT
    (SELECT version_num FROM alembic_version) AS revision,
    (SELECT count(*) FROM runs WHERE state = 'done') AS runs_done,
    (SELECT count(*) FROM runs WHERE state = 'failed') AS runs_failed,
    (SELECT count(*) FROM runs WHERE state IN ('planned', 'running')) AS runs_open,
    (SELECT min(started_at) FROM runs) AS first_run,
    (SELECT max(finished_at) FROM runs) AS last_run
