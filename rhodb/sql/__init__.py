"""The queries that rhodb itself asks, one `.sql` file each."""

from importlib import resources


def saved_query(name: str) -> str:
    """The text of the query `<name>.sql` of this folder."""
    return resources.files(__name__).joinpath(f"{name}.sql").read_text(encoding="utf-8")
