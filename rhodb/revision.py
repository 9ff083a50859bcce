"""The schema that this rhodb needs."""

HEAD = "0005"
"""Newest Alembic revision. Kept here so that opening a warehouse loads neither Alembic nor the table
definitions; a test compares it with the revisions."""
