"""The warehouse's tables as SQLAlchemy models; Alembic's revisions create them (see `migrations/`)."""

from rhodb.schema.base import Base
from rhodb.schema.core import BehaviorScore, Model, Probe, ProbeScore, ProbeSet, Run, RunProbeSet, TrainStep
from rhodb.schema.families import AlignmentRun

HEAD = "0001"
"""Newest Alembic revision. Kept here so that opening a warehouse needs no Alembic; a test compares."""

__all__ = [
    "HEAD",
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
