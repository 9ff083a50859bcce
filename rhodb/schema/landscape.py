"""The probe landscape: partitions of the probes' texts by similarity, and the vectors that they rest on."""

from sqlalchemy import CheckConstraint, ForeignKey, ForeignKeyConstraint, Index, Integer, LargeBinary, Text
from sqlalchemy.orm import Mapped, mapped_column

from rhodb.schema.base import CLUSTERED, STRICT, Base, Real, at_least, finite, one_of
from rhodb.vocabulary import BEHAVIORS

VARIANTS = ("primary", "deceptive", "harmful", "negative")


class ProbeLandscape(Base):
    __tablename__ = "probe_landscapes"
    __table_args__ = (
        CheckConstraint("threshold > 0 AND threshold < 1", name="threshold"),
        CheckConstraint("resolution > 0", name="resolution"),
        at_least("edges"),
        CheckConstraint("primary_nodes <= nodes AND singletons <= clusters AND clusters <= nodes", name="counts"),
        finite("modularity"),
        {"comment": "Graphs of similar probe texts and their partition (kind landscape).", **STRICT},
    )

    run_id: Mapped[int] = mapped_column(
        ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True, comment="Run.", autoincrement=False
    )
    threshold: Mapped[float] = mapped_column(Real, comment="Texts whose cosine exceeds it are joined.")
    resolution: Mapped[float] = mapped_column(Real, comment="Louvain's resolution; the run's seed is Louvain's seed.")
    nodes: Mapped[int] = mapped_column(Integer, comment="Texts.")
    primary_nodes: Mapped[int] = mapped_column(Integer, comment="Texts that are no variants of a probe.")
    edges: Mapped[int] = mapped_column(Integer, comment="Pairs of similar texts.")
    clusters: Mapped[int] = mapped_column(Integer, comment="Communities, those of one text included.")
    singletons: Mapped[int] = mapped_column(Integer, comment="Communities of one text.")
    modularity: Mapped[float] = mapped_column(Real, comment="Weighted modularity of the partition.")


class ProbeCluster(Base):
    __tablename__ = "probe_clusters"
    __table_args__ = (
        one_of("dominant_behavior", BEHAVIORS),
        at_least("size", 1),
        CheckConstraint("dominance > 0 AND dominance <= 1", name="dominance"),
        CheckConstraint("centrality BETWEEN 0 AND 1", name="centrality"),
        at_least("central_ties", 1),
        {"comment": "Communities of a landscape, numbered from 0 by size.", **CLUSTERED},
    )

    run_id: Mapped[int] = mapped_column(
        ForeignKey("probe_landscapes.run_id", ondelete="CASCADE"), primary_key=True, comment="Run."
    )
    cluster: Mapped[int] = mapped_column(Integer, primary_key=True, comment="Number from 0, the largest first.")
    size: Mapped[int] = mapped_column(Integer, comment="Texts.")
    dominant_behavior: Mapped[str] = mapped_column(Text, comment="Most frequent behavior.")
    dominance: Mapped[float] = mapped_column(Real, comment="Its share of the texts, (0, 1].")
    central_node: Mapped[int] = mapped_column(Integer, comment="Text with most edges inside the cluster.")
    centrality: Mapped[float] = mapped_column(Real, comment="Its degree centrality inside the cluster, [0, 1].")
    central_ties: Mapped[int] = mapped_column(Integer, comment="Texts that are equally central, itself included.")


class ProbeClusterMember(Base):
    __tablename__ = "probe_cluster_members"
    __table_args__ = (
        ForeignKeyConstraint(
            ["run_id", "cluster"], ["probe_clusters.run_id", "probe_clusters.cluster"], ondelete="CASCADE"
        ),
        one_of("behavior", BEHAVIORS),
        one_of("variant", VARIANTS),
        CheckConstraint("split IN ('train', 'eval')", name="split"),
        CheckConstraint("cluster_split IN ('train', 'eval')", name="cluster_split"),
        at_least("degree"),
        Index(None, "run_id", "cluster"),
        {"comment": "Texts of a landscape and the cluster each belongs to.", **CLUSTERED},
    )

    run_id: Mapped[int] = mapped_column(Integer, primary_key=True, comment="Run.")
    node: Mapped[int] = mapped_column(Integer, primary_key=True, comment="Number from 0, in the order of the files.")
    cluster: Mapped[int] = mapped_column(Integer, comment="Cluster of the run.")
    behavior: Mapped[str] = mapped_column(Text, comment="Behavior of the probe file.")
    set_name: Mapped[str] = mapped_column(Text, comment="Name of the probe file.")
    probe_key: Mapped[str] = mapped_column(Text, comment="Id of the entry in its file.")
    variant: Mapped[str] = mapped_column(Text, comment="primary, deceptive, harmful or negative.")
    pair_key: Mapped[str | None] = mapped_column(
        Text, comment="Key in probes of the probe that it belongs to; none for a toxicity text without counterpart."
    )
    split: Mapped[str | None] = mapped_column(Text, comment="Side of that probe by hash of its key: train or eval.")
    cluster_split: Mapped[str | None] = mapped_column(
        Text, comment="Side of that probe where similar probes stay together: train or eval."
    )
    text_hash: Mapped[str] = mapped_column(Text, comment="SHA-256 of the text; key of its vector in embeddings.")
    degree: Mapped[int] = mapped_column(Integer, comment="Similar texts, in any cluster.")
    x: Mapped[float | None] = mapped_column(Real, comment="Place on the two-dimensional map, if the run drew one.")
    y: Mapped[float | None] = mapped_column(Real, comment="Place on the two-dimensional map, if the run drew one.")


class Embedding(Base):
    __tablename__ = "embeddings"
    __table_args__ = (
        CheckConstraint("length(vector) > 0", name="vector"),
        {"comment": "Sentence vectors of texts, each computed once; identity is (model, hash of the text).", **STRICT},
    )

    model_id: Mapped[int] = mapped_column(ForeignKey("models.id"), primary_key=True, comment="Embedding model.")
    text_hash: Mapped[str] = mapped_column(Text, primary_key=True, comment="SHA-256 of the text (UTF-8).")
    vector: Mapped[bytes] = mapped_column(LargeBinary, comment="Vector of norm 1 as little-endian float32.")
