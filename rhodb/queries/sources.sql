-- Ingested files: format, runs in them, runs that they added.
SELECT path, format, runs_read, runs_added, bytes, ingested_at, sha256
FROM sources
ORDER BY ingested_at, path
