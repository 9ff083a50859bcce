-- The texts of one landscape run, with their places on the map.
SELECT member.node, member.cluster, member.behavior, member.set_name, member.probe_key, member.variant,
       member.pair_key, member.split, member.cluster_split, member.text_hash, member.degree, member.x, member.y
FROM probe_cluster_members AS member
JOIN runs ON runs.id = member.run_id
WHERE {conditions}
ORDER BY member.node
