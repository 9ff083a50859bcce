"""SQL of the views, one folder a revision; a revision that changes a view brings its own file."""

from importlib.resources import files


def view_sql(revision: str, name: str) -> str:
    """The text of `CREATE VIEW name` as of a revision."""
    return (files(__name__) / revision / f"{name}.sql").read_text(encoding="utf-8")
