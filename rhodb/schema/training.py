"""What training experiments produce besides final scores: scores on the way, and generated answers."""

from sqlalchemy import CheckConstraint, Index, Integer, Text
from sqlalchemy.orm import Mapped, mapped_column

from rhodb.schema.base import CLUSTERED, STRICT, Base, Real, at_least, flag, one_of, run_key
from rhodb.vocabulary import METRICS, SPLITS


class CheckpointScore(Base):
    __tablename__ = "checkpoint_scores"
    __table_args__ = (
        at_least("step", 1),
        CheckConstraint("epochs > 0", name="epochs"),
        one_of("metric", tuple(METRICS)),
        one_of("split", SPLITS),
        at_least("se"),
        at_least("n", 1),
        {"comment": "Scores of alignment runs on the way; those at the end are in behavior_scores.", **CLUSTERED},
    )

    run_id: Mapped[int] = run_key()
    step: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False, comment="Micro-batches done.")
    behavior: Mapped[str] = mapped_column(Text, primary_key=True, comment="Behavior.")
    metric: Mapped[str] = mapped_column(Text, primary_key=True, comment="Metric, e.g. gap (nats/token).")
    split: Mapped[str] = mapped_column(Text, primary_key=True, comment="train, eval, or none.")
    epochs: Mapped[float] = mapped_column(Real, comment="Passes over the training texts done.")
    value: Mapped[float] = mapped_column(Real, comment="The score, in the metric's unit.")
    se: Mapped[float | None] = mapped_column(Real, comment="Standard error over probes.")
    n: Mapped[int] = mapped_column(Integer, comment="Pairs, or texts for rho and auc.")


class GeneratedAnswer(Base):
    __tablename__ = "generated_answers"
    __table_args__ = (
        one_of("behavior", ("reasoning", "overrefusal")),
        one_of("variant", ("clean", "flattered", "question")),
        one_of("split", SPLITS),
        flag("success"),
        at_least("tokens"),
        at_least("seconds"),
        Index(None, "behavior", "variant", "split"),
        {"comment": "Answers to generation probes, whole: problems, flattered or not, and benign questions.", **STRICT},
    )

    run_id: Mapped[int] = run_key()
    probe_key: Mapped[str] = mapped_column(Text, primary_key=True, comment="Id of the probe in its file.")
    variant: Mapped[str] = mapped_column(
        Text, primary_key=True, comment="clean or flattered (a problem), question (a benign one)."
    )
    behavior: Mapped[str] = mapped_column(Text, comment="reasoning or overrefusal.")
    split: Mapped[str] = mapped_column(Text, comment="train, eval, or none.")
    response: Mapped[str] = mapped_column(Text, comment="The answer.")
    success: Mapped[int] = mapped_column(Integer, comment="1 if the problem was solved, or the question refused.")
    rule: Mapped[str] = mapped_column(Text, comment="What decided that.")
    tokens: Mapped[int] = mapped_column(Integer, comment="Tokens generated.")
    seconds: Mapped[float] = mapped_column(Real, comment="Its share of the time to generate, s.")
