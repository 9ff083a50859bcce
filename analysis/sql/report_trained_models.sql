-- Models with finished alignment runs, largest first.
SELECT models.key AS model, models.n_parameters, models.quantization, count(*) AS runs
FROM runs
JOIN models ON models.id = runs.model_id
WHERE runs.state = 'done' AND runs.kind = 'alignment' AND {conditions}
GROUP BY models.key, models.n_parameters, models.quantization
ORDER BY models.n_parameters DESC
