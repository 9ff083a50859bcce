-- The answers of a stress test.
SELECT prompt_key, kind, category, prompt, response, tokens, seconds
FROM stress_responses
WHERE run_id = :run_id
ORDER BY prompt_key
