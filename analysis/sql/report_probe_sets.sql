-- Probes of the sets that finished runs were scored on: one row a set.
SELECT sets.behavior, sets.name, sets.package, sets.package_version, sets.fingerprint,
       count(*) AS probes, sum(CASE probes.split WHEN 'train' THEN 1 ELSE 0 END) AS train,
       sum(CASE probes.split WHEN 'eval' THEN 1 ELSE 0 END) AS eval,
       sum(CASE probes.kind WHEN 'pair' THEN 1 ELSE 0 END) AS pairs
FROM probe_sets AS sets
JOIN probes ON probes.set_id = sets.id
WHERE EXISTS (
    SELECT 1 FROM run_probe_sets AS used JOIN runs ON runs.id = used.run_id
    WHERE used.probe_set_id = sets.id AND runs.state = 'done'
)
GROUP BY sets.id, sets.behavior, sets.name, sets.package, sets.package_version, sets.fingerprint
ORDER BY sets.behavior, sets.name, sets.id
