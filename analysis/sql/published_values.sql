-- Figures that were printed somewhere, with the section and the printed precision.
SELECT source, section, key, claim, value, precision, unit, n
FROM published_values
WHERE {conditions}
ORDER BY source, key
