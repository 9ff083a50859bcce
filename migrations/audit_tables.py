"""Tables of schema v1 for activations and answers, written for revision 0001; never changed after release."""

import sqlalchemy as sa
from alembic import op

REAL = sa.Double().with_variant(sa.REAL(), "sqlite")
TABLES = (
    "attack_defense",
    "fidelity_bench",
    "fidelity_categories",
    "steering_heatmap",
    "stress_responses",
    "stress_tests",
)


def create_audit_tables() -> None:
    _attack_defense()
    _fidelity_bench()
    _fidelity_categories()
    _steering_heatmap()
    _stress_responses()
    _stress_tests()


def _attack_defense() -> None:
    op.create_table(
        "attack_defense",
        sa.Column("run_id", sa.Integer(), autoincrement=False, nullable=False, comment="Run."),
        sa.Column("layer", sa.Integer(), nullable=False, comment="Layer of the autoencoder, from 0."),
        sa.Column("target_behavior", sa.Text(), nullable=False, comment="Behavior whose features are scaled."),
        sa.Column("scale", REAL, nullable=False, comment="Factor of these features; 1: unchanged."),
        sa.Column("n_features", sa.Integer(), comment="Features scaled."),
        sa.Column("n_regressed", sa.Integer(), comment="Other behaviors that became worse."),
        sa.Column("mean_collateral", REAL, comment="Mean Δ of the other behaviors."),
        sa.Column(
            "reconstruction_error", REAL, comment="Share of the activations' variance that the autoencoder misses."
        ),
        sa.Column("l0", REAL, comment="Mean number of active features a token."),
        sa.Column("dead_features", sa.Integer(), comment="Features that are never active."),
        sa.CheckConstraint(
            "target_behavior IN ('factual', 'toxicity', 'bias', 'sycophancy', 'reasoning', 'refusal', "
            "'deception', 'overrefusal', 'bench')",
            name=op.f("ck_attack_defense_target_behavior"),
        ),
        sa.CheckConstraint("abs(mean_collateral) < 1e300", name=op.f("ck_attack_defense_mean_collateral_finite")),
        sa.CheckConstraint("abs(scale) < 1e300", name=op.f("ck_attack_defense_scale_finite")),
        sa.CheckConstraint("dead_features >= 0", name=op.f("ck_attack_defense_dead_features")),
        sa.CheckConstraint("l0 >= 0", name=op.f("ck_attack_defense_l0")),
        sa.CheckConstraint("layer >= 0", name=op.f("ck_attack_defense_layer")),
        sa.CheckConstraint("n_features >= 0", name=op.f("ck_attack_defense_n_features")),
        sa.CheckConstraint("n_regressed >= 0", name=op.f("ck_attack_defense_n_regressed")),
        sa.CheckConstraint("reconstruction_error >= 0", name=op.f("ck_attack_defense_reconstruction_error")),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name=op.f("fk_attack_defense_run_id_runs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_attack_defense")),
        comment="Features of a sparse autoencoder scaled (kind attack_defense).",
        sqlite_strict=True,
    )
    op.create_index(
        op.f("ix_attack_defense_target_behavior_scale"), "attack_defense", ["target_behavior", "scale"], unique=False
    )


def _fidelity_bench() -> None:
    op.create_table(
        "fidelity_bench",
        sa.Column("run_id", sa.Integer(), autoincrement=False, nullable=False, comment="Run."),
        sa.Column("n_categories", sa.Integer(), nullable=False, comment="Categories audited."),
        sa.CheckConstraint("n_categories >= 0", name=op.f("ck_fidelity_bench_n_categories")),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name=op.f("fk_fidelity_bench_run_id_runs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_fidelity_bench")),
        comment="Audits by category of probes (kind fidelity); the scores are in fidelity_categories.",
        sqlite_strict=True,
    )


def _fidelity_categories() -> None:
    op.create_table(
        "fidelity_categories",
        sa.Column("run_id", sa.Integer(), autoincrement=False, nullable=False, comment="Run."),
        sa.Column("category", sa.Text(), nullable=False, comment="Category of probes, e.g. logic."),
        sa.Column("n_probes", sa.Integer(), comment="Pairs."),
        sa.Column(
            "truth_corr", REAL, comment="Spearman correlation of the confidences of the two texts over pairs, [-1, 1]."
        ),
        sa.Column("p", REAL, comment="p value of that correlation."),
        sa.Column(
            "mean_delta", REAL, comment="Mean confidence of the true text minus that of the false one, nats/token."
        ),
        sa.Column("pair_accuracy", REAL, comment="Share of pairs whose true text has the higher confidence, [0, 1]."),
        sa.CheckConstraint("abs(mean_delta) < 1e300", name=op.f("ck_fidelity_categories_mean_delta_finite")),
        sa.CheckConstraint("n_probes >= 0", name=op.f("ck_fidelity_categories_n_probes")),
        sa.CheckConstraint("p BETWEEN 0 AND 1", name=op.f("ck_fidelity_categories_p")),
        sa.CheckConstraint("pair_accuracy BETWEEN 0 AND 1", name=op.f("ck_fidelity_categories_pair_accuracy")),
        sa.CheckConstraint("truth_corr BETWEEN -1 AND 1", name=op.f("ck_fidelity_categories_truth_corr")),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name=op.f("fk_fidelity_categories_run_id_runs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", "category", name=op.f("pk_fidelity_categories")),
        comment="Scores of an audit, one row a category.",
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_fidelity_categories_category"), "fidelity_categories", ["category"], unique=False)


def _steering_heatmap() -> None:
    op.create_table(
        "steering_heatmap",
        sa.Column("run_id", sa.Integer(), autoincrement=False, nullable=False, comment="Run."),
        sa.Column("layer", sa.Integer(), nullable=False, comment="Layer that the vector is added after, from 0."),
        sa.Column("depth", REAL, comment="Layer divided by the number of layers, [0, 1]."),
        sa.Column("alpha", REAL, comment="α, factor of the vector."),
        sa.Column("vector_norm", REAL, comment="Euclidean norm of the vector before α."),
        sa.Column("steered_behavior", sa.Text(), comment="Behavior that the vector was made from."),
        sa.Column("method", sa.Text(), comment="How the vector was made, e.g. mean difference, last token."),
        sa.Column(
            "control", sa.Integer(), comment="Number of the random vector of equal norm, from 0; none: the real vector."
        ),
        sa.CheckConstraint(
            "steered_behavior IN ('factual', 'toxicity', 'bias', 'sycophancy', 'reasoning', 'refusal', "
            "'deception', 'overrefusal', 'bench')",
            name=op.f("ck_steering_heatmap_steered_behavior"),
        ),
        sa.CheckConstraint("abs(alpha) < 1e300", name=op.f("ck_steering_heatmap_alpha_finite")),
        sa.CheckConstraint("control >= 0", name=op.f("ck_steering_heatmap_control")),
        sa.CheckConstraint("depth BETWEEN 0 AND 1", name=op.f("ck_steering_heatmap_depth")),
        sa.CheckConstraint("layer >= 0", name=op.f("ck_steering_heatmap_layer")),
        sa.CheckConstraint("vector_norm >= 0", name=op.f("ck_steering_heatmap_vector_norm")),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name=op.f("fk_steering_heatmap_run_id_runs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_steering_heatmap")),
        comment="A steering vector added at one layer (kind steering).",
        sqlite_strict=True,
    )
    op.create_index(op.f("ix_steering_heatmap_layer_alpha"), "steering_heatmap", ["layer", "alpha"], unique=False)


def _stress_responses() -> None:
    op.create_table(
        "stress_responses",
        sa.Column("run_id", sa.Integer(), autoincrement=False, nullable=False, comment="Run."),
        sa.Column("prompt_key", sa.Text(), nullable=False, comment="Name of the prompt in its set."),
        sa.Column("kind", sa.Text(), nullable=False, comment="jailbreak or benign."),
        sa.Column("category", sa.Text(), comment="Category of the prompt."),
        sa.Column("prompt", sa.Text(), comment="The prompt."),
        sa.Column("response", sa.Text(), comment="The answer; of ingested results a preview."),
        sa.Column("refused", sa.Integer(), comment="1 if the judge calls the answer a refusal."),
        sa.Column("judge", sa.Text(), comment="Name and version of the judge."),
        sa.Column("rule", sa.Text(), comment="Which of the judge's rules decided."),
        sa.Column("tokens", sa.Integer(), comment="Tokens generated."),
        sa.Column("seconds", REAL, comment="Time to generate, s."),
        sa.CheckConstraint("kind IN ('jailbreak', 'benign')", name=op.f("ck_stress_responses_kind")),
        sa.CheckConstraint("refused IN (0, 1)", name=op.f("ck_stress_responses_refused")),
        sa.CheckConstraint("seconds >= 0", name=op.f("ck_stress_responses_seconds")),
        sa.CheckConstraint("tokens >= 0", name=op.f("ck_stress_responses_tokens")),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name=op.f("fk_stress_responses_run_id_runs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", "prompt_key", name=op.f("pk_stress_responses")),
        comment="Single answers of a stress test, whole, with the verdict.",
        sqlite_strict=True,
    )
    op.create_index(op.f("ix_stress_responses_category"), "stress_responses", ["category"], unique=False)


def _stress_tests() -> None:
    op.create_table(
        "stress_tests",
        sa.Column("run_id", sa.Integer(), autoincrement=False, nullable=False, comment="Run."),
        sa.Column(
            "condition", sa.Text(), nullable=False, comment="What the model was trained under; baseline: untouched."
        ),
        sa.Column("training_run", sa.Text(), comment="uuid of the run whose adapter answered."),
        sa.Column("n_jailbreak", sa.Integer(), comment="Jailbreak prompts."),
        sa.Column("jailbreak_refused", sa.Integer(), comment="Of these refused."),
        sa.Column("n_benign", sa.Integer(), comment="Benign prompts."),
        sa.Column("benign_refused", sa.Integer(), comment="Of these refused."),
        sa.Column("judge", sa.Text(), comment="Name and version of the refusal judge."),
        sa.CheckConstraint(
            "condition IN ('baseline', 'sft-only', 'rho-guided', 'contrastive-only', 'shuffled-pairs')",
            name=op.f("ck_stress_tests_condition"),
        ),
        sa.CheckConstraint("benign_refused BETWEEN 0 AND n_benign", name=op.f("ck_stress_tests_benign_refused")),
        sa.CheckConstraint(
            "jailbreak_refused BETWEEN 0 AND n_jailbreak", name=op.f("ck_stress_tests_jailbreak_refused")
        ),
        sa.CheckConstraint("n_benign >= 1", name=op.f("ck_stress_tests_n_benign")),
        sa.CheckConstraint("n_jailbreak >= 1", name=op.f("ck_stress_tests_n_jailbreak")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_stress_tests_run_id_runs"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_stress_tests")),
        comment="Models that answer jailbreaks and benign controls (kind stress).",
        sqlite_strict=True,
    )
    op.create_index(op.f("ix_stress_tests_condition"), "stress_tests", ["condition"], unique=False)
