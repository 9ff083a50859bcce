"""Where numbers came from that no runner made: ingested files, published figures, other tools' evaluations."""

from sqlalchemy import ForeignKey, Index, Integer, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from rhodb.schema.base import CLUSTERED, STRICT, Base, Real, at_least, finite, run_key


class Source(Base):
    __tablename__ = "sources"
    __table_args__ = (
        UniqueConstraint("path", "sha256"),
        Index(None, "sha256"),
        Index(None, "name"),
        at_least("bytes"),
        at_least("runs_read"),
        at_least("runs_added"),
        {"comment": "Ingested files; identity is (path, hash of the contents).", **STRICT},
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True, comment="Row number.")
    path: Mapped[str] = mapped_column(Text, comment="Absolute path at the time.")
    name: Mapped[str] = mapped_column(
        Text, comment="Path from the experiment's folder on, e.g. alignment/x.json: the same document on any machine."
    )
    sha256: Mapped[str] = mapped_column(Text, comment="SHA-256 of the contents.")
    bytes: Mapped[int] = mapped_column(Integer, comment="Size of the file.")
    format: Mapped[str] = mapped_column(Text, comment="Format that was recognised, e.g. alignment.")
    runs_read: Mapped[int] = mapped_column(Integer, comment="Runs or evaluations in the file, failed ones included.")
    runs_added: Mapped[int] = mapped_column(Integer, comment="Those that the warehouse did not hold yet.")
    ingested_at: Mapped[str] = mapped_column(Text, comment="When, UTC, ISO 8601.")
    extra: Mapped[str | None] = mapped_column(Text, comment="Keys of the file that no column holds, JSON.")


class RunSource(Base):
    __tablename__ = "run_sources"
    __table_args__ = (
        Index(None, "source_id"),
        {"comment": "Where in which files a run stands; copies and merged files make several rows.", **CLUSTERED},
    )

    run_id: Mapped[int] = run_key()
    source_id: Mapped[int] = mapped_column(
        ForeignKey("sources.id", ondelete="CASCADE"), primary_key=True, comment="File.", autoincrement=False
    )
    place: Mapped[str] = mapped_column(Text, primary_key=True, comment="JSON path in the file, e.g. $.runs[3].")


class PublishedValue(Base):
    __tablename__ = "published_values"
    __table_args__ = (
        UniqueConstraint("source", "key"),
        finite("value"),
        at_least("precision"),
        at_least("n", 1),
        {"comment": "Figures that notebooks and papers print, for comparing; identity is (source, key).", **STRICT},
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True, comment="Row number.")
    source: Mapped[str] = mapped_column(Text, comment="Document, e.g. research-notes.")
    section: Mapped[str] = mapped_column(Text, comment="Section of the document.")
    key: Mapped[str] = mapped_column(Text, comment="Name of the figure that analyses ask for.")
    claim: Mapped[str] = mapped_column(Text, comment="What the figure is, in words.")
    value: Mapped[float] = mapped_column(Real, comment="The figure.")
    precision: Mapped[float | None] = mapped_column(Real, comment="One unit of the last printed digit.")
    unit: Mapped[str] = mapped_column(Text, comment="Unit; empty for a bare number.")
    n: Mapped[int | None] = mapped_column(Integer, comment="Seeds or probes behind the figure, where stated.")


class AnalysisResult(Base):
    __tablename__ = "analysis_results"
    __table_args__ = (
        UniqueConstraint("study", "parameters", "input_fingerprint"),
        {"comment": "Results of studies, so that an unchanged warehouse answers at once.", **STRICT},
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True, comment="Row number.")
    study: Mapped[str] = mapped_column(Text, comment="Name of the study, e.g. effects.")
    parameters: Mapped[str] = mapped_column(Text, comment="Its options, canonical JSON.")
    input_fingerprint: Mapped[str] = mapped_column(Text, comment="SHA-256 over the rows that went in.")
    result: Mapped[str] = mapped_column(Text, comment="The typed result, JSON.")
    created_at: Mapped[str] = mapped_column(Text, comment="When it was computed, UTC, ISO 8601.")
    version: Mapped[str | None] = mapped_column(Text, comment="Version of rhodb that computed it.")


class ExternalEvaluation(Base):
    __tablename__ = "external_evaluations"
    __table_args__ = (
        UniqueConstraint("tool", "identity"),
        Index(None, "model_id"),
        {"comment": "Evaluations that other tools made: lm-evaluation-harness, Inspect AI, MLflow.", **STRICT},
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True, comment="Row number.")
    tool: Mapped[str] = mapped_column(Text, comment="lm-eval, inspect or mlflow.")
    tool_version: Mapped[str | None] = mapped_column(Text, comment="Its version, where the file states it.")
    identity: Mapped[str] = mapped_column(Text, comment="The tool's own name of the run, else a hash of its contents.")
    model_id: Mapped[int] = mapped_column(ForeignKey("models.id"), comment="Model that was evaluated.")
    source_id: Mapped[int | None] = mapped_column(
        ForeignKey("sources.id", ondelete="SET NULL"), comment="File that it was read from."
    )
    started_at: Mapped[str | None] = mapped_column(Text, comment="When the tool began, UTC, ISO 8601.")
    config: Mapped[str] = mapped_column(Text, comment="Settings that the tool recorded, JSON.")


class ExternalOutcome(Base):
    __tablename__ = "external_outcomes"
    __table_args__ = (
        at_least("samples"),
        at_least("samples_done"),
        {"comment": "How other tools' evaluations ended, and on how many of their samples.", **STRICT},
    )

    evaluation_id: Mapped[int] = mapped_column(
        ForeignKey("external_evaluations.id", ondelete="CASCADE"),
        primary_key=True,
        comment="Evaluation.",
        autoincrement=False,
    )
    status: Mapped[str] = mapped_column(Text, comment="The tool's own word, e.g. success, cancelled, RUNNING.")
    finished: Mapped[int] = mapped_column(Integer, comment="1 if it came to its end, else 0.")
    samples: Mapped[int | None] = mapped_column(Integer, comment="Samples that were to be done, epochs counted.")
    samples_done: Mapped[int | None] = mapped_column(Integer, comment="Samples that were done.")


class ExternalMissing(Base):
    __tablename__ = "external_missing"
    __table_args__ = (
        at_least("n", 1),
        {"comment": "Scores of other tools' evaluations that are no number, and why.", **STRICT},
    )

    evaluation_id: Mapped[int] = mapped_column(
        ForeignKey("external_evaluations.id", ondelete="CASCADE"),
        primary_key=True,
        comment="Evaluation.",
        autoincrement=False,
    )
    task: Mapped[str] = mapped_column(Text, primary_key=True, comment="Task.")
    metric: Mapped[str] = mapped_column(Text, primary_key=True, comment="Metric.")
    reason: Mapped[str] = mapped_column(Text, primary_key=True, comment="What stands there, e.g. NaN, unscored.")
    n: Mapped[int] = mapped_column(Integer, comment="How often.")


class ExternalScore(Base):
    __tablename__ = "external_scores"
    __table_args__ = (
        finite("value"),
        at_least("se"),
        at_least("n"),
        Index(None, "task", "metric"),
        {"comment": "Scores of other tools' evaluations, in the tools' own words.", **STRICT},
    )

    evaluation_id: Mapped[int] = mapped_column(
        ForeignKey("external_evaluations.id", ondelete="CASCADE"),
        primary_key=True,
        comment="Evaluation.",
        autoincrement=False,
    )
    task: Mapped[str] = mapped_column(Text, primary_key=True, comment="Task, e.g. arc_easy.")
    metric: Mapped[str] = mapped_column(Text, primary_key=True, comment="Metric and filter, e.g. acc,none.")
    task_version: Mapped[str | None] = mapped_column(Text, comment="Version of the task.")
    value: Mapped[float] = mapped_column(Real, comment="The score, in the tool's unit.")
    se: Mapped[float | None] = mapped_column(Real, comment="Standard error, where the tool gives one.")
    n: Mapped[int | None] = mapped_column(Integer, comment="Samples.")


class ExternalSample(Base):
    __tablename__ = "external_samples"
    __table_args__ = (
        finite("value"),
        {"comment": "Scores of single samples of other tools' evaluations, where they store them.", **STRICT},
    )

    evaluation_id: Mapped[int] = mapped_column(
        ForeignKey("external_evaluations.id", ondelete="CASCADE"),
        primary_key=True,
        comment="Evaluation.",
        autoincrement=False,
    )
    task: Mapped[str] = mapped_column(Text, primary_key=True, comment="Task.")
    sample: Mapped[str] = mapped_column(Text, primary_key=True, comment="The tool's name of the sample.")
    metric: Mapped[str] = mapped_column(Text, primary_key=True, comment="Metric.")
    value: Mapped[float | None] = mapped_column(Real, comment="Score of the sample, where it is a number.")
    text_value: Mapped[str | None] = mapped_column(Text, comment="Score of the sample, where it is a word.")
