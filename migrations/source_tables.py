"""Tables of schema v1 for files, figures and other tools, written for revision 0001; never changed after release."""

import sqlalchemy as sa
from alembic import op

REAL = sa.Double().with_variant(sa.REAL(), "sqlite")
TABLES = (
    "analysis_results",
    "published_values",
    "sources",
    "external_evaluations",
    "external_samples",
    "external_scores",
    "run_sources",
)


def create_source_tables() -> None:
    _analysis_results()
    _published_values()
    _sources()
    _external_evaluations()
    _external_samples()
    _external_scores()
    _run_sources()


def _analysis_results() -> None:
    op.create_table(
        "analysis_results",
        sa.Column("id", sa.Integer(), nullable=False, comment="Row number."),
        sa.Column("study", sa.Text(), nullable=False, comment="Name of the study, e.g. effects."),
        sa.Column("parameters", sa.Text(), nullable=False, comment="Its options, canonical JSON."),
        sa.Column("input_fingerprint", sa.Text(), nullable=False, comment="SHA-256 over the rows that went in."),
        sa.Column("result", sa.Text(), nullable=False, comment="The typed result, JSON."),
        sa.Column("created_at", sa.Text(), nullable=False, comment="When it was computed, UTC, ISO 8601."),
        sa.Column("version", sa.Text(), comment="Version of rhodb that computed it."),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_analysis_results")),
        sa.UniqueConstraint(
            "study",
            "parameters",
            "input_fingerprint",
            name=op.f("uq_analysis_results_study_parameters_input_fingerprint"),
        ),
        comment="Results of studies, so that an unchanged warehouse answers at once.",
        sqlite_strict=True,
    )


def _published_values() -> None:
    op.create_table(
        "published_values",
        sa.Column("id", sa.Integer(), nullable=False, comment="Row number."),
        sa.Column("source", sa.Text(), nullable=False, comment="Document, e.g. research-notes."),
        sa.Column("section", sa.Text(), nullable=False, comment="Section of the document."),
        sa.Column("key", sa.Text(), nullable=False, comment="Name of the figure that analyses ask for."),
        sa.Column("claim", sa.Text(), nullable=False, comment="What the figure is, in words."),
        sa.Column("value", REAL, nullable=False, comment="The figure."),
        sa.Column("precision", REAL, comment="One unit of the last printed digit."),
        sa.Column("unit", sa.Text(), nullable=False, comment="Unit; empty for a bare number."),
        sa.Column("n", sa.Integer(), comment="Seeds or probes behind the figure, where stated."),
        sa.CheckConstraint("abs(value) < 1e300", name=op.f("ck_published_values_value_finite")),
        sa.CheckConstraint("n >= 1", name=op.f("ck_published_values_n")),
        sa.CheckConstraint("precision >= 0", name=op.f("ck_published_values_precision")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_published_values")),
        sa.UniqueConstraint("source", "key", name=op.f("uq_published_values_source_key")),
        comment="Figures that notebooks and papers print, for comparing; identity is (source, key).",
        sqlite_strict=True,
    )


def _sources() -> None:
    op.create_table(
        "sources",
        sa.Column("id", sa.Integer(), nullable=False, comment="Row number."),
        sa.Column("path", sa.Text(), nullable=False, comment="Absolute path at the time."),
        sa.Column(
            "name",
            sa.Text(),
            nullable=False,
            comment="Path from the experiment's folder on, e.g. alignment/x.json: the same document on any machine.",
        ),
        sa.Column("sha256", sa.Text(), nullable=False, comment="SHA-256 of the contents."),
        sa.Column("bytes", sa.Integer(), nullable=False, comment="Size of the file."),
        sa.Column("format", sa.Text(), nullable=False, comment="Format that was recognised, e.g. alignment."),
        sa.Column(
            "runs_read", sa.Integer(), nullable=False, comment="Runs or evaluations in the file, failed ones included."
        ),
        sa.Column("runs_added", sa.Integer(), nullable=False, comment="Those that the warehouse did not hold yet."),
        sa.Column("ingested_at", sa.Text(), nullable=False, comment="When, UTC, ISO 8601."),
        sa.Column("extra", sa.Text(), comment="Keys of the file that no column holds, JSON."),
        sa.CheckConstraint("bytes >= 0", name=op.f("ck_sources_bytes")),
        sa.CheckConstraint("runs_added >= 0", name=op.f("ck_sources_runs_added")),
        sa.CheckConstraint("runs_read >= 0", name=op.f("ck_sources_runs_read")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sources")),
        sa.UniqueConstraint("path", "sha256", name=op.f("uq_sources_path_sha256")),
        comment="Ingested files; identity is (path, hash of the contents).",
        sqlite_strict=True,
    )
    op.create_index(op.f("ix_sources_name"), "sources", ["name"], unique=False)
    op.create_index(op.f("ix_sources_sha256"), "sources", ["sha256"], unique=False)


def _external_evaluations() -> None:
    op.create_table(
        "external_evaluations",
        sa.Column("id", sa.Integer(), nullable=False, comment="Row number."),
        sa.Column("tool", sa.Text(), nullable=False, comment="lm-eval, inspect or mlflow."),
        sa.Column("tool_version", sa.Text(), comment="Its version, where the file states it."),
        sa.Column(
            "identity",
            sa.Text(),
            nullable=False,
            comment="The tool's own name of the run, else a hash of its contents.",
        ),
        sa.Column("model_id", sa.Integer(), nullable=False, comment="Model that was evaluated."),
        sa.Column("source_id", sa.Integer(), comment="File that it was read from."),
        sa.Column("started_at", sa.Text(), comment="When the tool began, UTC, ISO 8601."),
        sa.Column("config", sa.Text(), nullable=False, comment="Settings that the tool recorded, JSON."),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name=op.f("fk_external_evaluations_model_id_models")),
        sa.ForeignKeyConstraint(
            ["source_id"], ["sources.id"], name=op.f("fk_external_evaluations_source_id_sources"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_external_evaluations")),
        sa.UniqueConstraint("tool", "identity", name=op.f("uq_external_evaluations_tool_identity")),
        comment="Evaluations that other tools made: lm-evaluation-harness, Inspect AI, MLflow.",
        sqlite_strict=True,
    )
    op.create_index(op.f("ix_external_evaluations_model_id"), "external_evaluations", ["model_id"], unique=False)


def _external_samples() -> None:
    op.create_table(
        "external_samples",
        sa.Column("evaluation_id", sa.Integer(), autoincrement=False, nullable=False, comment="Evaluation."),
        sa.Column("task", sa.Text(), nullable=False, comment="Task."),
        sa.Column("sample", sa.Text(), nullable=False, comment="The tool's name of the sample."),
        sa.Column("metric", sa.Text(), nullable=False, comment="Metric."),
        sa.Column("value", REAL, comment="Score of the sample, where it is a number."),
        sa.Column("text_value", sa.Text(), comment="Score of the sample, where it is a word."),
        sa.CheckConstraint("abs(value) < 1e300", name=op.f("ck_external_samples_value_finite")),
        sa.ForeignKeyConstraint(
            ["evaluation_id"],
            ["external_evaluations.id"],
            name=op.f("fk_external_samples_evaluation_id_external_evaluations"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("evaluation_id", "task", "sample", "metric", name=op.f("pk_external_samples")),
        comment="Scores of single samples of other tools' evaluations, where they store them.",
        sqlite_strict=True,
    )


def _external_scores() -> None:
    op.create_table(
        "external_scores",
        sa.Column("evaluation_id", sa.Integer(), autoincrement=False, nullable=False, comment="Evaluation."),
        sa.Column("task", sa.Text(), nullable=False, comment="Task, e.g. arc_easy."),
        sa.Column("metric", sa.Text(), nullable=False, comment="Metric and filter, e.g. acc,none."),
        sa.Column("task_version", sa.Text(), comment="Version of the task."),
        sa.Column("value", REAL, nullable=False, comment="The score, in the tool's unit."),
        sa.Column("se", REAL, comment="Standard error, where the tool gives one."),
        sa.Column("n", sa.Integer(), comment="Samples."),
        sa.CheckConstraint("abs(value) < 1e300", name=op.f("ck_external_scores_value_finite")),
        sa.CheckConstraint("n >= 0", name=op.f("ck_external_scores_n")),
        sa.CheckConstraint("se >= 0", name=op.f("ck_external_scores_se")),
        sa.ForeignKeyConstraint(
            ["evaluation_id"],
            ["external_evaluations.id"],
            name=op.f("fk_external_scores_evaluation_id_external_evaluations"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("evaluation_id", "task", "metric", name=op.f("pk_external_scores")),
        comment="Scores of other tools' evaluations, in the tools' own words.",
        sqlite_strict=True,
    )
    op.create_index(op.f("ix_external_scores_task_metric"), "external_scores", ["task", "metric"], unique=False)


def _run_sources() -> None:
    op.create_table(
        "run_sources",
        sa.Column("run_id", sa.Integer(), autoincrement=False, nullable=False, comment="Run."),
        sa.Column("source_id", sa.Integer(), autoincrement=False, nullable=False, comment="File."),
        sa.Column("place", sa.Text(), nullable=False, comment="JSON path in the file, e.g. $.runs[3]."),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_run_sources_run_id_runs"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["source_id"], ["sources.id"], name=op.f("fk_run_sources_source_id_sources"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", "source_id", "place", name=op.f("pk_run_sources")),
        comment="Where in which files a run stands; copies and merged files make several rows.",
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_run_sources_source_id"), "run_sources", ["source_id"], unique=False)
