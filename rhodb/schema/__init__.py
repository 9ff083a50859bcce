"""The warehouse's tables as SQLAlchemy models; Alembic's revisions create them (see `migrations/`)."""

from rhodb.schema import audits, core, families, hypotheses, landscape, sources, training
from rhodb.schema.base import Base

__all__ = ["Base", "audits", "core", "families", "hypotheses", "landscape", "sources", "training"]
