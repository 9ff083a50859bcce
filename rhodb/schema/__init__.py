"""The warehouse's tables as SQLAlchemy models; Alembic's revisions create them (see `migrations/`)."""

from rhodb.schema.base import Base
from rhodb.schema.core import BehaviorScore, Model, Probe, ProbeScore, ProbeSet, Run, RunProbeSet, TrainStep
from rhodb.schema.families import AlignmentRun

__all__ = [
    "AlignmentRun",
    "Base",
    "BehaviorScore",
    "Model",
    "Probe",
    "ProbeScore",
    "ProbeSet",
    "Run",
    "RunProbeSet",
    "TrainStep",
]
