-- Finished landscape runs: one row a partition, newest first.
SELECT runs.uuid AS run, models.key AS model, models.fingerprint AS model_fingerprint, runs.seed, runs.config,
       drawn.threshold, drawn.resolution, drawn.nodes, drawn.primary_nodes, drawn.edges, drawn.clusters,
       drawn.singletons, drawn.modularity, runs.finished_at
FROM probe_landscapes AS drawn
JOIN runs ON runs.id = drawn.run_id
JOIN models ON models.id = runs.model_id
WHERE runs.state = 'done' AND {conditions}
ORDER BY runs.finished_at DESC, runs.uuid
