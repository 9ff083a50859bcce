-- The sentence vectors of the texts of one landscape run, little-endian float32.
SELECT DISTINCT embeddings.text_hash, embeddings.vector
FROM probe_cluster_members AS member
JOIN runs ON runs.id = member.run_id
JOIN embeddings ON embeddings.model_id = runs.model_id AND embeddings.text_hash = member.text_hash
WHERE {conditions}
