"""Hypotheses: questions registered before the runs that answer them, and the looks that were taken at them."""

from sqlalchemy import CheckConstraint, ForeignKey, Integer, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from rhodb.schema.base import CLUSTERED, STRICT, Base, Real, at_least, finite, one_of, share
from rhodb.vocabulary import (
    DECISIONS,
    DIRECTIONS,
    FUTILITIES,
    HYPOTHESIS_KINDS,
    METRICS,
    PROCEDURES,
    SPENDINGS,
    SPLITS,
    STOPPING_RULES,
)


class Hypothesis(Base):
    __tablename__ = "hypotheses"
    __table_args__ = (
        UniqueConstraint("name"),
        UniqueConstraint("hash"),
        one_of("kind", HYPOTHESIS_KINDS),
        one_of("direction", DIRECTIONS),
        one_of("metric", tuple(METRICS)),
        one_of("split", SPLITS),
        one_of("futility", FUTILITIES),
        one_of("procedure", PROCEDURES),
        one_of("rule", STOPPING_RULES),
        one_of("spending", SPENDINGS),
        CheckConstraint("margin > 0", name="margin"),
        finite("margin"),
        CheckConstraint("alpha > 0 AND alpha < 0.5", name="alpha"),
        CheckConstraint("beta > 0 AND beta < 0.5", name="beta"),
        CheckConstraint("(rule = 'group-sequential') = (spending IS NOT NULL)", name="spending_rule"),
        CheckConstraint("(withdrawn_at IS NULL) = (withdrawn_why IS NULL)", name="withdrawn"),
        {
            "comment": "Questions registered before the runs that answer them. Never changed, only withdrawn.",
            **STRICT,
        },
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True, comment="Row number, in the order of registration.")
    name: Mapped[str] = mapped_column(Text, comment="Name that the user gave.")
    hash: Mapped[str] = mapped_column(Text, comment="SHA-256 over the canonical JSON of the design and its time.")
    registered_at: Mapped[str] = mapped_column(
        Text, comment="When it was registered, UTC, ISO 8601; runs begun before are no evidence."
    )
    kind: Mapped[str] = mapped_column(Text, comment="difference, equivalence or non-inferiority.")
    treatment: Mapped[str] = mapped_column(Text, comment="Arm asked about: a condition, with settings after @.")
    control: Mapped[str] = mapped_column(Text, comment="Arm it is compared with, or baseline (the untouched model).")
    model: Mapped[str] = mapped_column(Text, comment="Key of the model.")
    settings: Mapped[str] = mapped_column(Text, comment="Settings that stay constant, canonical JSON.")
    behavior: Mapped[str] = mapped_column(Text, comment="Behavior, e.g. refusal.")
    metric: Mapped[str] = mapped_column(Text, comment="Metric, e.g. gap.")
    split: Mapped[str] = mapped_column(Text, comment="Probes scored: train, eval or none.")
    direction: Mapped[str] = mapped_column(Text, comment="What is claimed of treatment - control.")
    margin: Mapped[float] = mapped_column(Real, comment="Smallest effect of interest, in the metric's unit.")
    alpha: Mapped[float] = mapped_column(Real, comment="Level of the family.")
    beta: Mapped[float] = mapped_column(Real, comment="Probability of refuting what is true, at most.")
    futility: Mapped[str] = mapped_column(Text, comment="Whether and how it is given up early.")
    family: Mapped[str] = mapped_column(Text, comment="Hypotheses that share their alpha.")
    procedure: Mapped[str] = mapped_column(Text, comment="How they do: holm, or ordered (in order of registration).")
    rule: Mapped[str] = mapped_column(Text, comment="Stopping rule: group-sequential or any-time.")
    spending: Mapped[str | None] = mapped_column(Text, comment="Spending function of a group-sequential rule.")
    looks: Mapped[str] = mapped_column(Text, comment="Numbers of seeds at which it is looked, JSON.")
    seeds: Mapped[str] = mapped_column(Text, comment="Seeds in the order in which they are run, JSON.")
    withdrawn_at: Mapped[str | None] = mapped_column(Text, comment="When it was withdrawn, UTC, ISO 8601.")
    withdrawn_why: Mapped[str | None] = mapped_column(Text, comment="Why it was withdrawn.")


class HypothesisLook(Base):
    __tablename__ = "hypothesis_looks"
    __table_args__ = (
        one_of("decision", DECISIONS),
        at_least("seeds", 1),
        share("level"),
        share("p"),
        finite("mean"),
        finite("estimate"),
        finite("low"),
        finite("high"),
        at_least("seconds"),
        {"comment": "Looks at hypotheses: what the seeds so far said, and what was decided.", **CLUSTERED},
    )

    hypothesis_id: Mapped[int] = mapped_column(
        ForeignKey("hypotheses.id", ondelete="CASCADE"), primary_key=True, comment="Hypothesis.", autoincrement=False
    )
    seeds: Mapped[int] = mapped_column(Integer, primary_key=True, comment="Seeds looked at.", autoincrement=False)
    made_at: Mapped[str] = mapped_column(Text, comment="When, UTC, ISO 8601.")
    decision: Mapped[str] = mapped_column(Text, comment="open, supported, refuted or undecided (the seeds ran out).")
    level: Mapped[float] = mapped_column(Real, comment="One-sided level at which it was held: its share of alpha.")
    p: Mapped[float] = mapped_column(Real, comment="p of the claim, valid at every look, before the family's share.")
    mean: Mapped[float] = mapped_column(Real, comment="Plain mean over the seeds, in the metric's unit.")
    estimate: Mapped[float | None] = mapped_column(Real, comment="Effect, corrected for stopping where it stopped.")
    low: Mapped[float | None] = mapped_column(Real, comment="Lower end of the 95 % interval, valid at this look.")
    high: Mapped[float | None] = mapped_column(Real, comment="Upper end of the 95 % interval.")
    method: Mapped[str] = mapped_column(Text, comment="How estimate and interval were made.")
    runs: Mapped[str] = mapped_column(Text, comment="uuids of the runs that it rests on, JSON.")
    differences: Mapped[str] = mapped_column(Text, comment="One value a seed, in the registered order, JSON.")
    seconds: Mapped[float] = mapped_column(Real, comment="What those runs took together, s.")
