-- Ingested files in the order of ingestion.
SELECT path, format, sha256, runs_added
FROM sources
ORDER BY ingested_at, path
