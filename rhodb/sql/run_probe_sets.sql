-- The probe sets that one run was scored with.
SELECT
    probe_sets.behavior, probe_sets.name, probe_sets.package, probe_sets.package_version, probe_sets.fingerprint,
    (SELECT count(*) FROM probes WHERE probes.set_id = probe_sets.id) AS probes
FROM run_probe_sets AS used
JOIN probe_sets ON probe_sets.id = used.probe_set_id
WHERE used.run_id = (SELECT id FROM runs WHERE uuid = :uuid)
ORDER BY probe_sets.behavior, probe_sets.name
