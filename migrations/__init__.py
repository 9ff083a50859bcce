"""Alembic revisions of the warehouse. They ship inside the wheel, so that an installed rhodb can upgrade."""
