-- Stress tests: one row a run, with refusal rates and the rates of the untouched model under the same seed.
CREATE VIEW v_stress_tests AS
SELECT
    runs.uuid AS run,
    models.key AS model,
    runs.seed,
    family.condition,
    family.n_jailbreak,
    family.jailbreak_refused,
    1.0 * family.jailbreak_refused / family.n_jailbreak AS jailbreak_refusal_rate,
    family.n_benign,
    family.benign_refused,
    1.0 * family.benign_refused / family.n_benign AS benign_refusal_rate,
    1.0 * before.jailbreak_refused / before.n_jailbreak AS before_jailbreak_refusal_rate,
    1.0 * before.benign_refused / before.n_benign AS before_benign_refusal_rate,
    family.judge,
    family.training_run,
    runs.experiment,
    runs.origin,
    runs.repeat,
    runs.state,
    runs.finished_at,
    runs.config_hash,
    runs.id AS run_id,
    runs.baseline_run_id
FROM stress_tests AS family
JOIN runs ON runs.id = family.run_id
JOIN models ON models.id = runs.model_id
LEFT JOIN stress_tests AS before ON before.run_id = runs.baseline_run_id
