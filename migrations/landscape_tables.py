"""Tables of schema v1 for probe landscapes, written out for revision 0001; never changed after release."""

import sqlalchemy as sa
from alembic import op

REAL = sa.Double().with_variant(sa.REAL(), "sqlite")
BEHAVIORS = "'factual', 'toxicity', 'bias', 'sycophancy', 'reasoning', 'refusal', 'deception', 'overrefusal', 'bench'"
TABLES = ("probe_landscapes", "probe_clusters", "probe_cluster_members", "embeddings")


def create_landscape_tables() -> None:
    _probe_landscapes()
    _probe_clusters()
    _probe_cluster_members()
    _embeddings()


def _probe_landscapes() -> None:
    op.create_table(
        "probe_landscapes",
        sa.Column("run_id", sa.Integer(), autoincrement=False, nullable=False, comment="Run."),
        sa.Column("threshold", REAL, nullable=False, comment="Texts whose cosine exceeds it are joined."),
        sa.Column(
            "resolution", REAL, nullable=False, comment="Louvain's resolution; the run's seed is Louvain's seed."
        ),
        sa.Column("nodes", sa.Integer(), nullable=False, comment="Texts."),
        sa.Column("primary_nodes", sa.Integer(), nullable=False, comment="Texts that are no variants of a probe."),
        sa.Column("edges", sa.Integer(), nullable=False, comment="Pairs of similar texts."),
        sa.Column("clusters", sa.Integer(), nullable=False, comment="Communities, those of one text included."),
        sa.Column("singletons", sa.Integer(), nullable=False, comment="Communities of one text."),
        sa.Column("modularity", REAL, nullable=False, comment="Weighted modularity of the partition."),
        sa.CheckConstraint("threshold > 0 AND threshold < 1", name=op.f("ck_probe_landscapes_threshold")),
        sa.CheckConstraint("resolution > 0", name=op.f("ck_probe_landscapes_resolution")),
        sa.CheckConstraint("edges >= 0", name=op.f("ck_probe_landscapes_edges")),
        sa.CheckConstraint(
            "primary_nodes <= nodes AND singletons <= clusters AND clusters <= nodes",
            name=op.f("ck_probe_landscapes_counts"),
        ),
        sa.CheckConstraint("abs(modularity) < 1e300", name=op.f("ck_probe_landscapes_modularity_finite")),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name=op.f("fk_probe_landscapes_run_id_runs"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_probe_landscapes")),
        comment="Graphs of similar probe texts and their partition (kind landscape).",
        sqlite_strict=True,
    )


def _probe_clusters() -> None:
    op.create_table(
        "probe_clusters",
        sa.Column("run_id", sa.Integer(), nullable=False, comment="Run."),
        sa.Column("cluster", sa.Integer(), nullable=False, comment="Number from 0, the largest first."),
        sa.Column("size", sa.Integer(), nullable=False, comment="Texts."),
        sa.Column("dominant_behavior", sa.Text(), nullable=False, comment="Most frequent behavior."),
        sa.Column("dominance", REAL, nullable=False, comment="Its share of the texts, (0, 1]."),
        sa.Column("central_node", sa.Integer(), nullable=False, comment="Text with most edges inside the cluster."),
        sa.Column("centrality", REAL, nullable=False, comment="Its degree centrality inside the cluster, [0, 1]."),
        sa.Column(
            "central_ties", sa.Integer(), nullable=False, comment="Texts that are equally central, itself included."
        ),
        sa.CheckConstraint(f"dominant_behavior IN ({BEHAVIORS})", name=op.f("ck_probe_clusters_dominant_behavior")),
        sa.CheckConstraint("size >= 1", name=op.f("ck_probe_clusters_size")),
        sa.CheckConstraint("dominance > 0 AND dominance <= 1", name=op.f("ck_probe_clusters_dominance")),
        sa.CheckConstraint("centrality BETWEEN 0 AND 1", name=op.f("ck_probe_clusters_centrality")),
        sa.CheckConstraint("central_ties >= 1", name=op.f("ck_probe_clusters_central_ties")),
        sa.ForeignKeyConstraint(
            ["run_id"],
            ["probe_landscapes.run_id"],
            name=op.f("fk_probe_clusters_run_id_probe_landscapes"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("run_id", "cluster", name=op.f("pk_probe_clusters")),
        comment="Communities of a landscape, numbered from 0 by size.",
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )


def _probe_cluster_members() -> None:
    op.create_table(
        "probe_cluster_members",
        sa.Column("run_id", sa.Integer(), nullable=False, comment="Run."),
        sa.Column("node", sa.Integer(), nullable=False, comment="Number from 0, in the order of the files."),
        sa.Column("cluster", sa.Integer(), nullable=False, comment="Cluster of the run."),
        sa.Column("behavior", sa.Text(), nullable=False, comment="Behavior of the probe file."),
        sa.Column("set_name", sa.Text(), nullable=False, comment="Name of the probe file."),
        sa.Column("probe_key", sa.Text(), nullable=False, comment="Id of the entry in its file."),
        sa.Column("variant", sa.Text(), nullable=False, comment="primary, deceptive, harmful or negative."),
        sa.Column(
            "pair_key",
            sa.Text(),
            comment="Key in probes of the probe that it belongs to; none for a toxicity text without counterpart.",
        ),
        sa.Column("split", sa.Text(), comment="Side of that probe by hash of its key: train or eval."),
        sa.Column(
            "cluster_split",
            sa.Text(),
            comment="Side of that probe where similar probes stay together: train or eval.",
        ),
        sa.Column(
            "text_hash", sa.Text(), nullable=False, comment="SHA-256 of the text; key of its vector in embeddings."
        ),
        sa.Column("degree", sa.Integer(), nullable=False, comment="Similar texts, in any cluster."),
        sa.Column("x", REAL, comment="Place on the two-dimensional map, if the run drew one."),
        sa.Column("y", REAL, comment="Place on the two-dimensional map, if the run drew one."),
        sa.CheckConstraint(f"behavior IN ({BEHAVIORS})", name=op.f("ck_probe_cluster_members_behavior")),
        sa.CheckConstraint(
            "variant IN ('primary', 'deceptive', 'harmful', 'negative')",
            name=op.f("ck_probe_cluster_members_variant"),
        ),
        sa.CheckConstraint("split IN ('train', 'eval')", name=op.f("ck_probe_cluster_members_split")),
        sa.CheckConstraint("cluster_split IN ('train', 'eval')", name=op.f("ck_probe_cluster_members_cluster_split")),
        sa.CheckConstraint("degree >= 0", name=op.f("ck_probe_cluster_members_degree")),
        sa.ForeignKeyConstraint(
            ["run_id", "cluster"],
            ["probe_clusters.run_id", "probe_clusters.cluster"],
            name=op.f("fk_probe_cluster_members_run_id_probe_clusters"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("run_id", "node", name=op.f("pk_probe_cluster_members")),
        comment="Texts of a landscape and the cluster each belongs to.",
        sqlite_strict=True,
        sqlite_with_rowid=False,
    )
    op.create_index(
        op.f("ix_probe_cluster_members_run_id_cluster"), "probe_cluster_members", ["run_id", "cluster"], unique=False
    )


def _embeddings() -> None:
    op.create_table(
        "embeddings",
        sa.Column("model_id", sa.Integer(), nullable=False, comment="Embedding model."),
        sa.Column("text_hash", sa.Text(), nullable=False, comment="SHA-256 of the text (UTF-8)."),
        sa.Column("vector", sa.LargeBinary(), nullable=False, comment="Vector of norm 1 as little-endian float32."),
        sa.CheckConstraint("length(vector) > 0", name=op.f("ck_embeddings_vector")),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], name=op.f("fk_embeddings_model_id_models")),
        sa.PrimaryKeyConstraint("model_id", "text_hash", name=op.f("pk_embeddings")),
        comment="Sentence vectors of texts, each computed once; identity is (model, hash of the text).",
        sqlite_strict=True,
    )
