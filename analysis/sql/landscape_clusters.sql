-- The clusters of one landscape run, each with its central text.
SELECT cluster.cluster, cluster.size, cluster.dominant_behavior, cluster.dominance, cluster.centrality,
       cluster.central_ties, central.set_name AS central_set, central.probe_key AS central_key,
       central.variant AS central_variant
FROM probe_clusters AS cluster
JOIN runs ON runs.id = cluster.run_id
JOIN probe_cluster_members AS central ON central.run_id = cluster.run_id AND central.node = cluster.central_node
WHERE {conditions}
ORDER BY cluster.cluster
