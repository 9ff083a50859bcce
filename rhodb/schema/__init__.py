"""The warehouse's tables as SQLAlchemy models; Alembic's revisions create them (see `migrations/`)."""

from rhodb.schema.base import Base
from rhodb.schema.core import BehaviorScore, Model, Probe, ProbeScore, ProbeSet, Run, RunProbeSet, TrainStep
from rhodb.schema.families import AlignmentRun
from rhodb.schema.landscape import Embedding, ProbeCluster, ProbeClusterMember, ProbeLandscape

__all__ = [
    "AlignmentRun",
    "Base",
    "BehaviorScore",
    "Embedding",
    "Model",
    "Probe",
    "ProbeCluster",
    "ProbeClusterMember",
    "ProbeLandscape",
    "ProbeScore",
    "ProbeSet",
    "Run",
    "RunProbeSet",
    "TrainStep",
]
