-- The cluster of every text in several landscape runs.
SELECT runs.uuid AS run, member.node, member.cluster
FROM probe_cluster_members AS member
JOIN runs ON runs.id = member.run_id
WHERE {conditions}
ORDER BY runs.uuid, member.node
