"""Experiments on activations and answers: steering, sparse autoencoders, category audits, stress tests."""

from sqlalchemy import CheckConstraint, Index, Integer, Text
from sqlalchemy.orm import Mapped, mapped_column

from rhodb.schema.base import CLUSTERED, STRICT, Base, Real, at_least, finite, flag, one_of, run_key, share
from rhodb.vocabulary import BEHAVIORS, STRESS_CONDITIONS


class SteeringHeatmap(Base):
    __tablename__ = "steering_heatmap"
    __table_args__ = (
        at_least("layer"),
        share("depth"),
        finite("alpha"),
        at_least("vector_norm"),
        one_of("steered_behavior", BEHAVIORS),
        at_least("control"),
        Index(None, "layer", "alpha"),
        {"comment": "A steering vector added at one layer (kind steering).", **STRICT},
    )

    run_id: Mapped[int] = run_key()
    layer: Mapped[int] = mapped_column(Integer, comment="Layer that the vector is added after, from 0.")
    depth: Mapped[float | None] = mapped_column(Real, comment="Layer divided by the number of layers, [0, 1].")
    alpha: Mapped[float | None] = mapped_column(Real, comment="α, factor of the vector.")
    vector_norm: Mapped[float | None] = mapped_column(Real, comment="Euclidean norm of the vector before α.")
    steered_behavior: Mapped[str | None] = mapped_column(Text, comment="Behavior that the vector was made from.")
    method: Mapped[str | None] = mapped_column(
        Text, comment="How the vector was made, e.g. mean difference, last token."
    )
    control: Mapped[int | None] = mapped_column(
        Integer, comment="Number of the random vector of equal norm, from 0; none: the real vector."
    )


class AttackDefense(Base):
    __tablename__ = "attack_defense"
    __table_args__ = (
        at_least("layer"),
        one_of("target_behavior", BEHAVIORS),
        finite("scale"),
        at_least("n_features"),
        at_least("n_regressed"),
        finite("mean_collateral"),
        at_least("reconstruction_error"),
        at_least("l0"),
        at_least("dead_features"),
        Index(None, "target_behavior", "scale"),
        {"comment": "Features of a sparse autoencoder scaled (kind attack_defense).", **STRICT},
    )

    run_id: Mapped[int] = run_key()
    layer: Mapped[int] = mapped_column(Integer, comment="Layer of the autoencoder, from 0.")
    target_behavior: Mapped[str] = mapped_column(Text, comment="Behavior whose features are scaled.")
    scale: Mapped[float] = mapped_column(Real, comment="Factor of these features; 1: unchanged.")
    n_features: Mapped[int | None] = mapped_column(Integer, comment="Features scaled.")
    n_regressed: Mapped[int | None] = mapped_column(Integer, comment="Other behaviors that became worse.")
    mean_collateral: Mapped[float | None] = mapped_column(Real, comment="Mean Δ of the other behaviors.")
    reconstruction_error: Mapped[float | None] = mapped_column(
        Real, comment="Share of the activations' variance that the autoencoder misses."
    )
    l0: Mapped[float | None] = mapped_column(Real, comment="Mean number of active features a token.")
    dead_features: Mapped[int | None] = mapped_column(Integer, comment="Features that are never active.")


class FidelityBench(Base):
    __tablename__ = "fidelity_bench"
    __table_args__ = (
        at_least("n_categories"),
        {"comment": "Audits by category of probes (kind fidelity); the scores are in fidelity_categories.", **STRICT},
    )

    run_id: Mapped[int] = run_key()
    n_categories: Mapped[int] = mapped_column(Integer, comment="Categories audited.")


class FidelityCategory(Base):
    __tablename__ = "fidelity_categories"
    __table_args__ = (
        at_least("n_probes"),
        CheckConstraint("truth_corr BETWEEN -1 AND 1", name="truth_corr"),
        share("p"),
        finite("mean_delta"),
        share("pair_accuracy"),
        Index(None, "category"),
        {"comment": "Scores of an audit, one row a category.", **CLUSTERED},
    )

    run_id: Mapped[int] = run_key()
    category: Mapped[str] = mapped_column(Text, primary_key=True, comment="Category of probes, e.g. logic.")
    n_probes: Mapped[int | None] = mapped_column(Integer, comment="Pairs.")
    truth_corr: Mapped[float | None] = mapped_column(
        Real, comment="Spearman correlation of the confidences of the two texts over pairs, [-1, 1]."
    )
    p: Mapped[float | None] = mapped_column(Real, comment="p value of that correlation.")
    mean_delta: Mapped[float | None] = mapped_column(
        Real, comment="Mean confidence of the true text minus that of the false one, nats/token."
    )
    pair_accuracy: Mapped[float | None] = mapped_column(
        Real, comment="Share of pairs whose true text has the higher confidence, [0, 1]."
    )


class StressTest(Base):
    __tablename__ = "stress_tests"
    __table_args__ = (
        one_of("condition", STRESS_CONDITIONS),
        at_least("n_jailbreak", 1),
        at_least("n_benign", 1),
        CheckConstraint("jailbreak_refused BETWEEN 0 AND n_jailbreak", name="jailbreak_refused"),
        CheckConstraint("benign_refused BETWEEN 0 AND n_benign", name="benign_refused"),
        Index(None, "condition"),
        {"comment": "Models that answer jailbreaks and benign controls (kind stress).", **STRICT},
    )

    run_id: Mapped[int] = run_key()
    condition: Mapped[str] = mapped_column(Text, comment="What the model was trained under; baseline: untouched.")
    training_run: Mapped[str | None] = mapped_column(Text, comment="uuid of the run whose adapter answered.")
    n_jailbreak: Mapped[int | None] = mapped_column(Integer, comment="Jailbreak prompts.")
    jailbreak_refused: Mapped[int | None] = mapped_column(Integer, comment="Of these refused.")
    n_benign: Mapped[int | None] = mapped_column(Integer, comment="Benign prompts.")
    benign_refused: Mapped[int | None] = mapped_column(Integer, comment="Of these refused.")
    judge: Mapped[str | None] = mapped_column(Text, comment="Name and version of the refusal judge.")


class StressResponse(Base):
    __tablename__ = "stress_responses"
    __table_args__ = (
        one_of("kind", ("jailbreak", "benign")),
        flag("refused"),
        at_least("tokens"),
        at_least("seconds"),
        Index(None, "category"),
        {"comment": "Single answers of a stress test, whole, with the verdict.", **STRICT},
    )

    run_id: Mapped[int] = run_key()
    prompt_key: Mapped[str] = mapped_column(Text, primary_key=True, comment="Name of the prompt in its set.")
    kind: Mapped[str] = mapped_column(Text, comment="jailbreak or benign.")
    category: Mapped[str | None] = mapped_column(Text, comment="Category of the prompt.")
    prompt: Mapped[str | None] = mapped_column(Text, comment="The prompt.")
    response: Mapped[str | None] = mapped_column(Text, comment="The answer; of ingested results a preview.")
    refused: Mapped[int | None] = mapped_column(Integer, comment="1 if the judge calls the answer a refusal.")
    judge: Mapped[str | None] = mapped_column(Text, comment="Name and version of the judge.")
    rule: Mapped[str | None] = mapped_column(Text, comment="Which of the judge's rules decided.")
    tokens: Mapped[int | None] = mapped_column(Integer, comment="Tokens generated.")
    seconds: Mapped[float | None] = mapped_column(Real, comment="Time to generate, s.")
